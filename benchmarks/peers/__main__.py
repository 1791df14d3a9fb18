"""Land the same trades in Iceberg by the job and by other engines, in turn: `make bench-peers`.

One seeded topic of a market with faults, on real Kafka. Each contender reads it from its beginning to its end into a
new table, three times, in one session and in turn, so that drift of the machine affects all equally. All contenders
have the same cores; the broker has the others. Start-up is measured on a small topic, and subtracted. What has landed
is compared with what the topic holds.
"""

import argparse
from pathlib import Path
from typing import Final

from benchmarks.peers.contender import Contender
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.drawing import draw
from benchmarks.peers.results import Comparison, abilities_table, figures_table, read, write
from benchmarks.peers.session import PARTITIONS, SMALL_MESSAGES, Session, compare, separate_cores
from tests.brokers import own_broker

MESSAGES: Final = 1_000_000
RUNS: Final = 3


def main() -> None:
    """Measure, or read what was measured; print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--contenders", default=",".join(names), help=f"comma separated; of {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument(
        "--start-messages",
        type=int,
        default=SMALL_MESSAGES,
        help="size of the topic that the start-up is measured on; a large one takes out what a JVM spends on compiling",
    )
    parser.add_argument("--cores", help="cores of the contenders, as 2,3; the upper half of all by default")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--svg", type=Path, help="draw the picture here")
    parser.add_argument("--from", type=Path, dest="source", help="read figures of --json instead of measuring")
    chosen = parser.parse_args()
    wanted = chosen.contenders.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"unknown contender: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if chosen.messages <= (small := chosen.start_messages):
        parser.error(f"too few messages: {chosen.messages}; the start-up is measured on {small}, so give more")
    comparison = (
        read(chosen.source) if chosen.source else _measure(chosen, [one for one in CONTENDERS if one.name in wanted])
    )
    if chosen.json:
        write(comparison, chosen.json)
    if chosen.svg:
        draw(comparison, chosen.svg)
    print(
        f"{comparison.messages:,} messages, among them {comparison.malformed:,} malformed, "
        f"{comparison.duplicates:,} copies; {comparison.partitions} partitions, {comparison.shown_runs}.\n"
        f"Broker: {comparison.broker}, on cores {_shown(comparison.broker_cores)}; "
        f"contenders on {_shown(comparison.cores)}. Start-up: {comparison.small_messages:,} messages.\n"
    )
    print(f"{figures_table(comparison)}\n\n{abilities_table(comparison)}")
    for name, why in comparison.left_out.items():
        print(f"\n{name} is left out: {why}")


def _shown(cores: list[int]) -> str:
    return ", ".join(map(str, cores))


def _measure(chosen: argparse.Namespace, contenders: list[Contender]) -> Comparison:
    with separate_cores(chosen.cores) as (cores, broker_cores), own_broker() as broker:
        session = Session(broker, chosen.messages, cores, chosen.start_messages)
        figures, left_out = compare(session, contenders, chosen.runs)
        expected = session.whole.expected
        return Comparison(
            expected.messages,
            session.small.expected.messages,
            PARTITIONS,
            chosen.runs,
            broker.name,
            cores,
            broker_cores,
            expected.malformed,
            expected.copies.rows - expected.trades.rows,
            figures,
            left_out,
        )


if __name__ == "__main__":
    main()

"""Real processes killed and rescaled, round by round: `python -m tests.flows.torture --rounds 20`.

Uses real Kafka if available, else the embedded broker.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final

from tests.brokers import Broker, own_broker
from tests.flows.job import Job
from tests.flows.market import assert_same, content
from tests.flows.rescale import COUNTS, Life, plan, rescaled

ROUNDS_MAX: Final = 1_000
LIVES_MAX: Final = 4


def main() -> int:
    """Run the requested rounds; print each, and the totals. Stop after the first failure and say what is wrong."""
    arguments = _arguments()
    sums: Counter[str] = Counter()
    begun = time.monotonic()
    with own_broker() as broker:
        _write(f"broker: {broker.name}")
        for seed in range(arguments.first, arguments.first + arguments.rounds):
            sums += _round(broker, seed)
    for name in ("rounds", "kills", "rescales", "rows checked", "lost", "doubled"):
        _write(f"{name}: {sums[name]:,}")
    _write(f"seconds a round: {(time.monotonic() - begun) / arguments.rounds:.0f}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.flows.torture", description=__doc__)
    parser.add_argument("--rounds", type=_rounds, default=10, metavar="N", help="how many (default 10)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the seed of the first (default 0)")
    return parser.parse_args()


def _rounds(text: str) -> int:
    rounds = int(text)
    if not 1 <= rounds <= ROUNDS_MAX:
        raise argparse.ArgumentTypeError(f"from 1 to {ROUNDS_MAX:,}")
    return rounds


def _round(broker: Broker, seed: int) -> "Counter[str]":
    rng = Random(seed)
    lives = [_life(rng) for _ in range(rng.randint(2, LIVES_MAX))]
    writers = rng.choice(["1", "2"])
    _write(f"round {seed}: {writers} writers; " + "; ".join(map(_words, lives)))
    with tempfile.TemporaryDirectory(prefix="k2-torture-") as folder:
        job = Job(broker.bootstrap_servers, Path(folder) / "job", broker.topic(partitions=3), {"K2_WRITERS": writers})
        quiet = rescaled(job, lives)
        found, wanted = (Counter((row["partition"], row["offset"]) for row in content(one)) for one in (job, quiet))
        lost, doubled = (wanted - found).total(), (found - wanted).total()
        _write(f"  rows {found.total():,}, lost {lost}, doubled {doubled}")
        assert_same(job, quiet)
    workers = [*(life.processes * life.threads for life in lives), 1]
    rescales = sum(before != after for before, after in pairwise(workers))
    counts = {"rounds": 1, "kills": len(lives), "rescales": rescales, "rows checked": found.total()}
    return Counter(counts | {"lost": lost, "doubled": doubled})


def _life(rng: Random) -> Life:
    (life,) = plan(rng, as_processes=rng.random() < 0.5, counts=[rng.choice(COUNTS)])
    return life


def _words(life: Life) -> str:
    return f"{life.processes} x {life.threads} workers, process {life.victim} killed at {life.age_seconds:.1f} s"


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

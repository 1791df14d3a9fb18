"""Cost of replaying dead letters: `python -m benchmarks.replay [--letters N]`.

Dead letters with values of 200 bytes are counted by `k2 dlq stats`, published by `k2 dlq replay`, and counted again.
For each command: wall time, and the CPU time of its process as the operating system counts it, its start included.
The broker is the broker of the tests; it runs on the same machine, and must be real Kafka, which has transactions.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.process import measured
from k2.ops.settings import Settings
from tests.brokers import own_broker
from tests.model.dead_letters import dead_letter
from tests.query.tables import write_letters

PARTITIONS: Final = 4
VALUE: Final = "{" + 199 * "x"


def main() -> None:
    """Write the dead letters, run the commands on them, and print what each took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--letters", type=int, default=100_000)
    letters = parser.parse_args().letters
    with own_broker() as broker, tempfile.TemporaryDirectory() as folder:
        if not broker.is_kafka:
            raise SystemExit("the broker is not real Kafka, which replays need; install Java and Maven")
        topic = broker.topic(partitions=PARTITIONS)
        write_letters(
            Settings(data_dir=Path(folder)),
            [dead_letter(at, topic=topic, partition=at % PARTITIONS, value=VALUE) for at in range(letters)],
        )
        variables = {"K2_DATA_DIR": folder, "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "K2_TOPICS": topic}
        print(f"broker: {broker.name}; {letters:,} dead letters of {len(VALUE)} bytes, {PARTITIONS} partitions")
        for command in ("stats", "replay", "stats"):
            start = time.perf_counter()
            cpu = measured([sys.executable, "-m", "k2.cli", "dlq", command, "--json"], variables).cpu_seconds
            wall = time.perf_counter() - start
            per_letter = f"{wall / letters * 1e6:.0f} us a letter, {cpu / letters * 1e6:.0f} us of CPU"
            print(f"k2 dlq {command:<7} {wall:5.1f} s, {cpu:5.1f} s of CPU: {per_letter}", flush=True)


if __name__ == "__main__":
    main()

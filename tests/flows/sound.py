"""A sound job whose feed pauses; its status must stay complete: `python -m tests.flows.sound --minutes 60`.

Trades come in bursts and trickles with pauses of up to `--pause` seconds in between. A status other than complete is
printed with its reasons, and the command fails.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

from k2.status.findings import Verdict
from k2.status.reader import StatusReader
from tests.brokers import own_broker
from tests.flows.feed import SYMBOLS, Feed
from tests.flows.job import Job, wait_until
from tests.flows.rescale import running

READING_SECONDS: Final = 2.0
"""Time between two readings of the status."""


def main() -> int:
    """Run the job and its feed for the requested time; print the readings by verdict."""
    arguments = _arguments()
    rng, found = Random(arguments.seed), Counter[Verdict]()
    with own_broker() as broker, tempfile.TemporaryDirectory(prefix="k2-sound-") as folder:
        topic = broker.topic(2)
        log = Path(folder) / "job.log"
        job = Job(broker.bootstrap_servers, Path(folder), topic, {"K2_RUN_TO_END": "false"}, log)
        feed, reader = Feed(job, topic), StatusReader(job.settings)
        with running([job]):
            feed.send(50)
            wait_until(lambda: job.committed() == 50 * SYMBOLS, "the first trades are committed")
            end = time.monotonic() + arguments.minutes * 60
            sends_at, pauses = time.monotonic(), 0
            while time.monotonic() < end:
                if time.monotonic() >= sends_at:
                    feed.send(rng.choice([1, 1, 1, 5, 500]))
                    is_pause = rng.random() < 0.1
                    pauses += is_pause
                    sends_at = time.monotonic() + (rng.uniform(10, arguments.pause) if is_pause else rng.random())
                status = reader.read()
                found[status.verdict] += 1
                if status.verdict is not Verdict.COMPLETE:
                    _write(f"{status.verdict}: {[reason.sentence for reason in status.reasons]}")
                time.sleep(READING_SECONDS * rng.random())
    _write(f"broker: {broker.name}\npauses: {pauses}\ntrades: {feed.number * SYMBOLS:,}")
    for verdict, count in found.items():
        _write(f"{verdict}: {count:,} readings")
    return 0 if set(found) == {Verdict.COMPLETE} else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.flows.sound", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="how long (default 60)")
    parser.add_argument("--pause", type=float, default=600, metavar="SECONDS", help="the longest pause (default 600)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of bursts and pauses (default 0)")
    return parser.parse_args()


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""An idle hour, ten times as fast: `python -m tests.flows.idle --minutes 6`.

The job reads one topic without a message since its first commit, and one without any. Its epochs take a second in place
of ten, and the limit of a stall is six epochs, as by default; so six minutes have as many epochs as an hour. It must be
healthy, ready and complete all the time, commit nothing, and not grow.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from k2.ops.child_process import free_port
from k2.status.reader import StatusReader
from tests.brokers import Broker, own_broker
from tests.flows.feed import SYMBOLS, Feed
from tests.flows.job import Job, wait_until
from tests.flows.outage import get
from tests.flows.rescale import running

EPOCHS_STALLED: Final = 6
"""Epochs within `K2_STALL_SECONDS_MAX`, which is 60 seconds by default, with epochs of 10 seconds."""
READING_SECONDS: Final = 0.2
GROWTH_BYTES_MAX: Final = 40_000_000
"""Growth of the resident memory that is none: of caches that fill, and of a heap with holes."""
START_SECONDS_MAX: Final = 300.0


def idle(broker: Broker, folder: Path, seconds: float, workers: int) -> dict[str, Any]:
    """Run an idle job for some time; return what was seen, and how often."""
    topic, port = broker.topic(2), free_port()
    job = Job(broker.bootstrap_servers, folder, topic, {"K2_RUN_TO_END": "false"})
    environment = {
        **job.environment,
        "K2_TOPICS": f"{topic},{broker.topic(1, 'empty')}",
        "K2_METRICS_PORT": str(port),
        "K2_STALL_SECONDS_MAX": str(EPOCHS_STALLED),
    }
    folder.mkdir(parents=True, exist_ok=True)
    job = replace(job, environment=environment, log=folder / "job.log")
    Feed(job, topic).send(50)
    seen: dict[str, Counter[str]] = {name: Counter() for name in ("healthz", "readyz", "status")}
    with running([job], workers=workers) as (process,):
        wait_until(lambda: job.committed() == 50 * SYMBOLS, "nothing is committed", START_SECONDS_MAX)
        wait_until(lambda: get(port, "readyz")[0] == 200, "it is not ready")
        version, memory = job.iceberg().metadata_location, _resident_bytes(process.pid)
        reader, end = StatusReader(job.settings), time.monotonic() + seconds
        while time.monotonic() < end:
            seen["healthz"][str(get(port, "healthz")[0])] += 1
            seen["readyz"][str(get(port, "readyz")[0])] += 1
            status = reader.read()
            seen["status"][f"{status.verdict} {[reason.sentence for reason in status.reasons]}"] += 1
            time.sleep(READING_SECONDS)
        growth = _resident_bytes(process.pid) - memory
        assert process.poll() is None
    assert job.iceberg().metadata_location == version, "an idle epoch was committed"
    assert seen["healthz"].keys() == seen["readyz"].keys() == {"200"}, seen
    assert seen["status"].keys() == {"complete []"}, seen
    assert growth < GROWTH_BYTES_MAX
    return {
        "workers": workers,
        "seconds": seconds,
        **{name: dict(counts) for name, counts in seen.items()},
        "grown by MB": round(growth / 1e6, 1),
    }


def _resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (resident,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    return resident


def main() -> int:
    """Run with one worker, and with more workers than partitions; print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.flows.idle", description=__doc__)
    parser.add_argument("--minutes", type=float, default=6, metavar="N", help="how long each (default 6, for an hour)")
    minutes = parser.parse_args().minutes
    with own_broker() as broker, tempfile.TemporaryDirectory(prefix="k2-idle-") as folder:
        for workers in (1, 4):
            found = idle(broker, Path(folder) / str(workers), minutes * 60, workers)
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

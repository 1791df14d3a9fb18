"""A broker that is down for minutes, under `k2 run --supervise`: `python -m tests.flows.outage --minutes 5`.

The first time it is killed while the job runs, the second time it is down when the job starts. Prints what health,
metrics and `k2 status` say meanwhile, and how soon all is committed once the broker is back; nobody helps. Needs real
Kafka, which keeps its topics over a restart.
"""

import argparse
import json
import re
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Final

from k2.ops.child_process import free_port
from k2.query.gaps import gaps
from k2.status.reader import StatusReader
from tests.brokers import Broker, real_kafka
from tests.flows.job import Job, wait_until
from tests.flows.market import assert_reconciled, publish, trade
from tests.flows.supervised import Supervised

SYMBOLS: Final = 20
START_SECONDS_MAX: Final = 300.0
PROBE_SECONDS: Final = 0.5
LAG: Final = re.compile(r"^k2_consumer_lag_messages\{.*\} (\S+)$", re.MULTILINE)


class Outage:
    """A supervised job, and a broker that goes away and comes back."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.port = free_port()
        environment = {"K2_RUN_TO_END": "false", "K2_METRICS_PORT": str(self.port)}
        self.broker = broker
        self.job = Job(broker.bootstrap_servers, folder, broker.topic(partitions=2), environment)
        self.rounds = 0

    def start(self, *, restarts_max: int) -> Supervised:
        """Start the job with a small budget of restarts."""
        return Supervised(self.job, 0, "", options=["--restarts-max", str(restarts_max)])

    def publish(self) -> None:
        """Publish ten trades of each symbol."""
        numbers = range(self.rounds * 10 + 1, self.rounds * 10 + 11)
        self.rounds += 1
        messages = [trade(number, f"S{symbol}") for number in numbers for symbol in range(SYMBOLS)]
        publish(self.broker.bootstrap_servers, self.job.topics, messages)

    def wait_for_commit(self) -> float:
        """Wait until all that was published is committed; return the time that took, in seconds."""
        begun, wanted = time.monotonic(), self.rounds * 10 * SYMBOLS
        wait_until(lambda: self.job.committed() == wanted, "it does not go on", START_SECONDS_MAX)
        return round(time.monotonic() - begun, 1)

    def watch(self, seconds: float) -> dict[str, Any]:
        """Read health, lag and status for some time; return how often each was seen."""
        reader, end = StatusReader(self.job.settings), time.monotonic() + seconds
        found: dict[str, Counter[str]] = {name: Counter() for name in ("healthz", "readyz", "lag", "status")}
        is_over = threading.Event()
        # On a thread of its own, because the status waits for the broker.
        probing = threading.Thread(target=self._probe, args=(found, is_over))
        probing.start()
        while time.monotonic() < end:
            status = reader.read()
            causes = ", ".join(sorted({str(reason.cause) for reason in status.reasons}))
            found["status"][f"{status.verdict}: {causes}"] += 1
            time.sleep(1)
        is_over.set()
        probing.join()
        return {name: dict(counts) for name, counts in found.items()}

    def _probe(self, found: dict[str, Counter[str]], is_over: threading.Event) -> None:
        while not is_over.wait(PROBE_SECONDS):
            for name in ("healthz", "readyz"):
                found[name][str(get(self.port, name)[0])] += 1
            found["lag"].update(LAG.findall(get(self.port, "metrics")[1]) or ["none"])

    def check(self) -> None:
        """Check that each trade is stored once."""
        assert self.job.table().num_rows == self.rounds * 10 * SYMBOLS
        assert gaps(self.job.settings) == []
        assert_reconciled(self.job)


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a response; 0 if nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def lost_while_running(outage: Outage, seconds: float) -> dict[str, Any]:
    """Kill the broker under a job that runs; start it again after some time."""
    outage.publish()
    one = outage.start(restarts_max=1)
    try:
        outage.wait_for_commit()
        job, restarts = one.job_pid(), one.restarts()
        outage.broker.kill()
        found = {"broker": "killed while the job runs", "seconds": seconds, **outage.watch(seconds)}
        outage.broker.start()
        outage.publish()
        found |= {"seconds to the next commit": outage.wait_for_commit(), "restarts": one.restarts() - restarts}
        assert (one.job_pid(), one.said.count("broker_lost"), one.said.count("broker_back")) == (job, 1, 1), one.said
        assert [verdict for verdict in found["status"] if verdict.startswith("complete")] == [], found
        assert found["healthz"].keys() == {"200"}, found
        assert "503" in found["readyz"], found
    finally:
        one.process.terminate()
        one.process.wait(10)
    outage.check()
    return found


def absent_at_the_start(outage: Outage, seconds: float) -> dict[str, Any]:
    """Start the job while there is no broker; start the broker after some time."""
    outage.publish()
    outage.broker.kill()
    one = outage.start(restarts_max=1)
    try:
        found = {"broker": "down when the job starts", "seconds": seconds, **outage.watch(seconds)}
        before = one.restarts()
        outage.broker.start()
        outage.publish()
        found |= {"seconds to the next commit": outage.wait_for_commit(), "restarts": one.restarts()}
        assert before >= 1, one.said
        assert '"restarts_left": 0' not in one.said, one.said
        assert "200" in found["healthz"], found
        assert "200" not in found["readyz"], found
    finally:
        one.process.terminate()
        one.process.wait(10)
    outage.check()
    return found


def main() -> int:
    """Run both outages; print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.flows.outage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, metavar="N", help="how long the broker is down (default 5)")
    seconds = parser.parse_args().minutes * 60
    with real_kafka() as broker, tempfile.TemporaryDirectory(prefix="k2-outage-") as folder:
        outage = Outage(broker, Path(folder))
        for run in (lost_while_running, absent_at_the_start):
            sys.stdout.write(json.dumps(run(outage, seconds)) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

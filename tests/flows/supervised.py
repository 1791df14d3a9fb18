"""`k2 run --supervise` in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from k2.ops.child_process import free_port, launcher
from tests.flows.job import ROOT, Job

__all__ = ["Supervised", "supervised"]


class Supervised:
    """One process of a job, under its supervisor."""

    def __init__(
        self, job: Job, number: int, addresses: str, prefix: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        self.log = job.folder / f"process-{number}.log"
        # A test that is killed leaves none behind.
        command = [*launcher(), *prefix, sys.executable, "-m", "k2.cli", "run", "--supervise", "-s", "1", "-w", "1"]
        command += ["-r", str(job.folder / f"store-{number}")]
        command += ["-i", str(number), "-a", addresses] if ";" in addresses else []
        command += options
        environment = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
        job.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**environment, **job.variables}, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        """What supervisor and job have logged."""
        return self.log.read_text(encoding="utf-8")

    def restarts(self) -> int:
        """Return how often the supervisor has started the job again."""
        return self.said.count('"event": "restarting"')

    def job_pid(self) -> int | None:
        """Return the process id of the job; None while there is none."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return next(iter(map(int, path.read_text(encoding="ascii").split())), None)


@contextmanager
def supervised(job: Job, processes: int = 1) -> Iterator[list[Supervised]]:
    """Run all processes of a job, each under a supervisor; end them with SIGTERM."""
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(processes))
    started = [Supervised(job, number, addresses) for number in range(processes)]
    try:
        yield started
    finally:
        for one in started:
            one.process.terminate()
        codes = [one.process.wait(10) for one in started]
    assert codes == [128 + signal.SIGTERM] * processes

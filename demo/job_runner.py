"""Runner of the job in child processes, as users run it: start, kill, start again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import flows
from k2.model.errors import K2Error
from k2.ops.child_process import ChildProcess
from k2.ops.settings import PREFIX, Settings
from k2.storage.catalog import find_table
from k2.storage.table_properties import PROGRESS

__all__ = ["COMMAND", "DemoError", "JobRunner", "committed"]

RECOVERY_PARTITIONS: Final = 4
COMMAND: Final = ("bytewax.run", "flows.trades", "-w", "2", "-s", "1", "-b", "0", "-r")
"""Arguments of `python -m`; the recovery folder is appended."""
STALL_SECONDS_MAX: Final = 120.0
START_SECONDS_MAX: Final = 600.0
"""Until the first commit: a busy machine may take minutes to compile the rules."""
POLL_SECONDS: Final = 0.2
_LOG_LINES: Final = 15
_EXCLUDED_PREFIXES: Final = (PREFIX, "BYTEWAX_")
"""Prefixes of environment variables that the job does not inherit: they may configure a job of the user."""


class DemoError(K2Error, RuntimeError):
    """A part of the demo exited unexpectedly or made no progress."""


class _Job(ChildProcess):
    @property
    def exit_code(self) -> int | None:
        """Exit code; None if the process has not ended."""
        return None if self._process is None else self._process.poll()


class JobRunner:
    """Runs the job from one topic into one table; `started_at` and `seconds` say when and how long each process ran."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.started_at: list[datetime] = []
        self.seconds: list[float] = []
        self._settings = settings
        self._log = log
        self._recovery = settings.data_dir / "recovery"

    def prepare(self) -> None:
        """Create the recovery store.

        Raises:
            DemoError: the store cannot be created.
        """
        self._recovery.mkdir()
        command = [sys.executable, "-m", "bytewax.recovery", str(self._recovery), str(RECOVERY_PARTITIONS)]
        created = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if created.returncode:
            raise DemoError(f"cannot create the recovery store: {created.stderr.strip()}")

    @contextmanager
    def running(self, *, to_end: bool) -> Iterator["Run"]:
        """Run the job for the duration of the block; it is killed at the end."""
        root = Path(flows.__path__[0]).parent
        job = [sys.executable, "-m", *COMMAND, str(self._recovery)]
        # Python searches the working folder for the job's module first.
        command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(root), *job]
        child = _Job(command, self._log, self._environment(K2_RUN_TO_END=str(to_end).lower()))
        started = time.monotonic()
        self.started_at.append(datetime.now(UTC))
        try:
            child.start()
            yield Run(child, self._settings)
        finally:
            child.kill()
            self.seconds.append(time.monotonic() - started)

    def _environment(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_EXCLUDED_PREFIXES)}
        return inherited | {
            "K2_BOOTSTRAP_SERVERS": self._settings.bootstrap_servers,
            "K2_CATALOG": self._settings.catalog,
            "K2_DATA_DIR": str(self._settings.data_dir),
            "K2_METRICS_PORT": "0",
            **more,
        }


class Run:
    """One process of the job."""

    def __init__(self, job: _Job, settings: Settings) -> None:
        self._job = job
        self._settings = settings

    def wait_for_commit(self, report: Callable[[int], None]) -> None:
        """Wait for the first commit.

        Raises:
            DemoError: the job ended, or committed nothing for 10 minutes.
        """
        for count in self._commits():
            report(count)
            if count:
                return
        raise DemoError(f"the job ended before its first commit (exit code {self._job.exit_code}): {self._log_end()}")

    def wait_for_end(self, report: Callable[[int], None]) -> None:
        """Wait until the job ends by itself.

        Raises:
            DemoError: the job failed, or committed nothing for 120 s.
        """
        for count in self._commits():
            report(count)
        if self._job.exit_code:
            raise DemoError(f"the job failed (exit code {self._job.exit_code}): {self._log_end()}")

    def kill(self) -> int:
        """Kill the job with SIGKILL; return the number of committed messages.

        Raises:
            DemoError: the job had already ended.
        """
        if self._job.pid is None:
            raise DemoError(f"the job ended by itself (exit code {self._job.exit_code}): {self._log_end()}")
        self._job.kill()
        return committed(self._settings)

    def _commits(self) -> Iterator[int]:
        """Yield the number of committed messages repeatedly until the job has ended, and once after that."""
        last, changed_at = 0, time.monotonic()
        while self._job.pid is not None:
            count = committed(self._settings)
            now = time.monotonic()
            if count != last:
                last, changed_at = count, now
            elif now - changed_at > (STALL_SECONDS_MAX if last else START_SECONDS_MAX):
                raise DemoError(f"the job makes no progress after {last} messages: {self._log_end()}")
            yield count
            time.sleep(POLL_SECONDS)
        yield committed(self._settings)

    def _log_end(self) -> str:
        lines = self._job.log_end(4_000).splitlines()[-_LOG_LINES:]
        return "\n".join([f"its log {self._job.log} ends:", *lines])


def committed(settings: Settings) -> int:
    """Return the number of messages that the progress of the table records as committed."""
    table = find_table(settings, "trades")
    if table is None:
        return 0
    progress = PROGRESS.read(table.metadata.properties)
    return sum(progress.counts(topic_partition).received for topic_partition in progress.partitions())

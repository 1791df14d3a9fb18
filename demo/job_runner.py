"""The job as users run it, in processes of its own: started, killed on the way, started again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import flows
from k2.model.errors import K2Error
from k2.model.progress import Progress
from k2.ops.child_process import ChildProcess
from k2.ops.settings import PREFIX, Settings
from k2.storage.catalog import find_table

__all__ = ["COMMAND", "DemoError", "JobRunner", "committed"]

RECOVERY_PARTITIONS: Final = 4
COMMAND: Final = ("bytewax.run", "flows.trades", "-w", "2", "-s", "2", "-b", "0", "-r")
"""What follows `python -m`; the recovery folder comes last."""
STALL_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.2
_LOG_LINES: Final = 15
_FOREIGN: Final = (PREFIX, "BYTEWAX_")
"""Variables of the caller's own job, which must not reach this one."""


class DemoError(K2Error, RuntimeError):
    """A part of the demo ended when it should not have, or never did."""


class _Job(ChildProcess):
    @property
    def exit_code(self) -> int | None:
        """The code it ended with; None while it runs."""
        return None if self._process is None else self._process.poll()


class JobRunner:
    """Runs of the job over one topic into one table; `seconds` has the life of each process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.seconds: list[float] = []
        self._settings = settings
        self._log = log
        self._recovery = settings.data_dir / "recovery"

    def prepare(self) -> None:
        """Make the recovery store.

        Raises:
            DemoError: it can't be made.
        """
        self._recovery.mkdir()
        command = [sys.executable, "-m", "bytewax.recovery", str(self._recovery), str(RECOVERY_PARTITIONS)]
        made = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if made.returncode:
            raise DemoError(f"the recovery store cannot be made: {made.stderr.strip()}")

    @contextmanager
    def running(self, *, to_end: bool) -> Iterator["Run"]:
        """Run the job; it is gone when the block ends, whatever ended it."""
        root = Path(flows.__path__[0]).parent
        job = [sys.executable, "-m", *COMMAND, str(self._recovery)]
        # The job's module is looked for in the working folder first.
        command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(root), *job]
        child = _Job(command, self._log, self._environment(K2_RUN_TO_END=str(to_end).lower()))
        started = time.monotonic()
        try:
            child.start()
            yield Run(child, self._settings)
        finally:
            child.kill()
            self.seconds.append(time.monotonic() - started)

    def _environment(self, **more: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return own | {
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

    def wait_for_commit(self, tell: Callable[[int], None]) -> None:
        """Wait until something is in the table.

        Raises:
            DemoError: the job ended, or nothing came in for 120 s.
        """
        for count in self._commits():
            tell(count)
            if count:
                return
        raise DemoError(f"the job ended before its first commit (exit code {self._job.exit_code}): {self._log_end()}")

    def wait_for_end(self, tell: Callable[[int], None]) -> None:
        """Wait until the job ended by itself, all captured.

        Raises:
            DemoError: it failed, or nothing came in for 120 s.
        """
        for count in self._commits():
            tell(count)
        if self._job.exit_code:
            raise DemoError(f"the job failed (exit code {self._job.exit_code}): {self._log_end()}")

    def kill(self) -> int:
        """End it by SIGKILL; gives the number of messages that are in.

        Raises:
            DemoError: it had ended already.
        """
        if self._job.pid is None:
            raise DemoError(f"the job ended by itself (exit code {self._job.exit_code}): {self._log_end()}")
        self._job.kill()
        return committed(self._settings)

    def _commits(self) -> Iterator[int]:
        """Yield what is in, again and again, until the job ended, and once more then."""
        last, moved = 0, time.monotonic()
        while self._job.pid is not None:
            count = committed(self._settings)
            now = time.monotonic()
            if count != last:
                last, moved = count, now
            elif now - moved > STALL_SECONDS_MAX:
                raise DemoError(f"the job stands still at {last} messages: {self._log_end()}")
            yield count
            time.sleep(POLL_SECONDS)
        yield committed(self._settings)

    def _log_end(self) -> str:
        lines = self._job.log_end(4_000).splitlines()[-_LOG_LINES:]
        return "\n".join([f"its log {self._job.log} ends:", *lines])


def committed(settings: Settings) -> int:
    """Return how many messages the table's progress says are in."""
    table = find_table(settings, "trades")
    if table is None:
        return 0
    progress = Progress.in_properties(table.metadata.properties)
    return sum(progress.counts(where).received for where in progress.partitions())

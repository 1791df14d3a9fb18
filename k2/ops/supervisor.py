"""Supervisor of the job: starts it as a child process, and again if it ends with a failure that a restart can mend."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

import structlog

from k2.model.errors import SettingsError
from k2.ops.child_process import launcher
from k2.ops.restart_budget import RestartBudget
from k2.ops.retry import RESTART
from k2.ops.signals import SIGNALS
from k2.ops.supervision import Ending, Supervision, parse_report

__all__ = ["Ended", "Supervisor"]

STOP_SECONDS_MAX: Final = 1.5
"""Time for the job to end on a signal; it is killed then."""
REPORT_BYTES_MAX: Final = 65_536

_LOG = structlog.get_logger()


class Ended(NamedTuple):
    """How a child process ended."""

    status: int
    """Exit code; the negative number of the signal that killed it, if one did."""
    ending: Ending | None = None
    """What it reported; None if it reported nothing."""

    @property
    def why(self) -> str:
        """Why it ended: its own sentence, or what the system says."""
        if self.ending is not None:
            return self.ending.error
        return f"killed by {signal.Signals(-self.status).name}" if self.status < 0 else f"exit code {self.status}"

    @property
    def exit_code(self) -> int:
        """The exit code of a supervisor that passes this ending on."""
        return 128 - self.status if self.status < 0 else self.status

    @property
    def is_final(self) -> bool:
        """Whether another start is not needed, or would not help."""
        is_reported = self.ending is not None and self.ending.is_final
        return self.status in (0, SettingsError.exit_code) or is_reported


class Supervisor:
    """Runs a command as a child process for as long as restarts can help.

    SIGINT and SIGTERM end the child and this process, with exit code 128 + the signal's number. On Linux the child dies
    with this process, however that ends. A supervisor that is process 1 reaps the orphans that it is given.
    """

    def __init__(self, command: Sequence[str], budget: RestartBudget) -> None:
        self._command = tuple(command)
        self._budget = budget
        self._lock = threading.Lock()
        """Held while a child is started, and from a signal on: nothing is started after it."""
        self._pid: int | None = None
        self._has_ended = threading.Condition()

    def run(self) -> int:
        """Run the command until it needs no restart or the budget is spent; return the exit code to end with.

        Call it from the main thread, which starts no other program: the child dies with the thread that started it.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=self._end_on_signal, name="signals", daemon=True).start()
        restarts = 0
        while True:
            ended = self._run_once(restarts)
            if ended.is_final:
                if ended.status:
                    _LOG.error("not_restarted", ended=ended.why, why="another start would not help")
                return ended.exit_code
            in_window = self._budget.take(time.monotonic())
            if in_window is None:
                _LOG.error("not_restarted", ended=ended.why, why="the budget of restarts is spent")
                return ended.exit_code
            wait_seconds = RESTART.wait_seconds(in_window)
            _LOG.warning(
                "restarting", ended=ended.why, wait_seconds=round(wait_seconds, 3), restarts_left=self._budget.left
            )
            time.sleep(wait_seconds)
            restarts += 1

    def _run_once(self, restarts: int) -> Ended:
        """Start the child and return how it ended."""
        read_fd, write_fd = os.pipe()
        os.set_inheritable(write_fd, True)  # noqa: FBT003  the signature is Python's
        os.set_blocking(read_fd, False)
        with self._lock:
            pid = self._pid = self._start(Supervision(os.getpid(), write_fd, restarts))
        os.close(write_fd)
        status = _reap(pid)
        with self._has_ended:
            self._pid = None
            self._has_ended.notify_all()
        # Not released again after a signal: nothing is said of a restart then.
        with self._lock:
            pass
        reported = b""
        with suppress(BlockingIOError):
            reported = os.read(read_fd, REPORT_BYTES_MAX)
        os.close(read_fd)
        report = parse_report(reported)
        # Its checks take as long as the start of the job, which makes them as well.
        self._command = report.command or self._command
        return Ended(os.waitstatus_to_exitcode(status), report.ending)

    def _start(self, supervision: Supervision) -> int:
        # A process group of its own: Ctrl-C in a terminal reaches this process alone, which ends the child itself.
        command = [*launcher(), *self._command]
        environment = {**os.environ, **supervision.environment}
        return os.posix_spawn(command[0], command, environment, setpgroup=0, setsigmask=())

    def _end_on_signal(self) -> NoReturn:
        """Wait for a signal; end the child and this process."""
        number = signal.sigwait(SIGNALS)
        with self._lock:
            self._send(signal.SIGTERM)
            if not self._wait_until_ended(STOP_SECONDS_MAX):
                self._send(signal.SIGKILL)
                self._wait_until_ended(STOP_SECONDS_MAX)
            os._exit(128 + number)

    def _send(self, number: signal.Signals) -> None:
        pid = self._pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_until_ended(self, seconds_max: float) -> bool:
        with self._has_ended:
            return self._has_ended.wait_for(lambda: self._pid is None, seconds_max)


def _reap(pid: int) -> int:
    """Wait for a child process and return its status; reap every other child that ends meanwhile."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status

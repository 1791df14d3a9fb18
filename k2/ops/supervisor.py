"""Supervisor of the job: starts it as a child process, and again if it ends with a failure that a restart can mend."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, NoReturn

import structlog

from k2.model.errors import SettingsError, UnreachableError
from k2.ops.child_process import launcher
from k2.ops.probe_server import serve_while_down
from k2.ops.restart_budget import RestartBudget
from k2.ops.retry import RESTART
from k2.ops.signals import SIGNALS
from k2.ops.supervision import Ending, Supervision, parse_report

__all__ = ["Ended", "Supervisor"]

STOP_SECONDS_MAX: Final = 1.5
"""Time for the job to end on a signal; it is killed then."""
REPORT_BYTES_MAX: Final = 65_536
POLL_SECONDS: Final = 0.2
"""Time between two looks at whether the child has ended, while probes are served for it."""
OUTAGE_SECONDS: Final = 600.0
"""Time in which restarts make the next wait longer, if a service did not answer; their number is not limited."""

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

    @property
    def is_outage(self) -> bool:
        """Whether a service outside did not answer: the job is started until it does, at no cost of the budget."""
        return self.status == UnreachableError.exit_code


class Supervisor:
    """Runs a command as a child process for as long as restarts can help.

    SIGINT and SIGTERM end the child and this process, with exit code 128 + the signal's number. On Linux the child dies
    with this process, however that ends. A supervisor that is process 1 reaps the orphans that it is given.
    """

    def __init__(self, command: Sequence[str], budget: RestartBudget) -> None:
        self._command = tuple(command)
        self._is_job = False
        """Whether the command is the job, rather than the checks before it."""
        self._budget = budget
        self._outages = RestartBudget(sys.maxsize, OUTAGE_SECONDS)
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
        restarts, ended = 0, None
        while True:
            ended = self._run_once(restarts, ended)
            if ended.is_final:
                if ended.status:
                    _LOG.error("not_restarted", ended=ended.why, why="another start would not help")
                return ended.exit_code
            attempt = (self._outages if ended.is_outage else self._budget).take(time.monotonic())
            if attempt is None:
                _LOG.error("not_restarted", ended=ended.why, why="the budget of restarts is spent")
                return ended.exit_code
            self._wait(ended, RESTART.wait_seconds(attempt))
            restarts += 1

    def _wait(self, ended: Ended, seconds: float) -> None:
        _LOG.warning("restarting", ended=ended.why, wait_seconds=round(seconds, 3), restarts_left=self._budget.left)
        with serve_while_down(ended.why, *_probes()):
            time.sleep(seconds)

    def _run_once(self, restarts: int, before: Ended | None) -> Ended:
        """Start the child and return how it ended; `before` is how the one before it ended."""
        read_fd, write_fd = os.pipe()
        os.set_inheritable(write_fd, True)  # noqa: FBT003  the signature is Python's
        os.set_blocking(read_fd, False)
        with self._lock:
            pid = self._pid = self._start(Supervision(os.getpid(), write_fd, restarts))
        os.close(write_fd)
        with self._checking(read_fd, before):
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
        self._command, self._is_job = report.command or self._command, self._is_job or report.command is not None
        return Ended(os.waitstatus_to_exitcode(status), report.ending)

    @contextmanager
    def _checking(self, report_fd: int, before: Ended | None) -> Iterator[None]:
        """Serve probes while the child makes its checks: until it reports that it becomes the job, or ends."""
        if before is None or self._is_job:
            yield
            return
        has_ended = threading.Event()

        def serve() -> None:
            with serve_while_down(before.why, *_probes()):
                while not has_ended.is_set() and not select.select([report_fd], [], [], POLL_SECONDS)[0]:
                    pass

        serving = threading.Thread(target=serve, name="probes", daemon=True)
        serving.start()
        yield
        has_ended.set()
        serving.join()

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


def _probes() -> tuple[str, int]:
    """Return the host and port of the job's health endpoints; port 0 if they are off."""
    # The first start must not wait for this import; it reports what is wrong with the settings.
    from k2.ops.settings import read_settings  # noqa: PLC0415

    try:
        settings = read_settings()
    except SettingsError:
        return "", 0
    return settings.metrics_host, settings.metrics_port


def _reap(pid: int) -> int:
    """Wait for a child process and return its status; reap every other child that ends meanwhile."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status

"""Supervisor of one child process: start, pause, stop and kill it; on Linux it dies with its parent."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["ChildProcess", "free_port", "launcher"]

STOP_SECONDS_MAX: Final = 10.0

_LAUNCHER: Final = """
import os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("parent process is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Requests SIGKILL on the death of the parent (Linux: PR_SET_PDEATHSIG, prctl(2)), then executes the command under the
same process id. A `preexec_fn` could deadlock in the forked copy of a process with threads."""


def launcher() -> list[str]:
    """Return the program to put before a command: it dies with the calling thread on Linux, and executes the command.

    If this process has ended before, the command is not executed.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]


def free_port() -> int:
    """Return a loopback port on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChildProcess:
    """One command with its output in a log file; can be started again after it was stopped.

    On Linux it dies with the thread that started it, however that thread ends; elsewhere only `stop` and `kill` end it.
    Ctrl-C in a terminal does not reach it, because it runs in a session of its own.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = tuple(command)
        self.log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None if the process is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the command, unless it is running.

        Signal handlers run after the start: if one raises, the process is already known, and `stop` ends it.
        """
        if self.pid is not None:
            return
        with self.log.open("ab") as log, _signals_deferred():
            self._process = subprocess.Popen(  # noqa: S603  the command comes from the caller
                [*launcher(), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,
            )

    def stop(self) -> None:
        """Terminate the process if it is running; kill it if it is still there after 10 s."""
        if self._process is None:
            return
        self._send(signal.SIGCONT)
        self._send(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Freeze the process with SIGSTOP: its connections stay open, but it does not respond."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen process."""
        self._send(signal.SIGCONT)

    def wait_until(self, ready: Callable[[], bool], seconds_max: float) -> bool:
        """Wait until `ready` returns True; return False if the process ends first or the time is over."""
        deadline = time.monotonic() + seconds_max
        while self.pid is not None and time.monotonic() < deadline:
            if ready():
                return True
            time.sleep(0.02)
        return False

    def log_end(self, characters: int = 1000) -> str:
        """Return the last characters of the log, for an error message; empty if there is no log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace")[-characters:].strip()
        return ""

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer Python's handlers of SIGINT and SIGTERM to the end of the block; they run in the main thread only."""
    received: list[signal.Signals] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in former.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    for number in handlers:
        signal.signal(number, lambda number, _frame: received.append(signal.Signals(number)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in received:
        handlers[number](number, None)

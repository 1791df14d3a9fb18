"""A process of our own making: started, paused, stopped by its own id, and gone when we are."""

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

__all__ = ["ChildProcess", "free_port"]

STOP_SECONDS_MAX: Final = 10.0

_LAUNCHER: Final = """
import os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("its parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Asks Linux for SIGKILL at the parent's end (PR_SET_PDEATHSIG, prctl(2)) and becomes the command, under the
same id; a `preexec_fn` could hang in the forked copy of a process that has threads."""


def free_port() -> int:
    """Ask the system for a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChildProcess:
    """One command, its output in a log file; may be started again after it was stopped.

    On Linux it dies with the thread that started it, however that ended; elsewhere `stop` alone stops it.
    A terminal's Ctrl-C does not reach it: it has a session of its own.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = tuple(command)
        self.log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the command; does nothing where it runs.

        What a signal's handler raises meanwhile comes at the end: the process is known then, and `stop` ends it.
        """
        if self.pid is not None:
            return

        launcher = (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()))
        with self.log.open("ab") as log, _signals_held():
            self._process = subprocess.Popen(  # noqa: S603  the caller's own command
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask it to end, and after 10 s make it; does nothing where it does not run."""
        if self._process is None:
            return
        self._send(signal.SIGCONT)
        self._send(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        self._send(signal.SIGCONT)

    def wait_until(self, ready: Callable[[], bool], seconds_max: float) -> bool:
        """Wait until it is ready; False where it ended, or was not ready in time."""
        end = time.monotonic() + seconds_max
        while self.pid is not None and time.monotonic() < end:
            if ready():
                return True
            time.sleep(0.02)
        return False

    def log_end(self, characters: int = 1000) -> str:
        """Return the end of what it wrote, for an error message."""
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace")[-characters:].strip()
        return ""

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hear SIGINT and SIGTERM when the block has ended, where Python handles them, which it does in the main thread."""
    held: list[signal.Signals] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in former.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        handled = {}
    for number in handled:
        signal.signal(number, lambda heard, _frame: held.append(signal.Signals(heard)))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
    for heard in held:
        handled[heard](heard, None)

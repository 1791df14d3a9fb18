"""Ctrl-C handling: no traceback at any moment, and exit code 130."""

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Final

__all__ = ["EXIT_CODE", "INTERRUPT"]

EXIT_CODE: Final = 130
"""128 plus the number of SIGINT."""
UNRESPONSIVE_SECONDS_MAX: Final = 3.0
"""Time after which a process is ended whose Python handler has not run."""
LOST_SECONDS: Final = 0.05
"""Time until the signal is handled once more, by which the destructor has ended."""


class _Interrupt:
    """Handler of Ctrl-C for the process.

    While modules are imported, Ctrl-C ends the process at once, because some modules would treat
    `KeyboardInterrupt` as an import error. While a command runs, it raises `KeyboardInterrupt`, so that the command can
    clean up. The second Ctrl-C ends the process at once; so does the first if a library (such as a client that waits
    for a response) does not return to Python within three seconds. If a destructor is running, which cannot raise,
    `KeyboardInterrupt` is raised once more after it.
    """

    def __init__(self) -> None:
        self._is_raised = False
        """Whether `KeyboardInterrupt` was raised: a later error is a consequence of it."""
        self._is_running = False
        self._is_lost = False
        """Whether it was raised in a destructor, which Python ignores."""

    def watch(self) -> None:
        """Replace Python's handler. A process that was started with SIGINT ignored keeps ignoring it."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return
        signal.signal(signal.SIGINT, self._handle)
        sys.unraisablehook = self._note_lost
        read_fd, write_fd = os.pipe()
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        threading.Thread(target=self._end_if_unresponsive, args=(read_fd,), daemon=True).start()

    def begin(self) -> None:
        """Mark the start of a command."""
        self._is_running = True

    def end(self) -> None:
        """Mark the end of all cleanup; if Ctrl-C was pressed, end the process.

        Otherwise Python would end by the signal if a `KeyboardInterrupt` passed through code that was compiled from a
        string (such as that of a dataclass), even if it was caught later.
        """
        self._is_running = False
        if self._is_raised:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            os._exit(EXIT_CODE)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_running or (self._is_raised and not self._is_lost):
            os._exit(EXIT_CODE)
        self._is_lost = False
        self._is_raised = True
        raise KeyboardInterrupt

    def _note_lost(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Handle the signal once more, outside of the destructor, if what it raised cannot leave it."""
        if not self._is_raised or not isinstance(unraisable.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        self._is_lost = True
        threading.Timer(LOST_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()

    def _end_if_unresponsive(self, read_fd: int) -> None:
        """Read signal numbers from the wakeup pipe; end the process if Python does not handle SIGINT in time."""
        # Only the main thread receives signals, so that `k2 run` can leave them to the job.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        while _wait_for_sigint(read_fd, None):
            # A second Ctrl-C ends the wait.
            _wait_for_sigint(read_fd, UNRESPONSIVE_SECONDS_MAX)
            if not self._is_raised and signal.getsignal(signal.SIGINT) == self._handle:
                os._exit(EXIT_CODE)


def _wait_for_sigint(read_fd: int, seconds: float | None) -> bool:
    """Wait for a signal, and return whether it is SIGINT; False after `seconds` without a signal."""
    ready, _, _ = select.select([read_fd], [], [], seconds)
    return bool(ready) and signal.SIGINT in os.read(read_fd, 1)


INTERRUPT: Final = _Interrupt()
"""Handler of this process."""

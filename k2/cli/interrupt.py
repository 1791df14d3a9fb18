"""Ctrl-C: quiet at whatever moment it comes, and with exit code 130."""

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Final

__all__ = ["INTERRUPT", "INTERRUPTED"]

INTERRUPTED: Final = 130
"""The exit code: 128 and the signal's number."""
DEAF_SECONDS_MAX: Final = 3.0


class _Interrupt:
    """What Ctrl-C does to the process.

    While modules are imported it ends the process at once: some would take `KeyboardInterrupt` for an error of
    their own. While a command runs it raises `KeyboardInterrupt`, so that what was begun is put away; the second one
    ends the process at once, and so does the first where a library does not return to Python within three seconds
    (a client that waits for an answer).
    """

    def __init__(self) -> None:
        self.came = False
        """Whether `KeyboardInterrupt` was raised: an error after that is its consequence."""
        self._is_running = False

    def watch(self) -> None:
        """Take over from Python's own handler; a process that was started to ignore the signal goes on ignoring it."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return
        signal.signal(signal.SIGINT, self._hear)
        signals, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=self._guard, args=(signals,), daemon=True).start()

    def begin(self) -> None:
        """Say that a command is about to run."""
        self._is_running = True

    def end(self) -> None:
        """Say that there is nothing left to put away; where Ctrl-C came, end the process.

        Left to itself Python ends by the signal where a `KeyboardInterrupt` went through code made from a string, as
        that of a dataclass is, whoever caught it later.
        """
        self._is_running = False
        if self.came:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            os._exit(INTERRUPTED)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self.came or not self._is_running:
            os._exit(INTERRUPTED)
        self.came = True
        raise KeyboardInterrupt

    def _guard(self, signals: int) -> None:
        """Read the numbers of signals as they come; end the process where Python does not hear of ours in time."""
        while _comes(signals, None):
            # A second one says that this one was meant.
            _comes(signals, DEAF_SECONDS_MAX)
            if not self.came and signal.getsignal(signal.SIGINT) == self._hear:
                os._exit(INTERRUPTED)


def _comes(signals: int, seconds: float | None) -> bool:
    """Wait for a signal; true where Ctrl-C was one."""
    ready, _, _ = select.select([signals], [], [], seconds)
    return bool(ready) and signal.SIGINT in os.read(signals, 1)


INTERRUPT: Final = _Interrupt()
"""Of this process."""

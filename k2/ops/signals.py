"""The job's own process: whether this is one, and how it ends before its time. Imports nothing that takes time."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

__all__ = ["end_on_signals", "exit_saying", "is_job"]

RUNNER: Final = "bytewax.run"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
TELL_SECONDS_MAX: Final = 1.0
"""A stderr that nobody reads must not keep the process from its end."""

Tell = Callable[[signal.Signals], None]


def is_job() -> bool:
    """Whether this process was begun as `python -m bytewax.run`."""
    return getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == RUNNER


def _silently(_signal: signal.Signals) -> None:
    """Say nothing."""


def end_on_signals(tell: Tell = _silently) -> None:
    """End the process at SIGINT and SIGTERM from now on, with exit code 128 + the signal's number, having told of it.

    At once, and whatever the main thread does: what is not committed is read again at the next start. Python runs no
    handler while Bytewax waits for peers, and one that raises leaves a cluster hanging; but the interpreter notes each
    signal in a socket as it comes, and a thread that listens there ends the process. The last call of this counts.
    """
    listener, noted = socket.socketpair()
    noted.settimeout(0)
    for number in SIGNALS:
        signal.signal(number, _leave_to_listener)
    signal.set_wakeup_fd(noted.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(listener, noted, tell), name="signals", daemon=True).start()


def exit_saying(code: int, tell: Callable[[], None]) -> NoReturn:
    """End the process at once, having told of it if that can be done."""
    try:
        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(TELL_SECONDS_MAX)
    finally:
        os._exit(code)


def _leave_to_listener(_number: int, _frame: FrameType | None) -> None:
    """Be there, so that the interpreter takes note of the signal."""


def _listen(listener: socket.socket, _noted: socket.socket, tell: Tell) -> None:
    number = signal.Signals(listener.recv(1)[0])
    exit_saying(128 + number, lambda: tell(number))

"""Exit of the job's process on a signal or an error. This module imports nothing that is slow to load."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

__all__ = ["SIGNALS", "exit_on_signals", "exit_on_signals_until", "is_job", "report_and_exit"]

RUNNER: Final = "bytewax.run"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the job."""
REPORT_SECONDS_MAX: Final = 1.0
"""Time limit of a last log line: a stderr that nobody reads must not keep the process from exiting."""
STOP_SECONDS_MAX: Final = 0.05
"""Time in which `exit_on_signals_until` sees that it is to stop."""

OnSignal = Callable[[signal.Signals], None]


def is_job() -> bool:
    """Return whether this process was started as `python -m bytewax.run`."""
    return getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == RUNNER


def _report_nothing(_signal: signal.Signals) -> None:
    """Ignore the signal."""


def exit_on_signals(report: OnSignal = _report_nothing) -> None:
    """Exit on SIGINT and SIGTERM from now on, with exit code 128 + the signal's number, after calling `report`.

    The exit is immediate, whatever the main thread does: what is not committed is read again at the next start. Python
    runs no signal handler while Bytewax waits for peers, and a handler that raises leaves a cluster hanging. But the
    interpreter writes each signal to a wakeup socket at once; a thread listens there and exits the process. The last
    call of this function is the one in effect.
    """
    listener, wakeup = socket.socketpair()
    wakeup.settimeout(0)
    for number in SIGNALS:
        signal.signal(number, _leave_to_listener)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    # `k2 run` blocks them before it starts the job in its place.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_listen, args=(listener, wakeup, report), name="signals", daemon=True).start()


def exit_on_signals_until() -> Callable[[], None]:
    """Exit on SIGINT and SIGTERM until the returned function is called; later ones stay pending, also over `os.exec`.

    The signals are blocked in this thread and in those that it starts, and a thread takes them from the kernel.
    Handlers would lose a signal that arrives just before `os.exec`, which ends the thread that is about to react to it.
    `exit_on_signals`, in the new program, unblocks them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    is_stopped = threading.Event()

    def take() -> None:
        while not is_stopped.is_set():
            taken = signal.sigtimedwait(SIGNALS, STOP_SECONDS_MAX)
            if taken is not None:
                os._exit(128 + taken.si_signo)

    taker = threading.Thread(target=take, name="signals", daemon=True)
    taker.start()

    def stop() -> None:
        is_stopped.set()
        taker.join()

    return stop


def report_and_exit(code: int, report: Callable[[], None]) -> NoReturn:
    """Exit at once with an exit code; call `report` before, for at most `REPORT_SECONDS_MAX`."""
    try:
        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        reporter.join(REPORT_SECONDS_MAX)
    finally:
        os._exit(code)


def _leave_to_listener(_number: int, _frame: FrameType | None) -> None:
    """Do nothing; the interpreter writes only signals that have a Python handler to the wakeup socket."""


def _listen(listener: socket.socket, _wakeup: socket.socket, report: OnSignal) -> None:
    """Wait for a signal and exit; the reference to `_wakeup` keeps that socket open."""
    number = signal.Signals(listener.recv(1)[0])
    report_and_exit(128 + number, lambda: report(number))

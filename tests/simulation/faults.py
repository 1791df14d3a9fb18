"""Actions at failpoints: each hit is counted, and the plan's fault happens at the chosen ones."""

import errno
import mmap
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from k2.ops.failpoints import NAMES, Name
from tests.simulation.plan import ENDING, Fault

__all__ = ["CrashError", "Faults", "Hits"]

BYTES: Final = 8


class CrashError(BaseException):
    """Raised at a failpoint: no part of the job may catch it and continue."""


class Hits:
    """Counts of each failpoint's hits, and whether the life has ended; outlives the counting process."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, BYTES * (len(NAMES) + 1))
        self._counts = memoryview(self._shared).cast("q")

    def count(self, name: Name) -> int:
        """Count a hit; return its ordinal."""
        place = NAMES.index(name)
        self._counts[place] += 1
        return self._counts[place]

    def by_name(self) -> dict[Name, int]:
        """Return the hits by name."""
        return dict(zip(NAMES, self._counts, strict=False))

    def total(self) -> int:
        """Return the number of all hits."""
        return sum(self._counts[:-1])

    def end(self) -> None:
        """Record that a fault happens after which the life cannot continue."""
        self._counts[-1] = 1

    @property
    def ended(self) -> bool:
        """Whether such a fault happened."""
        return bool(self._counts[-1])


class Faults:
    """Counts hits, and applies the plan's faults at the chosen ones; `act` performs those of other writers."""

    def __init__(self, faults: tuple[Fault, ...], hits: Hits, act: Callable[[str], None]) -> None:
        self._faults, self._hits, self._act = faults, hits, act
        self._lock = threading.Lock()

    def on_hit(self, name: Name) -> None:
        """Handle one hit; called at every failpoint."""
        with self._lock:
            hit = self._hits.count(name)
            total = self._hits.total()
        for fault in self._faults:
            if fault.name in {None, name} and _is_due(fault, total if fault.name is None else hit):
                self._do(fault.kind)

    def _do(self, kind: str) -> None:
        if kind in ENDING:
            self._hits.end()
        if kind in _ACTIONS:
            _ACTIONS[kind]()
        else:
            self._act(kind)


def _is_due(fault: Fault, hit: int) -> bool:
    return hit == fault.hit or (fault.kind == "outage" and hit > fault.hit)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raiser(error: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error()

    return fail


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_ACTIONS: Final[Mapping[str, Callable[[], None]]] = {
    "kill": _kill,
    "freeze": _freeze,
    "raise": _raiser(CrashError),
    "transient": _raiser(_no_space),
    "outage": _raiser(_no_space),
    "permanent": _raiser(lambda: ValueError("a permanent error")),
    "lost": _raiser(lambda: TimeoutError("the answer to a commit that succeeded was lost")),
    "reset": _raiser(lambda: ConnectionResetError("reset before the answer to a commit that succeeded")),
    "unknown": _raiser(lambda: CommitStateUnknownException("502 Bad Gateway")),
    "conflict": _raiser(lambda: CommitFailedException("reported for a commit that succeeded")),
}

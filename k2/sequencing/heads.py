"""Head numbers: the last number of a symbol by another message of the venue, compared with what arrived.

A heartbeat or a ticker names the venue's last trade, and a second view of the trades (aggregates of them) repeats
each of them. Such a row stores nothing and takes no number. It proves that the trades have arrived up to its number, or
shows that the newest ones are missing, which no gap shows before the next trade.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAD_GRACE_US", "Behind", "Heads"]

HEAD_GRACE_US: Final = 60_000_000
"""How long a trade may arrive after the message that names its number, microseconds of Kafka time."""
_NONE: Final = np.iinfo(np.int64).min
_NO_SLOTS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


class Behind(NamedTuple):
    """A symbol whose newest numbers are missing."""

    slot: int
    first: int
    """The first number above all that arrived, and above those that were reported before."""
    head: int
    """The number that the venue named."""


class Heads:
    """The oldest head number of each symbol that no trade has reached yet.

    Only a count and a log message depend on it, no verdict and no event, so a lost state starts empty.
    """

    def __init__(self) -> None:
        self._numbers = _NO_SLOTS
        """int64[slots], the pending number of each symbol."""
        self._since = _NO_SLOTS
        """int64[slots], the Kafka time of the message that named it, microseconds."""
        self._reported = _NO_SLOTS
        """int64[slots], the highest number of each symbol that was reported as missing."""

    def compare(
        self,
        slots: NDArray[np.int32],
        numbers: NDArray[np.int64],
        kafka_times: NDArray[np.int64],
        highest: NDArray[np.int64],
    ) -> list[Behind]:
        """Compare n head numbers with the highest numbers that have arrived.

        Args:
            slots: int32[n], the slot of each row's symbol.
            numbers: int64[n].
            kafka_times: int64[n], microseconds.
            highest: int64[slots], by slot, after the trades of the same batch; the least int64 if none arrived.

        Returns:
            The symbols that have not reached a number for longer than the grace period; a number is reported once,
            however often the venue names it.
        """
        self._make_room(len(highest))
        behind = list[Behind]()
        for idx in np.flatnonzero((numbers > highest[slots]) & (highest[slots] > _NONE)).tolist():
            slot, reached = int(slots[idx]), int(highest[slots[idx]])
            pending = int(self._numbers[slot])
            if pending > reached and kafka_times[idx] - self._since[slot] < HEAD_GRACE_US:
                continue
            reported = int(self._reported[slot])
            # Below the number reported last, numbering has begun again.
            first = (max(reached, reported) if reported <= pending else reached) + 1
            if pending >= first:
                behind.append(Behind(slot, first, pending))
                self._reported[slot] = pending
            self._numbers[slot], self._since[slot] = numbers[idx], kafka_times[idx]
        return behind

    def _make_room(self, count: int) -> None:
        if count > len(self._numbers):
            more = count - len(self._numbers)
            self._numbers = np.pad(self._numbers, (0, more), constant_values=_NONE)
            self._since = np.pad(self._since, (0, more))
            self._reported = np.pad(self._reported, (0, more), constant_values=_NONE)

"""The newest trades of each symbol, by which one that comes again with other content is known."""

import zlib
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trades.recent_kernel import RECENT, Ring, recall, remember, remember_all

__all__ = ["PlainRecent", "Recent"]

_FIRST_SLOTS: Final = 64
_ORDER: Final = np.arange(RECENT)


class PlainRecent:
    """What of one symbol's newest stored trades is kept: the specification of `Recent`."""

    def __init__(self) -> None:
        self._trades: deque[tuple[int, int, object]] = deque(maxlen=RECENT)

    def add(self, session: int, sequence: int, content: object) -> None:
        """Keep a trade that is stored, and forget the oldest beyond 256."""
        self._trades.append((session, sequence, content))

    def differs(self, session: int, sequence: int, content: object) -> bool:
        """Tell whether that number is among those kept, with other content."""
        return any(trade[:2] == (session, sequence) and trade[2] != content for trade in self._trades)


class Recent:
    """The newest 256 stored trades of each symbol of a key group, a row of arrays a symbol.

    Of a trade its session, its number and 32 bits of its content are kept: price, quantity, side and venue time, as
    `trades.recent_kernel.content` mixes them. So one conflict in four thousand million passes for a duplicate; never
    the other way round.

    Memory: 4 kB a symbol. Snapshot: about 1 kB a symbol that has had 256 trades.
    """

    def __init__(self) -> None:
        self.ring = Ring(
            numbers=np.zeros((_FIRST_SLOTS, RECENT), dtype=np.int64),
            marks=np.zeros((_FIRST_SLOTS, RECENT), dtype=np.uint64),
            counts=np.zeros(_FIRST_SLOTS, dtype=np.int64),
        )

    def make_room(self, slots: int) -> None:
        """Have rows for so many symbols."""
        if slots > len(self.ring.counts):
            # New rows cost no memory until they are written.
            self.ring = Ring(*(_grown(column, 2 * slots) for column in self.ring))

    def add(self, slot: int, session: int, sequence: int, content: int) -> None:
        """Keep a trade that is stored, and forget the oldest beyond 256."""
        remember(self.ring, slot, session, sequence, content)

    def add_all(
        self,
        slots: NDArray[np.int64],
        sessions: NDArray[np.int64],
        sequences: NDArray[np.int64],
        contents: NDArray[np.int64],
    ) -> None:
        """Keep many, int64[n] each, the oldest first."""
        remember_all(self.ring, slots, sessions, sequences, contents)

    def differs(self, slot: int, session: int, sequence: int, content: int) -> bool:
        """Tell whether that number is among those kept, with other content."""
        return recall(self.ring, slot, session, sequence, content)

    def snapshot(self, slots: int) -> dict[str, bytes]:
        """Give what is kept of the first `slots` symbols as builtins, the oldest first; numbers as differences."""
        counts = self.ring.counts[:slots]
        order = (np.maximum(counts[:, None], RECENT) + _ORDER) % RECENT
        is_kept = np.minimum(counts[:, None], RECENT) > _ORDER
        numbers = np.take_along_axis(self.ring.numbers[:slots], order)[is_kept]
        marks = np.take_along_axis(self.ring.marks[:slots], order)[is_kept]
        return {
            "counts": np.minimum(counts, RECENT).astype("<u2").tobytes(),
            "numbers": _packed(numbers),
            "sessions": _packed((marks >> np.uint64(32)).astype(np.int64)),
            "contents": marks.astype("<u4").tobytes(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "Recent":
        """Take up what `snapshot` gave."""
        recent = cls()
        counts = np.frombuffer(state["counts"], dtype="<u2").astype(np.int64)
        recent.make_room(len(counts))
        recent.add_all(
            np.repeat(np.arange(len(counts)), counts),
            _unpacked(state["sessions"]),
            _unpacked(state["numbers"]),
            np.frombuffer(state["contents"], dtype="<u4").astype(np.int64),
        )
        return recent


def _grown(column: NDArray[Any], slots: int) -> NDArray[Any]:
    grown = np.zeros((slots, *column.shape[1:]), dtype=column.dtype)
    grown[: len(column)] = column
    return grown


def _packed(values: NDArray[np.int64]) -> bytes:
    # Numbers that follow one another differ by one: a hundred of them take a few bytes.
    return zlib.compress(np.diff(values, prepend=np.int64(0)).astype("<i8").tobytes(), level=1)


def _unpacked(data: bytes) -> NDArray[np.int64]:
    differences = np.frombuffer(zlib.decompress(data), dtype="<i8")
    # 64 bits wrap around there as they did here.
    return np.cumsum(differences, dtype=np.int64)

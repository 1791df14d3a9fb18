"""Fault injection: faults at known positions of a clean market, each recorded with its expected results.

A fault withholds, delays or repeats trades, or corrupts a copy of one. The expected results of the capture follow from
the faults alone.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.corruption import CORRUPTIONS, cut_short
from demo.expected import GAP_LARGE_MIN, DeadLetterBytes, Expected, ExpectedRows
from demo.market import Market, Traded
from demo.render import Renderer
from demo.rng import Rng

__all__ = [
    "DUPLICATE_FAR",
    "DUPLICATE_NEAR",
    "FAULTS",
    "LATE_LARGE",
    "LATE_SMALL",
    "LOST_IN_HALF",
    "LOST_LARGE",
    "LOST_SMALL",
    "MESSAGES_MAX",
    "MESSAGES_MIN",
    "RESTART",
    "SWAPPED",
    "Messages",
    "Stream",
]

MESSAGES_MIN: Final = 1_000
"""Smaller streams do not fit a fault of every kind."""
MESSAGES_MAX: Final = 100_000_000
"""Limited by memory: the broker stores all messages, and the positions of all faults are drawn in advance."""

_CHUNK: Final = 20_000
_QUIET_END: Final = 200
"""The last messages have no new faults, so that delayed messages still fit."""
_ORDINAL_MIN: Final = 3
"""Number of trades in a session before its first fault: a gap needs a number before it."""

LOST_SMALL: Final = "lost trades, small gap"
LOST_LARGE: Final = "lost trades, large gap"
LATE_SMALL: Final = "late trades, small gap"
LATE_LARGE: Final = "late trades, large gap"
SWAPPED: Final = "out of order"
LOST_IN_HALF: Final = "lost by a message cut in half"
DUPLICATE_NEAR: Final = "duplicate, near"
DUPLICATE_FAR: Final = "duplicate, far"
RESTART: Final = "session restart"

FAULTS: Final[dict[str, float]] = {
    LOST_SMALL: 200,
    LOST_LARGE: 60,
    LATE_SMALL: 150,
    LATE_LARGE: 50,
    SWAPPED: 300,
    LOST_IN_HALF: 100,
    DUPLICATE_NEAR: 1_200,
    DUPLICATE_FAR: 800,
    RESTART: 12,
    **dict.fromkeys(CORRUPTIONS, 1_000 / len(CORRUPTIONS)),
}
"""Faults per million messages, by kind; there is at least one of each."""

_NUMBERED: Final = frozenset({LOST_SMALL, LOST_LARGE, LATE_SMALL, LATE_LARGE, SWAPPED, LOST_IN_HALF, RESTART})
"""Faults that need symbols with sequence numbers."""


class Messages(NamedTuple):
    """Messages in the order of publication."""

    keys: list[bytes]
    values: list[bytes | None]


class _Placed(NamedTuple):
    """A fault at a base row; `size` additional trades of the same symbol precede it."""

    row: int
    kind: str
    size: int


@dataclass
class _Outbox:
    """Messages in the order of publication, and delayed messages with their positions in the stream."""

    sent: int = 0
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    held: list[tuple[int, int, bytes, bytes]] = field(default_factory=list)
    _ties: int = 0

    def hold(self, until: int, key: bytes, value: bytes) -> None:
        self._ties += 1
        heapq.heappush(self.held, (until, self._ties, key, value))

    def send(self, key: bytes, value: bytes | None) -> None:
        self.keys.append(key)
        self.values.append(value)
        self.sent += 1

    def send_all(self, keys: list[bytes], values: list[bytes]) -> None:
        """Send messages, interleaved with delayed messages that are due among them."""
        start = 0
        while start < len(keys):
            stop = len(keys)
            if self.held:
                stop = min(stop, start + max(0, self.held[0][0] - self.sent))
            self.keys += keys[start:stop]
            self.values += values[start:stop]
            self.sent += stop - start
            start = stop
            while self.held and self.held[0][0] <= self.sent:
                self.release()

    def release(self) -> None:
        _, _, key, value = heapq.heappop(self.held)
        self.send(key, value)

    def take(self) -> Messages:
        taken = Messages(self.keys, self.values)
        self.keys, self.values = [], []
        return taken


class Stream:
    """Exactly `messages` messages of a seeded market with faults; `totals` is complete once it is exhausted."""

    def __init__(self, messages: int, symbols: int, seed: int, expected: ExpectedRows | None = None) -> None:
        assert messages >= MESSAGES_MIN, "too few messages for the faults"
        self.market = Market(seed, symbols)
        self.totals = Expected()
        self.expected = expected
        self.messages = messages
        self._renderer = Renderer(self.market.listings)
        self._keys = np.array([listing.key for listing in self.market.listings], dtype=object)
        self._rng = Rng(seed, 4)
        self._due = self._plan()
        self._restarted = np.zeros(symbols, dtype=np.bool_)
        self._out = _Outbox()

    def __iter__(self) -> Iterator[Messages]:
        while (space := self.messages - self._out.sent - len(self._out.held)) > 0:
            self._advance(space)
            yield self._out.take()
        while self._out.held:
            self._out.release()
        self.totals.published = self._out.sent
        yield self._out.take()

    def _plan(self) -> list[tuple[int, str]]:
        """Spread the faults of every kind over the stream: (position, kind), ascending."""
        span = self.messages - _QUIET_END
        due: list[tuple[int, str]] = []
        for kind, in_a_million in FAULTS.items():
            count = max(1, round(in_a_million * self.messages / 1_000_000))
            share = max(1, span // count)
            due += [(span * idx // count + self._rng.below(share), kind) for idx in range(count)]
        return sorted(due)

    def _advance(self, space: int) -> None:
        """Generate and send the next rows with their faults: at most `space` messages, including delayed ones."""
        quiet = space <= _QUIET_END
        count = space if quiet else min(_CHUNK, space * 9 // 10)
        base = self.market.draw(count)
        placed = [] if quiet else self._place(base, space - count)
        repeats = np.ones(count, dtype=np.int64)
        for fault in placed:
            repeats[fault.row] += fault.size
        anchors = np.cumsum(repeats) - 1
        restarts = [int(anchors[fault.row]) for fault in placed if fault.kind == RESTART]
        traded = self.market.trade(np.repeat(base, repeats), restarts)
        lost = self._send(traded, [(fault, int(anchors[fault.row])) for fault in placed])
        stored = np.delete(np.arange(len(traded)), lost)
        self.totals.stored += len(stored)
        if self.expected is not None:
            self.expected.add(traded, stored)

    def _place(self, base: NDArray[np.int64], space: int) -> list[_Placed]:
        """Assign a row to each fault that is due within the next rows; faults without a suitable row stay due."""
        free = np.ones(len(base), dtype=np.bool_)
        numbered = self.market.numbered[base] & (self.market.ordinals(base) >= _ORDINAL_MIN)
        placed, waiting = [], []
        while self._due and self._due[0][0] < self._out.sent + len(base):
            position, kind = self._due.pop(0)
            size = self._size(kind)
            allowed = free & numbered if kind in _NUMBERED else free
            if kind == RESTART:
                allowed = allowed & ~self._restarted[base]
            first = max(0, position - self._out.sent)
            row = int(np.argmax(allowed[first:])) + first
            if not allowed[row] or size + 1 > space:
                waiting.append((position, kind))
                continue
            free[row] = False
            space -= size + 1
            placed.append(_Placed(row, kind, size))
            if kind == RESTART:
                self._restarted[base[row]] = True
                numbered[row:] &= base[row:] != base[row]
        self._due = waiting + self._due
        return sorted(placed)

    def _size(self, kind: str) -> int:
        """Return the number of trades that the fault removes from their position in the stream."""
        if kind in (LOST_SMALL, LATE_SMALL):
            return 1 + self._rng.below(GAP_LARGE_MIN - 1)
        if kind in (LOST_LARGE, LATE_LARGE):
            return GAP_LARGE_MIN + self._rng.below(40)
        return {SWAPPED: 1, LOST_IN_HALF: 1, RESTART: 2}.get(kind, 0)

    def _send(self, traded: Traded, faults: list[tuple[_Placed, int]]) -> list[int]:
        """Send the rows with their faults; return the indices of rows that never arrive intact."""
        values = self._renderer.messages(traded)
        keys: list[bytes] = self._keys[traded.symbols].tolist()
        lost: list[int] = []
        done = 0
        for fault, anchor in faults:
            before = range(anchor - fault.size, anchor)
            self._out.send_all(keys[done : before.start], values[done : before.start])
            self.totals.injected[fault.kind] += 1
            lost += self._withhold(fault.kind, traded, before, keys, values)
            self._out.send_all(keys[anchor : anchor + 1], values[anchor : anchor + 1])
            self._follow(fault.kind, keys[anchor], values[anchor], [values[row] for row in before])
            done = anchor + 1
        self._out.send_all(keys[done:], values[done:])
        return lost

    def _withhold(self, kind: str, traded: Traded, before: range, keys: list[bytes], values: list[bytes]) -> list[int]:
        """Apply the fault to the trades before its row; return the indices of lost rows."""
        if kind == RESTART:
            # The second-last trade of the old session is late; the last is on time.
            self._out.send_all(keys[before[1] : before[1] + 1], values[before[1] : before[1] + 1])
            before = before[:1]
        if not len(before):
            return []
        self.totals.open_gap(len(before))
        lost = list(before)
        if kind in (SWAPPED, RESTART):
            lost = []
        elif kind in (LATE_SMALL, LATE_LARGE):
            late = self._late_count(len(before))
            lost = lost[late:]
            until = self._out.sent + 50 + self._rng.below(self.messages // 20)
            for row in before[:late]:
                self._out.hold(until, keys[row], values[row])
                until += self._rng.below(20)
        elif kind == LOST_IN_HALF:
            self._add_dead_letter("malformed", keys[before[0]], cut_short(values[before[0]]))
        self.totals.filled += len(before) - len(lost)
        self.totals.late += len(before) - len(lost)
        for row in lost:
            listing = self.market.listings[traded.symbols[row]]
            self.totals.lose(listing, int(traded.sessions[row]), int(traded.sequences[row]))
        return lost

    def _late_count(self, size: int) -> int:
        """Return how many numbers of a gap arrive late: usually all, else the first half."""
        return size if size < 4 or self._rng.below(3) else size // 2

    def _follow(self, kind: str, key: bytes, value: bytes, before: list[bytes]) -> None:
        """Send the messages that the fault adds after its row."""
        if kind == SWAPPED:
            self._out.send(key, before[0])
        elif kind == DUPLICATE_NEAR:
            self._repeat(1 + self._rng.below(100), key, value)
        elif kind == DUPLICATE_FAR:
            self._repeat(1_000 + self._rng.below(self.messages // 5), key, value)
        elif kind == RESTART:
            self.totals.restarts += 1
            self._out.hold(self._out.sent + 1 + self._rng.below(50), key, before[0])
        elif kind in CORRUPTIONS:
            self._add_dead_letter(CORRUPTIONS[kind].reason, key, CORRUPTIONS[kind].corrupt(value))

    def _repeat(self, after: int, key: bytes, value: bytes) -> None:
        self.totals.duplicates += 1
        self._out.hold(self._out.sent + after, key, value)

    def _add_dead_letter(self, reason: str, key: bytes, value: bytes | None) -> None:
        self.totals.dead_letters.append(DeadLetterBytes(reason, key, value))
        self._out.send(key, value)

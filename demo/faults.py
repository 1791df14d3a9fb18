"""Faults laid over the market at places known beforehand, each booked with what must be found of it.

The market's trades are whole; a fault keeps some of them back, repeats one, spoils a copy. What the
capture has to find follows from that alone.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.corruption import CORRUPTIONS, cut_short
from demo.expected import GAP_LARGE_MIN, Expected, ExpectedRows, SetAside
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
"""Fewer would have no room for every kind of fault."""
MESSAGES_MAX: Final = 100_000_000
"""The broker keeps them in memory, and the places of the faults are drawn beforehand."""

_CHUNK: Final = 20_000
_QUIET_END: Final = 200
"""The last messages have no new faults, so that what is held back still finds its place."""
_ORDINAL_MIN: Final = 3
"""A session must have begun before a number of it can be missed."""

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
"""Kinds of faults, and how many there are in a million messages; at least one of each."""

_NUMBERED: Final = frozenset({LOST_SMALL, LOST_LARGE, LATE_SMALL, LATE_LARGE, SWAPPED, LOST_IN_HALF, RESTART})
"""Faults of the numbering, so of the numbered symbols alone."""


class Messages(NamedTuple):
    """Messages to be published in this order."""

    keys: list[bytes]
    values: list[bytes | None]


class _Placed(NamedTuple):
    """A fault at a base row: `size` trades more of the same symbol are traded before it."""

    row: int
    kind: str
    size: int


@dataclass
class _Outbox:
    """Messages in the order of publication; what is held back waits for its place in the stream."""

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
        """Send a run of messages, and in between those held until a place within it."""
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
        assert messages >= MESSAGES_MIN, "no room for the faults"
        self.market = Market(seed, symbols)
        self.totals = Expected()
        self.expected = expected
        self.messages = messages
        self._renderer = Renderer(self.market.listings)
        self._keys = np.array([listing.key for listing in self.market.listings], dtype=object)
        self._dice = Rng(seed, 4)
        self._due = self._plan()
        self._restarted = np.zeros(symbols, dtype=np.bool_)
        self._out = _Outbox()

    def __iter__(self) -> Iterator[Messages]:
        while (room := self.messages - self._out.sent - len(self._out.held)) > 0:
            self._advance(room)
            yield self._out.take()
        while self._out.held:
            self._out.release()
        self.totals.published = self._out.sent
        yield self._out.take()

    def _plan(self) -> list[tuple[int, str]]:
        """Spread every kind over the stream: (place, kind), ascending."""
        span = self.messages - _QUIET_END
        due: list[tuple[int, str]] = []
        for kind, in_a_million in FAULTS.items():
            count = max(1, round(in_a_million * self.messages / 1_000_000))
            share = max(1, span // count)
            due += [(span * number // count + self._dice.below(share), kind) for number in range(count)]
        return sorted(due)

    def _advance(self, room: int) -> None:
        """Trade, spoil and send the next rows, with what they hold back at most `room` messages."""
        quiet = room <= _QUIET_END
        count = room if quiet else min(_CHUNK, room * 9 // 10)
        base = self.market.draw(count)
        placed = [] if quiet else self._place(base, room - count)
        repeats = np.ones(count, dtype=np.int64)
        for fault in placed:
            repeats[fault.row] += fault.size
        anchors = np.cumsum(repeats) - 1
        restarts = [int(anchors[fault.row]) for fault in placed if fault.kind == RESTART]
        traded = self.market.trade(np.repeat(base, repeats), restarts)
        lost = self._send(traded, [(fault, int(anchors[fault.row])) for fault in placed])
        kept = np.delete(np.arange(len(traded)), lost)
        self.totals.stored += len(kept)
        if self.expected is not None:
            self.expected.add(traded, kept)

    def _place(self, base: NDArray[np.int64], room: int) -> list[_Placed]:
        """Return the faults due within the next rows a row each; those that find none stay due."""
        free = np.ones(len(base), dtype=np.bool_)
        numbered = self.market.numbered[base] & (self.market.ordinals(base) >= _ORDINAL_MIN)
        placed, waiting = [], []
        while self._due and self._due[0][0] < self._out.sent + len(base):
            place, kind = self._due.pop(0)
            size = self._size(kind)
            allowed = free & numbered if kind in _NUMBERED else free
            if kind == RESTART:
                allowed = allowed & ~self._restarted[base]
            first = max(0, place - self._out.sent)
            spot = int(np.argmax(allowed[first:])) + first
            if not allowed[spot] or size + 1 > room:
                waiting.append((place, kind))
                continue
            free[spot] = False
            room -= size + 1
            placed.append(_Placed(spot, kind, size))
            if kind == RESTART:
                self._restarted[base[spot]] = True
                numbered[spot:] &= base[spot:] != base[spot]
        self._due = waiting + self._due
        return sorted(placed)

    def _size(self, kind: str) -> int:
        """Return how many trades the fault takes out of the stream."""
        if kind in (LOST_SMALL, LATE_SMALL):
            return 1 + self._dice.below(GAP_LARGE_MIN - 1)
        if kind in (LOST_LARGE, LATE_LARGE):
            return GAP_LARGE_MIN + self._dice.below(40)
        return {SWAPPED: 1, LOST_IN_HALF: 1, RESTART: 2}.get(kind, 0)

    def _send(self, traded: Traded, faults: list[tuple[_Placed, int]]) -> list[int]:
        """Publish the rows with their faults; gives the places of those that never arrive whole."""
        values = self._renderer.messages(traded)
        keys: list[bytes] = self._keys[traded.symbols].tolist()
        lost: list[int] = []
        done = 0
        for fault, anchor in faults:
            before = range(anchor - fault.size, anchor)
            self._out.send_all(keys[done : before.start], values[done : before.start])
            self.totals.injected[fault.kind] += 1
            lost += self._keep_back(fault.kind, traded, before, keys, values)
            self._out.send_all(keys[anchor : anchor + 1], values[anchor : anchor + 1])
            self._follow(fault.kind, keys[anchor], values[anchor], [values[row] for row in before])
            done = anchor + 1
        self._out.send_all(keys[done:], values[done:])
        return lost

    def _keep_back(self, kind: str, traded: Traded, before: range, keys: list[bytes], values: list[bytes]) -> list[int]:
        """Do what happens to the trades before the fault's row; gives those that are lost."""
        if kind == RESTART:
            # The last of the old session but one is its straggler: the last itself is on time.
            self._out.send_all(keys[before[1] : before[1] + 1], values[before[1] : before[1] + 1])
            before = before[:1]
        if not len(before):
            return []
        self.totals.open_gap(len(before))
        lost = list(before)
        if kind in (SWAPPED, RESTART):
            lost = []
        elif kind in (LATE_SMALL, LATE_LARGE):
            late = self._late(len(before))
            lost = lost[late:]
            until = self._out.sent + 50 + self._dice.below(self.messages // 20)
            for row in before[:late]:
                self._out.hold(until, keys[row], values[row])
                until += self._dice.below(20)
        elif kind == LOST_IN_HALF:
            self._set_aside("malformed", keys[before[0]], cut_short(values[before[0]]))
        self.totals.filled += len(before) - len(lost)
        self.totals.late += len(before) - len(lost)
        for row in lost:
            listing = self.market.listings[traded.symbols[row]]
            self.totals.lose(listing, int(traded.sessions[row]), int(traded.sequences[row]))
        return lost

    def _late(self, size: int) -> int:
        """Return how many of a gap's numbers come late after all: mostly all, else its first half."""
        return size if size < 4 or self._dice.below(3) else size // 2

    def _follow(self, kind: str, key: bytes, value: bytes, before: list[bytes]) -> None:
        """Do what comes after the fault's row."""
        if kind == SWAPPED:
            self._out.send(key, before[0])
        elif kind == DUPLICATE_NEAR:
            self._repeat(1 + self._dice.below(100), key, value)
        elif kind == DUPLICATE_FAR:
            self._repeat(1_000 + self._dice.below(self.messages // 5), key, value)
        elif kind == RESTART:
            self.totals.restarts += 1
            self._out.hold(self._out.sent + 1 + self._dice.below(50), key, before[0])
        elif kind in CORRUPTIONS:
            self._set_aside(CORRUPTIONS[kind].reason, key, CORRUPTIONS[kind].spoil(value))

    def _repeat(self, after: int, key: bytes, value: bytes) -> None:
        self.totals.duplicates += 1
        self._out.hold(self._out.sent + after, key, value)

    def _set_aside(self, reason: str, key: bytes, value: bytes | None) -> None:
        self.totals.set_aside.append(SetAside(reason, key, value))
        self._out.send(key, value)

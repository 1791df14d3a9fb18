"""The window's ids as compiled loops hold them: a log of each topic partition, and an index into it.

An entry is found by a chain through the log, which leads from newer entries to older ones alone. So the
oldest are let go by moving a mark, and nothing is looked at one by one.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trades.compiled import compiled
from trades.window import WINDOWS_HELD, WindowRules

__all__ = ["ClockState", "IdLog"]

# Columns of an entry.
_LOW, _HIGH, _AT, _BEFORE = range(4)
# Columns of a segment.
_START, _LABEL, _LATEST = range(3)
# Places of a log's state.
_OLDEST, _NEXT, _FIRST_SEGMENT, _NEXT_SEGMENT, _REACHED, _NEWEST, _AHEAD = range(7)

_WORD: Final = 0xFFFF_FFFF
_CAPACITY_MIN: Final = 64


class ClockState(NamedTuple):
    """What `trades.window.Clock` knows, and the latest time seen; microseconds since the epoch."""

    reached: int = 0
    newest: int = 0
    ahead: int = 0


class _Log(NamedTuple):
    """Entries are numbered as they come; number n lies at n modulo the capacity.

    Those of a stretch of time are a segment, which is let go as a whole.
    """

    entries: NDArray[np.int64]
    """int64[capacity, 4]: identity (low and high word), Kafka time, and the number of the entry before it in its
    chain."""
    heads: NDArray[np.uint32]
    """uint32[power of two]: the lower half of the number of each chain's newest entry. One of 2^32 entries ago may
    be taken for a live one: then a chain has entries of another, and identities are compared anyhow."""
    segments: NDArray[np.int64]
    """int64[ring, 3]: the number of its first entry, the bucket that the clock had reached, and the latest time."""
    state: NDArray[np.int64]
    """int64[7]: the oldest entry, the next one, the first segment, the next one, the clock's three."""


@compiled
def _bucket_floor(state: NDArray[np.int64], rules: WindowRules) -> int:
    """Give the first bucket whose ids are held; as `WindowRules.floor`."""
    return int((state[_REACHED] - WINDOWS_HELD * rules.window_us) // rules.bucket_us)


@compiled
def _number(newest: int, word: np.int64) -> int:
    """Give the number, not above the newest, whose lower half is given."""
    return int(newest - ((newest - word) & _WORD))


@compiled
def _is_stored(log: _Log, low: int, high: int, at: int, rules: WindowRules) -> bool:
    """Tell whether an identity is held, at or above the floor, within a window of a time."""
    entries, heads, _, state = log
    floor = _bucket_floor(state, rules) * rules.bucket_us
    number = _number(state[_NEXT] - 1, np.int64(heads[low & (len(heads) - 1)]))
    while number >= state[_OLDEST]:
        place = number % len(entries)
        if entries[place, _LOW] == low and entries[place, _HIGH] == high:
            time = entries[place, _AT]
            if time >= floor and abs(time - at) <= rules.window_us:
                return True
        number = entries[place, _BEFORE]
    return False


@compiled
def _append(log: _Log, low: int, high: int, at: int, rules: WindowRules) -> None:
    """Hold an identity; there is room for it."""
    entries, heads, segments, state = log
    number, home = state[_NEXT], low & (len(heads) - 1)
    bucket = min(at, state[_REACHED]) // rules.bucket_us
    last = (state[_NEXT_SEGMENT] - 1) % len(segments)
    if state[_FIRST_SEGMENT] == state[_NEXT_SEGMENT] or segments[last, _LABEL] < bucket:
        last = state[_NEXT_SEGMENT] % len(segments)
        segments[last, _START], segments[last, _LABEL], segments[last, _LATEST] = number, bucket, at
        state[_NEXT_SEGMENT] += 1
    segments[last, _LATEST] = max(segments[last, _LATEST], at)
    place = number % len(entries)
    entries[place, _LOW], entries[place, _HIGH], entries[place, _AT] = low, high, at
    entries[place, _BEFORE] = _number(number - 1, np.int64(heads[home]))
    heads[home] = np.uint32(number & _WORD)
    state[_NEXT] += 1


@compiled
def _expire(log: _Log, rules: WindowRules) -> None:
    """Let go of the segments below the floor; of one that holds a later time, those are held on."""
    entries, _, segments, state = log
    bucket_floor = _bucket_floor(state, rules)
    while state[_FIRST_SEGMENT] < state[_NEXT_SEGMENT]:
        first = state[_FIRST_SEGMENT] % len(segments)
        if segments[first, _LABEL] >= bucket_floor:
            return
        state[_FIRST_SEGMENT] += 1
        is_last = state[_FIRST_SEGMENT] == state[_NEXT_SEGMENT]
        end = state[_NEXT] if is_last else segments[state[_FIRST_SEGMENT] % len(segments), _START]
        if segments[first, _LATEST] < bucket_floor * rules.bucket_us:
            state[_OLDEST] = end
        while state[_OLDEST] < end:
            place = state[_OLDEST] % len(entries)
            low, high, at = entries[place, _LOW], entries[place, _HIGH], entries[place, _AT]
            state[_OLDEST] += 1
            if at >= bucket_floor * rules.bucket_us:
                _append(log, low, high, at, rules)


@compiled
def _advance(log: _Log, at: int, rules: WindowRules) -> None:
    """Move the clock to a row's time, as `trades.window.Clock` does, and let go of what is below the floor then."""
    state = log.state
    reached = state[_REACHED]
    state[_NEWEST] = max(state[_NEWEST], at)
    is_ahead = at > reached + rules.window_us
    state[_AHEAD] = state[_AHEAD] + 1 if is_ahead else 0
    if at > reached and (not is_ahead or state[_AHEAD] >= rules.confirmations):
        state[_REACHED], state[_AHEAD] = at, 0
        if at // rules.bucket_us != reached // rules.bucket_us:
            _expire(log, rules)


@compiled
def _judge(
    log: _Log, identities: NDArray[np.int64], times: NDArray[np.int64], rules: WindowRules, stored: NDArray[np.bool_]
) -> None:
    """Tell of each of n rows in turn whether it is stored; hold those that are neither stored nor too old."""
    for row in range(len(times)):
        low, high, at = identities[row, 0], identities[row, 1], times[row]
        _advance(log, at, rules)
        if stored[row]:
            continue
        if _is_stored(log, low, high, at, rules):
            stored[row] = True
        elif at // rules.bucket_us >= _bucket_floor(log.state, rules):
            _append(log, low, high, at, rules)


@compiled
def _mark(
    log: _Log,
    bears: NDArray[np.bool_],
    symbols: NDArray[np.int32],
    identities: NDArray[np.int64],
    times: NDArray[np.int64],
    rules: WindowRules,
    stored: NDArray[np.bool_],
) -> None:
    """Mark those of n rows, of another topic partition, that are stored here; bool[symbols] `bears` says of which."""
    for row in range(len(times)):
        if symbols[row] < len(bears) and bears[symbols[row]] and not stored[row]:
            stored[row] = _is_stored(log, identities[row, 0], identities[row, 1], times[row], rules)


@compiled
def _absorb(log: _Log, identities: NDArray[np.int64], times: NDArray[np.int64], rules: WindowRules) -> None:
    """Hold n identities, their times ascending, as far as the clock, which stands still, lets them."""
    for row in range(len(times)):
        log.state[_NEWEST] = max(log.state[_NEWEST], times[row])
        if times[row] // rules.bucket_us >= _bucket_floor(log.state, rules):
            _append(log, identities[row, 0], identities[row, 1], times[row], rules)


@compiled
def _move(log: _Log, entries: NDArray[np.int64]) -> None:
    """Copy what is held to entries of another capacity."""
    for number in range(log.state[_OLDEST], log.state[_NEXT]):
        entries[number % len(entries)] = log.entries[number % len(log.entries)]


@compiled
def _link(log: _Log) -> None:
    """Make the chains anew."""
    entries, heads, _, state = log
    for number in range(state[_OLDEST], state[_NEXT]):
        place = number % len(entries)
        home = entries[place, _LOW] & (len(heads) - 1)
        entries[place, _BEFORE] = _number(number - 1, np.int64(heads[home]))
        heads[home] = np.uint32(number & _WORD)


class IdLog:
    """The ids stored of one topic partition's trades of one key group, and its clock.

    An id costs 32 bytes in the log and 4 to 8 in the index; the log has up to a quarter of free room, four times
    as much after ids were let go. It is held until the clock is two windows beyond it, and at most a bucket longer.
    """

    def __init__(self, rules: WindowRules, clock: ClockState = ClockState()) -> None:  # noqa: B008  immutable
        self._rules = rules
        # A bucket a segment; as many again while those that a jump of the clock spares are held on.
        segments = 2 * (WINDOWS_HELD * (rules.window_us // rules.bucket_us) + 3)
        self._log = _Log(
            entries=np.empty((_CAPACITY_MIN, 4), dtype=np.int64),
            heads=np.zeros(_CAPACITY_MIN, dtype=np.uint32),
            segments=np.empty((segments, 3), dtype=np.int64),
            # Number 0 is no entry's: a head of 0 leads nowhere.
            state=np.array([1, 1, 0, 0, *clock], dtype=np.int64),
        )
        self._bears = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        """Give the number of ids held."""
        return int(self._log.state[_NEXT] - self._log.state[_OLDEST])

    @property
    def clock(self) -> ClockState:
        """How far the partition is in Kafka time."""
        return ClockState(*self._log.state[_REACHED:].tolist())

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        return sum(part.nbytes for part in self._log) + self._bears.nbytes

    def judge(
        self,
        symbols: NDArray[np.int32],
        identities: NDArray[np.int64],
        times: NDArray[np.int64],
        stored: NDArray[np.bool_],
    ) -> None:
        """Mark in bool[n] `stored` those of n rows of this partition, in their order, that are stored here.

        A row that is marked already moves the clock alone; another one that is not found is held from now on.
        `identities` is int64[n, 2], `times` int64[n] microseconds from 0 to 2^61.
        """
        self._prepare(symbols)
        _judge(self._log, identities, times, self._rules, stored)

    def mark(
        self,
        symbols: NDArray[np.int32],
        identities: NDArray[np.int64],
        times: NDArray[np.int64],
        stored: NDArray[np.bool_],
    ) -> None:
        """Mark likewise, of rows of another partition; nothing here changes."""
        _mark(self._log, self._bears, symbols, identities, times, self._rules, stored)

    def absorb(self, symbols: NDArray[np.int32], identities: NDArray[np.int64], times: NDArray[np.int64]) -> None:
        """Hold rows that are stored, in any order; the clock stands still."""
        self._prepare(symbols)
        order = np.argsort(times, kind="stable")
        _absorb(self._log, identities[order], times[order], self._rules)

    def _prepare(self, symbols: NDArray[np.int32]) -> None:
        """See to room for as many entries more, and note what symbols they are of."""
        highest = int(symbols.max(initial=-1))
        if highest >= len(self._bears):
            self._bears = np.concatenate([self._bears, np.zeros(highest + 1 - len(self._bears), dtype=np.bool_)])
        self._bears[symbols] = True
        count = len(self) + len(symbols)
        if not count <= len(self._log.entries) <= max(5 * count, _CAPACITY_MIN):
            entries = np.empty((max(count + count // 4, _CAPACITY_MIN), 4), dtype=np.int64)
            _move(self._log, entries)
            self._log = self._log._replace(entries=entries)
        if not count <= len(self._log.heads) <= max(8 * count, _CAPACITY_MIN):
            size = max(1 << (count - 1).bit_length(), _CAPACITY_MIN)
            self._log = self._log._replace(heads=np.zeros(size, dtype=np.uint32))
            _link(self._log)

"""The window's ids as compiled loops hold them: a log of each topic partition, and an index into it.

An entry is found by a chain through the log, which leads from newer entries to older ones alone. So the
oldest are let go by moving a mark, and nothing is looked at one by one.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.dedup.window import WINDOWS_HELD, WindowRules
from k2.model.compiled import compiled
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED

__all__ = ["ClockState", "IdLog"]

# Columns of an entry.
_LOW, _HIGH, _AT, _LINK = range(4)
# Columns of a segment.
_START, _LABEL, _LATEST = range(3)
# Places of a log's state.
_OLDEST, _NEXT, _FIRST_SEGMENT, _NEXT_SEGMENT, _REACHED, _NEWEST, _AHEAD = range(7)

_WORD: Final = 0xFFFF_FFFF
_WORD_BITS: Final = 32
_CAPACITY_MIN: Final = 64


class ClockState(NamedTuple):
    """What `k2.dedup.window.Clock` knows, and the latest time seen; microseconds since the epoch."""

    reached: int = 0
    newest: int = 0
    ahead: int = 0


class _Log(NamedTuple):
    """Entries are numbered as they come; number n lies at n modulo the capacity.

    Those of a stretch of time are a segment, which is let go as a whole.
    """

    entries: NDArray[np.int64]
    """int64[capacity, 4]: identity (low and high word), Kafka time, and in one the content (upper half) and the lower
    half of the number of the entry before it in its chain."""
    heads: NDArray[np.uint32]
    """uint32[power of two]: the lower half of the number of each chain's newest entry. One of 2^32 entries ago may
    be taken for a live one, here and within a chain: then it has entries of another, and identities are compared
    anyhow."""
    segments: NDArray[np.int64]
    """int64[ring, 3]: the number of its first entry, the bucket that the clock had reached, and the latest time."""
    state: NDArray[np.int64]
    """int64[7]: the oldest entry, the next one, the first segment, the next one, the clock's three."""


@compiled
def _bucket_floor(state: NDArray[np.int64], rules: WindowRules) -> int:
    """Return the first bucket whose ids are held; as `WindowRules.floor`."""
    return int((state[_REACHED] - WINDOWS_HELD * rules.window_us) // rules.bucket_us)


@compiled
def _number(newest: int, word: np.int64) -> int:
    """Return the number, not above the newest, whose lower half is given."""
    return int(newest - ((newest - word) & _WORD))


@compiled
def _link_of(content: np.int64, before: np.int64) -> np.int64:
    return np.int64((content << _WORD_BITS) | (before & _WORD))


@compiled
def _content_in(link: np.int64) -> np.int64:
    return np.int64((link >> _WORD_BITS) & _WORD)


@compiled
def _found(log: _Log, identity: NDArray[np.int64], at: int, rules: WindowRules) -> int:
    """Return the verdict on an identity with its content, by those held at or above the floor, within a window."""
    entries, heads, _, state = log
    low, high, content = identity
    floor = _bucket_floor(state, rules) * rules.bucket_us
    number = _number(state[_NEXT] - 1, np.int64(heads[low & (len(heads) - 1)]))
    verdict = STORED
    while number >= state[_OLDEST]:
        place = number % len(entries)
        if entries[place, _LOW] == low and entries[place, _HIGH] == high:
            time = entries[place, _AT]
            if time >= floor and abs(time - at) <= rules.window_us:
                if _content_in(entries[place, _LINK]) == content:
                    return DUPLICATE
                verdict = CONFLICT
        number = _number(number - 1, entries[place, _LINK] & _WORD)
    return verdict


@compiled
def _append(log: _Log, low: np.int64, high: np.int64, content: np.int64, at: int, rules: WindowRules) -> None:
    """Hold an identity with its content; there is room for it."""
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
    entries[place, _LINK] = _link_of(content, np.int64(heads[home]))
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
            content = _content_in(entries[place, _LINK])
            state[_OLDEST] += 1
            if at >= bucket_floor * rules.bucket_us:
                _append(log, low, high, content, at, rules)


@compiled
def _advance(log: _Log, at: int, rules: WindowRules) -> None:
    """Move the clock to a row's time, as `k2.dedup.window.Clock` does, and let go of what is below the floor then."""
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
def _mark_row(
    log: _Log, identity: NDArray[np.int64], at: int, rules: WindowRules, verdicts: NDArray[np.uint8], row: int
) -> None:
    """Mark a row that is held here: as a duplicate of any, or else as in conflict."""
    if verdicts[row] != DUPLICATE:
        found = _found(log, identity, at, rules)
        if found != STORED:
            verdicts[row] = found


@compiled
def _judge(
    log: _Log, identities: NDArray[np.int64], times: NDArray[np.int64], rules: WindowRules, verdicts: NDArray[np.uint8]
) -> None:
    """Give the verdict on each of n rows in turn; hold those that are to be stored and not too old."""
    for row in range(len(times)):
        at = times[row]
        _advance(log, at, rules)
        _mark_row(log, identities[row], at, rules, verdicts, row)
        if verdicts[row] == STORED and at // rules.bucket_us >= _bucket_floor(log.state, rules):
            _append(log, identities[row, 0], identities[row, 1], identities[row, 2], at, rules)


@compiled
def _mark(
    log: _Log,
    bears: NDArray[np.bool_],
    symbols: NDArray[np.int32],
    identities: NDArray[np.int64],
    times: NDArray[np.int64],
    rules: WindowRules,
    verdicts: NDArray[np.uint8],
) -> None:
    """Mark those of n rows, of another topic partition, that are held here; bool[symbols] `bears` says of which."""
    for row in range(len(times)):
        if symbols[row] < len(bears) and bears[symbols[row]]:
            _mark_row(log, identities[row], times[row], rules, verdicts, row)


@compiled
def _absorb(log: _Log, identities: NDArray[np.int64], times: NDArray[np.int64], rules: WindowRules) -> None:
    """Hold n identities, their times ascending, as far as the clock, which stands still, lets them."""
    for row in range(len(times)):
        log.state[_NEWEST] = max(log.state[_NEWEST], times[row])
        if times[row] // rules.bucket_us >= _bucket_floor(log.state, rules):
            _append(log, identities[row, 0], identities[row, 1], identities[row, 2], times[row], rules)


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
        entries[place, _LINK] = _link_of(_content_in(entries[place, _LINK]), np.int64(heads[home]))
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
        """Return the number of ids held."""
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
        verdicts: NDArray[np.uint8],
    ) -> None:
        """Mark in uint8[n] `verdicts` those of n rows of this partition, in their order, whose id is held here.

        One that is held with the same content is a `DUPLICATE`, with other content alone a `CONFLICT`. A row that
        is `STORED` is held from now on. `identities` is int64[n, 3]: low word, high word, and 32 bits of content;
        `times` is int64[n], microseconds from 0 to 2^61.
        """
        self._prepare(symbols)
        _judge(self._log, identities, times, self._rules, verdicts)

    def mark(
        self,
        symbols: NDArray[np.int32],
        identities: NDArray[np.int64],
        times: NDArray[np.int64],
        verdicts: NDArray[np.uint8],
    ) -> None:
        """Mark likewise, of rows of another partition; nothing here changes."""
        _mark(self._log, self._bears, symbols, identities, times, self._rules, verdicts)

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

"""Id log: the trade ids of the deduplication window, as a ring of entries with a hash index, by topic partition.

The hash chains lead through the log from newer to older entries only. The oldest entries therefore expire by advancing
an index, without visiting them one by one.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.dedup.window import WINDOWS_HELD, WindowRules
from k2.model.compiled import compiled
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED

__all__ = ["ClockState", "Entries", "IdLog"]

# Columns of an entry.
_LOW, _HIGH, _TIME, _LINK = range(4)
# Columns of a segment.
_START, _BUCKET, _LATEST = range(3)
# Elements of the state of a log.
_OLDEST, _NEXT, _FIRST_SEGMENT, _NEXT_SEGMENT, _REACHED, _NEWEST, _AHEAD = range(7)

_WORD: Final = 0xFFFF_FFFF
_WORD_BITS: Final = 32
_CAPACITY_MIN: Final = 64


class ClockState(NamedTuple):
    """State of a `k2.dedup.window.Clock`, and the latest time seen; times in microseconds since the epoch."""

    reached: int = 0
    newest: int = 0
    ahead: int = 0


class Entries(NamedTuple):
    """Entries of a log, in their order."""

    lows: NDArray[np.int64]
    """int64[n], low words of the trade-id hashes."""
    highs: NDArray[np.int64]
    """int64[n], high words."""
    contents: NDArray[np.uint32]
    """uint32[n], 32 bits of the contents' fingerprints."""
    times: NDArray[np.int64]
    """int64[n], Kafka time (venue time if there is none), microseconds since the epoch."""


class _Log(NamedTuple):
    """A ring of entries, numbered in order of arrival; entry n is at n modulo the capacity.

    The entries of a time bucket form a segment, which expires as a whole.
    """

    entries: NDArray[np.int64]
    """int64[capacity, 4]: trade-id hash (low and high word), Kafka time, and the link: the content in its upper half,
    and in its lower half the lower half of the number of the previous entry in the chain."""
    heads: NDArray[np.uint32]
    """uint32[power of two]: lower half of the number of the newest entry of each chain. A number of 2^32 entries ago
    may look like a live one, here and in links. The chain then continues in entries of another chain, which is harmless
    because the hashes are compared."""
    segments: NDArray[np.int64]
    """int64[ring, 3]: number of the first entry, bucket (the earlier one of entry and clock), and latest time."""
    state: NDArray[np.int64]
    """int64[7]: oldest entry, next entry, first segment, next segment, and the three values of the clock."""


def _read_only(array: Any) -> NDArray[Any]:
    view: NDArray[Any] = array.view()
    view.flags.writeable = False
    return view


@compiled
def _bucket_floor(state: NDArray[np.int64], rules: WindowRules) -> int:
    """Return the first bucket whose ids are held; see `WindowRules.floor`."""
    return int((state[_REACHED] - WINDOWS_HELD * rules.window_us) // rules.bucket_us)


@compiled
def _number_of(newest: int, word: np.int64) -> int:
    """Return the highest number up to `newest` whose lower half is `word`."""
    return int(newest - ((newest - word) & _WORD))


@compiled
def _link_of(content: np.int64, before: np.int64) -> np.int64:
    return np.int64((content << _WORD_BITS) | (before & _WORD))


@compiled
def _content_in(link: np.int64) -> np.int64:
    return np.int64((link >> _WORD_BITS) & _WORD)


@compiled
def _find(log: _Log, id_key: NDArray[np.int64], time: int, rules: WindowRules) -> int:
    """Return the verdict on a trade by the held entries at or above the floor and within a window of its time."""
    entries, heads, _, state = log
    low, high, content = id_key
    floor = _bucket_floor(state, rules) * rules.bucket_us
    number = _number_of(state[_NEXT] - 1, np.int64(heads[low & (len(heads) - 1)]))
    verdict = STORED
    while number >= state[_OLDEST]:
        entry_idx = number % len(entries)
        if entries[entry_idx, _LOW] == low and entries[entry_idx, _HIGH] == high:
            held_time = entries[entry_idx, _TIME]
            if held_time >= floor and abs(held_time - time) <= rules.window_us:
                if _content_in(entries[entry_idx, _LINK]) == content:
                    return DUPLICATE
                verdict = CONFLICT
        number = _number_of(number - 1, entries[entry_idx, _LINK] & _WORD)
    return verdict


@compiled
def _append(log: _Log, low: np.int64, high: np.int64, content: np.int64, time: int, rules: WindowRules) -> None:
    """Append an entry; the log must have capacity for it."""
    entries, heads, segments, state = log
    number, head_idx = state[_NEXT], low & (len(heads) - 1)
    bucket = min(time, state[_REACHED]) // rules.bucket_us
    last = (state[_NEXT_SEGMENT] - 1) % len(segments)
    if state[_FIRST_SEGMENT] == state[_NEXT_SEGMENT] or segments[last, _BUCKET] < bucket:
        last = state[_NEXT_SEGMENT] % len(segments)
        segments[last, _START], segments[last, _BUCKET], segments[last, _LATEST] = number, bucket, time
        state[_NEXT_SEGMENT] += 1
    segments[last, _LATEST] = max(segments[last, _LATEST], time)
    entry_idx = number % len(entries)
    entries[entry_idx, _LOW], entries[entry_idx, _HIGH], entries[entry_idx, _TIME] = low, high, time
    entries[entry_idx, _LINK] = _link_of(content, np.int64(heads[head_idx]))
    heads[head_idx] = np.uint32(number & _WORD)
    state[_NEXT] += 1


@compiled
def _expire(log: _Log, rules: WindowRules) -> None:
    """Expire the segments below the floor; entries of such a segment with a later time are appended again."""
    entries, _, segments, state = log
    bucket_floor = _bucket_floor(state, rules)
    while state[_FIRST_SEGMENT] < state[_NEXT_SEGMENT]:
        first = state[_FIRST_SEGMENT] % len(segments)
        if segments[first, _BUCKET] >= bucket_floor:
            return
        state[_FIRST_SEGMENT] += 1
        is_last = state[_FIRST_SEGMENT] == state[_NEXT_SEGMENT]
        end = state[_NEXT] if is_last else segments[state[_FIRST_SEGMENT] % len(segments), _START]
        if segments[first, _LATEST] < bucket_floor * rules.bucket_us:
            state[_OLDEST] = end
        while state[_OLDEST] < end:
            entry_idx = state[_OLDEST] % len(entries)
            low, high, time = entries[entry_idx, _LOW], entries[entry_idx, _HIGH], entries[entry_idx, _TIME]
            content = _content_in(entries[entry_idx, _LINK])
            state[_OLDEST] += 1
            if time >= bucket_floor * rules.bucket_us:
                _append(log, low, high, content, time, rules)


@compiled
def _advance(log: _Log, time: int, rules: WindowRules) -> None:
    """Advance the clock to the time of a row, as `k2.dedup.window.Clock` does, and expire ids below the new floor."""
    state = log.state
    reached = state[_REACHED]
    state[_NEWEST] = max(state[_NEWEST], time)
    is_ahead = time > reached + rules.window_us
    state[_AHEAD] = state[_AHEAD] + 1 if is_ahead else 0
    if time > reached and (not is_ahead or state[_AHEAD] >= rules.confirmations):
        state[_REACHED], state[_AHEAD] = time, 0
        if time // rules.bucket_us != reached // rules.bucket_us:
            _expire(log, rules)


@compiled
def _mark_row(
    log: _Log, id_key: NDArray[np.int64], time: int, rules: WindowRules, verdicts: NDArray[np.uint8], row: int
) -> None:
    """Mark a row whose id is held: as a duplicate if any content is equal, else as a conflict."""
    if verdicts[row] != DUPLICATE:
        found = _find(log, id_key, time, rules)
        if found != STORED:
            verdicts[row] = found


@compiled
def _judge(
    log: _Log, id_keys: NDArray[np.int64], times: NDArray[np.int64], rules: WindowRules, verdicts: NDArray[np.uint8]
) -> None:
    """Judge n rows in order; append those that are `STORED` and not below the floor."""
    for row in range(len(times)):
        time = times[row]
        _advance(log, time, rules)
        _mark_row(log, id_keys[row], time, rules, verdicts, row)
        if verdicts[row] == STORED and time // rules.bucket_us >= _bucket_floor(log.state, rules):
            _append(log, id_keys[row, 0], id_keys[row, 1], id_keys[row, 2], time, rules)


@compiled
def _mark(
    log: _Log,
    has_symbol: NDArray[np.bool_],
    symbols: NDArray[np.int32],
    id_keys: NDArray[np.int64],
    times: NDArray[np.int64],
    rules: WindowRules,
    verdicts: NDArray[np.uint8],
) -> None:
    """Mark those of n rows of another topic partition whose id is held here.

    `has_symbol` is bool[symbols]: the symbols that this log has entries of.
    """
    for row in range(len(times)):
        if symbols[row] < len(has_symbol) and has_symbol[symbols[row]]:
            _mark_row(log, id_keys[row], times[row], rules, verdicts, row)


@compiled
def _absorb(log: _Log, entries: Entries, rules: WindowRules) -> None:
    """Append entries, except those below the floor; the clock does not advance."""
    lows, highs, contents, times = entries
    floor = _bucket_floor(log.state, rules) * rules.bucket_us
    for row in range(len(times)):
        log.state[_NEWEST] = max(log.state[_NEWEST], times[row])
        if times[row] >= floor:
            _append(log, lows[row], highs[row], np.int64(contents[row]), times[row], rules)


@compiled
def _move(log: _Log, entries: NDArray[np.int64]) -> None:
    """Copy the held entries to an array of another capacity."""
    for number in range(log.state[_OLDEST], log.state[_NEXT]):
        entries[number % len(entries)] = log.entries[number % len(log.entries)]


@compiled
def _link(log: _Log) -> None:
    """Rebuild the hash chains."""
    entries, heads, _, state = log
    for number in range(state[_OLDEST], state[_NEXT]):
        entry_idx = number % len(entries)
        head_idx = entries[entry_idx, _LOW] & (len(heads) - 1)
        entries[entry_idx, _LINK] = _link_of(_content_in(entries[entry_idx, _LINK]), np.int64(heads[head_idx]))
        heads[head_idx] = np.uint32(number & _WORD)


class IdLog:
    """The stored ids of one topic partition's trades in one key group, and the partition's clock.

    Memory: 32 bytes per id in the log and 4 to 8 in the index. The log has spare capacity for
    up to a quarter of the held ids, and for up to four times the held ids after others have expired. An id is held
    until the clock is two windows ahead of it, and at most one bucket longer.
    """

    def __init__(self, rules: WindowRules, clock: ClockState = ClockState()) -> None:  # noqa: B008  immutable
        self._rules = rules
        # One segment per bucket, and the same number again for the entries that outlive a jump of the clock.
        segments = 2 * (WINDOWS_HELD * (rules.window_us // rules.bucket_us) + 3)
        self._log = _Log(
            entries=np.empty((_CAPACITY_MIN, 4), dtype=np.int64),
            heads=np.zeros(_CAPACITY_MIN, dtype=np.uint32),
            segments=np.empty((segments, 3), dtype=np.int64),
            # Entries are numbered from 1, so a head of 0 ends the chain.
            state=np.array([1, 1, 0, 0, *clock], dtype=np.int64),
        )
        self._has_symbol = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        """Return the number of held ids."""
        return int(self._log.state[_NEXT] - self._log.state[_OLDEST])

    @property
    def clock(self) -> ClockState:
        """Kafka time reached in the partition."""
        return ClockState(*self._log.state[_REACHED:].tolist())

    @property
    def entry_range(self) -> tuple[int, int]:
        """The number of the oldest entry, and that of the next one; an entry keeps its number while it is held."""
        return int(self._log.state[_OLDEST]), int(self._log.state[_NEXT])

    @property
    def symbols(self) -> NDArray[np.intp]:
        """intp[k]: the symbol ids of the entries, and possibly of older ones."""
        return np.flatnonzero(self._has_symbol)

    def entries_from(self, first: int) -> Entries:
        """Return the entries from number `first` on."""
        entries = self._log.entries[np.arange(first, self.entry_range[1]) % len(self._log.entries)]
        contents = ((entries[:, _LINK] >> _WORD_BITS) & _WORD).astype(np.uint32)
        return Entries(entries[:, _LOW].copy(), entries[:, _HIGH].copy(), contents, entries[:, _TIME].copy())

    def start_clock(self, reached: int) -> None:
        """Set the clock of a log that has none."""
        self._log.state[_REACHED] = reached

    @property
    def size_bytes(self) -> int:
        """Memory used, bytes."""
        return sum(part.nbytes for part in self._log) + self._has_symbol.nbytes

    def judge(
        self,
        symbols: NDArray[np.int32],
        id_keys: NDArray[np.int64],
        times: NDArray[np.int64],
        verdicts: NDArray[np.uint8],
    ) -> None:
        """Mark those of n rows of this partition whose id is held; hold the ids of the others.

        A row is a `DUPLICATE` if its id is held with the same content, and a `CONFLICT` if with other content only.

        Args:
            symbols: int32[n], symbol ids.
            id_keys: int64[n, 3]: trade-id hash, low and high word, and 32 bits of content.
            times: int64[n], microseconds from 0 to 2^61.
            verdicts: uint8[n], changed in place.
        """
        self.reserve(symbols, len(symbols))
        _judge(self._log, id_keys, times, self._rules, verdicts)

    def mark(
        self,
        symbols: NDArray[np.int32],
        id_keys: NDArray[np.int64],
        times: NDArray[np.int64],
        verdicts: NDArray[np.uint8],
    ) -> None:
        """Mark those of n rows of another partition whose id is held; see `judge`. The log does not change."""
        _mark(self._log, self._has_symbol, symbols, id_keys, times, self._rules, verdicts)

    def absorb(self, symbols: NDArray[np.int32], id_keys: NDArray[np.int64], times: NDArray[np.int64]) -> None:
        """Hold the ids of stored rows, in any order; the clock does not advance. Arguments as for `judge`."""
        self.reserve(symbols, len(times))
        order = np.argsort(times, kind="stable")
        lows, highs, contents = (id_keys[order, column] for column in range(3))
        self.restore(Entries(lows, highs, contents.astype(np.uint32), times[order]))

    def restore(self, entries: Entries) -> None:
        """Hold entries in their order, except those below the floor; `reserve` comes before."""
        # What comes from a checkpoint cannot be written; the loop is compiled for one form of arrays.
        lows, highs, contents = (_read_only(words) for words in entries[:3])
        _absorb(self._log, Entries(lows, highs, contents, entries.times), self._rules)

    def reserve(self, symbols: NDArray[np.int32], more: int) -> None:
        """Reserve capacity for some more entries, and record their symbols: int32[k], symbol ids."""
        highest = int(symbols.max(initial=-1))
        if highest >= len(self._has_symbol):
            self._has_symbol = np.concatenate(
                [self._has_symbol, np.zeros(highest + 1 - len(self._has_symbol), dtype=np.bool_)]
            )
        self._has_symbol[symbols] = True
        count = len(self) + more
        if not count <= len(self._log.entries) <= max(5 * count, _CAPACITY_MIN):
            entries = np.empty((max(count + count // 4, _CAPACITY_MIN), 4), dtype=np.int64)
            _move(self._log, entries)
            self._log = self._log._replace(entries=entries)
        if not count <= len(self._log.heads) <= max(8 * count, _CAPACITY_MIN):
            size = max(1 << (count - 1).bit_length(), _CAPACITY_MIN)
            self._log = self._log._replace(heads=np.zeros(size, dtype=np.uint32))
            _link(self._log)

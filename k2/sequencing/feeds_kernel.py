"""The compiled loop of feeds: trades that continue what their feed brought of a symbol, and how late each copy came."""

from math import log2
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME, TradeBatch
from k2.model.compiled import compiled
from k2.model.feeds import BUCKETS, HIGHEST, SESSION, TOP_START
from k2.model.times import SECOND_US
from k2.model.verdicts import DUPLICATE, SKIPPED, STORED

__all__ = [
    "DAY",
    "DAY_US",
    "SUM",
    "Copies",
    "FeedColumns",
    "Sums",
    "bucket_of",
    "feed_columns",
    "follow_feed",
    "note_copy",
    "session_of",
]

DAY, SUM = range(2)
"""Columns of a symbol: the day of its trades, in days since the epoch, and the index of its sums."""
DAY_US: Final = 86_400 * SECOND_US
_STRIDE, _SESSION_STRIDE = 40_503, 12_289
"""Symbols and sessions begin this far apart in `Copies`, modulo its size; odd, and far from powers of 2."""
_SESSIONS: Final = 1 << 24
_LONG_MAX: Final = np.iinfo(np.int64).max


class FeedColumns(NamedTuple):
    """The columns of a batch that the loop reads."""

    symbols: NDArray[np.int32]
    has_sequence: NDArray[np.bool_]
    first_sequences: NDArray[np.int64]
    sequences: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    """int64[n], venue time, microseconds."""
    messages: NDArray[np.int32]
    kafka_timestamps: NDArray[np.int64]
    """int64[messages], microseconds; `NULL_TIME` if the broker has none."""


class Copies(NamedTuple):
    """The Kafka timestamps of the newest trades: an entry for each, which a later trade at the same place replaces."""

    numbers: NDArray[np.int64]
    """int64[size], size a power of 2."""
    owners: NDArray[np.int64]
    """int64[size], symbol and session; -1 for no trade."""
    times: NDArray[np.int64]
    """int64[size, feeds], `NULL_TIME` for a feed that has not brought the trade."""


class Sums(NamedTuple):
    """Trades that all feeds brought, by exchange and day."""

    firsts: NDArray[np.int64]
    """int64[sums, feeds], trades that a feed brought before all others."""
    lags: NDArray[np.int64]
    """int64[sums, feeds, `BUCKETS`], trades by how much later than the first a feed brought them."""


def feed_columns(batch: TradeBatch) -> FeedColumns:
    """Return the columns of a batch that the loop reads, without copying."""
    columns = batch.columns
    return FeedColumns(
        columns.symbols,
        columns.has_sequence,
        columns.first_sequences,
        columns.sequences,
        columns.timestamps,
        columns.messages,
        batch.source.kafka_timestamps,
    )


@compiled
def bucket_of(lag_us: int) -> int:
    """Return the bucket of a lag in microseconds, which is not negative."""
    if lag_us == 0:
        return 0
    return min(1 + int(4 * log2(max(lag_us, 1_000) / 1_000)), BUCKETS - 1)


@compiled
def note_copy(
    feed: int,
    peers: int,
    slot_idx: int,
    session: int,
    number: int,
    kafka_time: int,
    sum_idx: int,
    copies: Copies,
    sums: Sums,
) -> None:
    """Note when a feed brought a trade; add the trade to the sums once all `peers` feeds of its venue have brought it.

    What a feed brings twice is noted once. The order in which feeds are read makes no difference, as long as the trade
    is not replaced.
    """
    numbers, owners, times = copies
    if kafka_time == NULL_TIME:
        return
    idx = (number + slot_idx * _STRIDE + session * _SESSION_STRIDE) & (len(numbers) - 1)
    owner = slot_idx * _SESSIONS + session
    if numbers[idx] != number or owners[idx] != owner:
        numbers[idx], owners[idx] = number, owner
        for other in range(times.shape[1]):
            times[idx, other] = NULL_TIME
    if times[idx, feed] != NULL_TIME:
        return
    times[idx, feed] = kafka_time
    earliest, present, at_earliest, first = _LONG_MAX, 0, 0, 0
    for other in range(times.shape[1]):
        time = times[idx, other]
        if time == NULL_TIME:
            continue
        present += 1
        at_earliest = 1 if time < earliest else at_earliest + (time == earliest)
        if time < earliest:
            earliest, first = time, other
    if present < peers:
        return
    if at_earliest == 1:
        sums.firsts[sum_idx, first] += 1
    for other in range(times.shape[1]):
        if times[idx, other] != NULL_TIME:
            sums.lags[sum_idx, other, bucket_of(times[idx, other] - earliest)] += 1


@compiled
def session_of(verdict: int, session: int, slots: NDArray[np.int64]) -> int:
    """Return the session of a row of a symbol with int64[feeds, COLUMNS] slots; 0 if the feed did not bring its number.

    A copy of a non-market trade has no session: it counts in the newest that any feed has reached.
    """
    if verdict == SKIPPED and session == 0:
        newest = 0
        for feed in range(len(slots)):
            newest = max(newest, slots[feed, SESSION])
        return newest
    return session if verdict in (STORED, DUPLICATE, SKIPPED) else 0


@compiled
def follow_feed(
    position: int,
    feed: int,
    peers: int,
    rows: NDArray[np.int32],
    verdicts: NDArray[np.uint8],
    sessions: NDArray[np.int32],
    columns: FeedColumns,
    slot_of: NDArray[np.int32],
    slots: NDArray[np.int64],
    days: NDArray[np.int64],
    copies: Copies,
    sums: Sums,
) -> int:
    """Follow the rows of one feed from `position` on, up to the first one that needs its ranges or another day's sum.

    int32[m] `rows` are indices into the columns, with uint8[m] `verdicts` and int32[m] `sessions`; int32[symbols]
    `slot_of` is the slot of each symbol in `slots`, int64[slots, feeds, COLUMNS], and `days`, int64[slots, 2]. `slots`,
    `copies` and `sums` are changed in place. Returns the index in `rows` of the first row that was not followed, or m.
    """
    symbols, has_sequence, first_sequences, sequences, timestamps, messages, kafka_timestamps = columns
    for slice_idx in range(position, len(rows)):
        row, verdict = rows[slice_idx], verdicts[slice_idx]
        if not has_sequence[row]:
            continue
        # As Python calls the two functions, so that they are compiled once.
        slot_idx: Any = np.int64(slot_of[symbols[row]])
        outcome: Any = np.int64(verdict)
        stored_session: Any = np.int64(sessions[slice_idx])
        session = session_of(outcome, stored_session, slots[slot_idx])
        if session == 0:
            continue
        slot = slots[slot_idx, feed]
        if session != slot[SESSION] or days[slot_idx, DAY] != timestamps[row] // DAY_US:
            return slice_idx
        first, last = first_sequences[row], sequences[row]
        # No addition to HIGHEST, which may be the greatest int64.
        if first > slot[HIGHEST] and first - 1 == slot[HIGHEST]:
            slot[HIGHEST] = last
        elif first < slot[TOP_START] or last > slot[HIGHEST]:
            return slice_idx
        if verdict != SKIPPED:
            time = kafka_timestamps[messages[row]]
            note_copy(feed, peers, slot_idx, session, last, time, days[slot_idx, SUM], copies, sums)
    return len(rows)

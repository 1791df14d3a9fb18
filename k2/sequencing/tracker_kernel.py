"""The compiled loop of sequence tracking.

It places rows that continue the newest session of their symbol, copy its trades, open or fill a gap, or are its first
conflict.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME, TradeBatch
from k2.model.compiled import compiled
from k2.model.content import (
    COVERED,
    NON_MARKET_CONTENT,
    UNKNOWN,
    ContentColumns,
    fingerprint_at,
    fingerprint_of,
    id_word,
)
from k2.model.verdicts import CONFLICT, DUPLICATE, HEAD, SKIPPED, STORED
from k2.sequencing.effective_time import effective_time
from k2.sequencing.fingerprints import (
    NO_PAGE,
    PAGE_BITS,
    PAGE_NUMBERS,
    Pages,
    find_page,
    find_session,
    read_fingerprint,
    take_page,
    write_fingerprint,
)
from k2.sequencing.heads import HEAD_NUMBER, HEAD_SINCE
from k2.sequencing.kernel_layout import (
    CHECKED,
    CONTRADICTED,
    DOUBT_HERE,
    DOUBTED,
    EARLIEST,
    HIGHEST,
    LATEST,
    OLD_HIGHEST,
    SESSION,
    STARTED,
    TOP_PAGE,
    TOP_START,
)
from k2.sequencing.recent_ranges import add_event, begin_doubt, contradicts, settle_doubt, take_number
from k2.sequencing.sequence import SESSIONS_SEARCHED

__all__ = ["TrackedColumns", "evidence_at", "follow", "heads_only", "tracked_columns"]

_NONE: Final = np.iinfo(np.int64).min
_UNDECIDED: Final = -1
"""No verdict: `SymbolSequence` decides."""
_FIRST_SESSION: Final[Any] = np.int64(1)
"""Not the literal, which is another type, for which `take_page` would be compiled again."""

_effective_time: Final = compiled(effective_time)


class TrackedColumns(NamedTuple):
    """The columns of a batch that sequence tracking reads."""

    symbols: NDArray[np.int32]
    """int32[n], symbol ids."""
    has_sequence: NDArray[np.bool_]
    """bool[n]; a row without a number is ignored."""
    first_sequences: NDArray[np.int64]
    """int64[n]: the first number that a row stands for."""
    timestamps: NDArray[np.int64]
    """int64[n], venue time, microseconds."""
    messages: NDArray[np.int32]
    """int32[n], indices into `kafka_timestamps`."""
    kafka_timestamps: NDArray[np.int64]
    """int64[messages], microseconds; `NULL_TIME` if the broker has none."""
    content: ContentColumns


def tracked_columns(batch: TradeBatch) -> TrackedColumns:
    """Return the columns of a batch that tracking reads, without copying."""
    columns = batch.columns
    content = ContentColumns(
        columns.sequences,
        columns.prices,
        columns.quantities,
        columns.sides,
        columns.text,
        columns.id_starts,
        columns.id_sizes,
    )
    return TrackedColumns(
        columns.symbols,
        columns.has_sequence,
        columns.first_sequences,
        columns.timestamps,
        columns.messages,
        batch.source.kafka_timestamps,
        content,
    )


def heads_only(columns: TrackedColumns, rows: NDArray[np.int32]) -> TrackedColumns:
    """Return columns in which only int32[m] `rows` have a number."""
    is_head = np.zeros(len(columns.has_sequence), dtype=np.bool_)
    is_head[rows] = True
    return columns._replace(has_sequence=columns.has_sequence & is_head)


@compiled
def evidence_at(columns: TrackedColumns, row: int, key: np.uint64) -> tuple[int, int, bool, int]:
    """Return the content, the effective time, whether the message names a trade id, and the Kafka time of a row.

    The Kafka time is the effective time if the broker has none.
    """
    content = columns.content
    id_hash = id_word(content.sequences[row], content.text, content.id_starts[row], content.id_sizes[row], key)
    kafka_time = columns.kafka_timestamps[columns.messages[row]]
    at = _effective_time(columns.timestamps[row], kafka_time)
    if kafka_time == NULL_TIME:
        kafka_time = at
    return fingerprint_at(content, row, key), at, id_hash != 0, kafka_time


@compiled
def _start(slot: NDArray[np.int64], first: int, sequence: int, at: int, page: int) -> None:
    slot[TOP_START] = first
    slot[HIGHEST] = sequence
    slot[LATEST] = at
    slot[EARLIEST] = at
    slot[SESSION] = 1
    slot[OLD_HIGHEST] = _NONE
    slot[TOP_PAGE] = page
    slot[CHECKED] = _NONE


@compiled
def _continues(slot: NDArray[np.int64], first: int, at: int) -> bool:
    """Return whether a first number is one above the highest, and its trade not earlier than the whole session."""
    # No addition to HIGHEST, which may be the greatest int64.
    return bool(first > slot[HIGHEST] and first - 1 == slot[HIGHEST] and at >= slot[EARLIEST])


@compiled
def _may_be_old(slot: NDArray[np.int64], slot_idx: int, sequence: int, content: int, pages: Pages) -> bool:
    """Return whether a row may be a copy of a trade that an earlier session stores under its number."""
    if sequence >> PAGE_BITS != slot[CHECKED]:
        return True
    # All non-market trades have the same content.
    if content == NON_MARKET_CONTENT:
        return False
    return find_session(pages, slot_idx, slot[SESSION] - 1, SESSIONS_SEARCHED - 1, sequence, content) != 0


@compiled
def _page_of(slot: NDArray[np.int64], slot_idx: int, sequence: int, pages: Pages) -> int:
    """Return the page of a number of the newest session; `NO_PAGE` if it has none."""
    if slot[TOP_PAGE] != NO_PAGE and sequence >> PAGE_BITS == slot[HIGHEST] >> PAGE_BITS:
        return int(slot[TOP_PAGE])
    return find_page(pages, slot_idx, slot[SESSION], sequence)


@compiled
def _page_after(slot: NDArray[np.int64], slot_idx: int, sequence: int, pages: Pages) -> int:
    """Return the page of the number after the highest, taking a free one if needed; `NO_PAGE` if none is free."""
    page = find_page(pages, slot_idx, slot[SESSION], sequence)
    return page if page != NO_PAGE else take_page(pages, slot_idx, slot[SESSION], sequence)


@compiled
def _write(
    headers: NDArray[np.int64],
    words: NDArray[np.uint16],
    page: int,
    first: int,
    sequence: int,
    content: int,
    kafka_time: int,
) -> None:
    """Write the content of a trade to its page, and that the other numbers of its range are covered.

    All numbers of a non-market trade have its content, as after a start.
    """
    covered = NON_MARKET_CONTENT if content == NON_MARKET_CONTENT else COVERED
    for number in range(first, sequence):
        write_fingerprint(headers, words, page, number, covered, kafka_time)
    write_fingerprint(headers, words, page, sequence, content, kafka_time)


@compiled
def _place(
    slot: NDArray[np.int64],
    slot_idx: int,
    ranges: NDArray[np.int64],
    pages: Pages,
    trade: tuple[int, int, int, int, bool],
    slice_idx: int,
    event: NDArray[np.int64],
) -> tuple[int, int]:
    """Place a number that does not continue a session; return the verdict and the number of its events.

    `trade` is first and last number, effective time, content, and whether the row is a trade of the live feed. The
    verdict is `_UNDECIDED`, and nothing is changed, if the specification decides. A number that is stored has a page
    then.
    """
    first, sequence, at, content, is_firm = trade
    if slot[SESSION] == 0:
        page = take_page(pages, slot_idx, _FIRST_SESSION, sequence)
        if page == NO_PAGE:
            return _UNDECIDED, 0
        _start(slot, first, sequence, at, page)
        add_event(event, slice_idx, STARTED, first, sequence, 0)
        return STORED, 1
    page = _page_of(slot, slot_idx, sequence, pages)
    # Only numbers of the session have a content.
    is_known = page != NO_PAGE and sequence <= slot[HIGHEST]
    stored = read_fingerprint(pages.words, page, sequence) if is_known else UNKNOWN
    if stored == content:
        return DUPLICATE, 0
    if stored > COVERED and is_firm and contradicts(slot, ranges, first, sequence):
        begin_doubt(slot, ranges, sequence, at)
        add_event(event, slice_idx, CONTRADICTED, sequence, at, 0)
        return CONFLICT, 1
    if page == NO_PAGE and pages.state[0] == 0:
        return _UNDECIDED, 0
    if sequence <= slot[OLD_HIGHEST] and _may_be_old(slot, slot_idx, sequence, content, pages):
        return _UNDECIDED, 0
    if not take_number(slot, ranges, first, sequence, at, slice_idx, event):
        return _UNDECIDED, 0
    if page == NO_PAGE:
        page = take_page(pages, slot_idx, slot[SESSION], sequence)
    if sequence == slot[HIGHEST]:
        slot[TOP_PAGE] = page
    return STORED, 1


@compiled
def _is_overdue(
    slot: NDArray[np.int64], head: NDArray[np.int64], sequence: int, kafka_time: int, grace_us: int
) -> bool:
    """Return whether a number that was named has not arrived within the grace period; note this one if it is new."""
    if slot[SESSION] == 0 or sequence <= slot[HIGHEST] or kafka_time == NULL_TIME:
        return False
    if grace_us == 0:
        return True
    # A lower number than the one named before: that was a straggler, or numbering has begun again.
    if head[HEAD_NUMBER] <= slot[HIGHEST] or sequence < head[HEAD_NUMBER]:
        head[HEAD_NUMBER], head[HEAD_SINCE] = sequence, kafka_time
        return False
    return bool(kafka_time - head[HEAD_SINCE] >= grace_us)


@compiled
def follow(
    position: int,
    rows: NDArray[np.int32],
    columns: TrackedColumns,
    key: np.uint64,
    slot_of: NDArray[np.int32],
    slots: NDArray[np.int64],
    heads: NDArray[np.int64],
    head_grace_us: int,
    ranges: NDArray[np.int64],
    pages: Pages,
    verdicts: NDArray[np.uint8],
    sessions: NDArray[np.int32],
    events: NDArray[np.int64],
) -> tuple[int, int]:
    """Track the rows from `position` on, up to the first one that needs its `SymbolSequence`, as ranges over pages do.

    int32[m] `rows` are indices into the columns; int32[symbols] `slot_of` is the slot of each symbol in int64 `slots`,
    `heads` and `ranges`, whose columns are those of their layouts. Slots, heads, ranges, pages, uint8[m] `verdicts` and
    int32[m] `sessions` are changed; int64[m, EVENT_COLUMNS] `events` gets what the rows caused, ascending. Returns the
    index of the first row that was not tracked, or m, and the number of events.
    """
    symbols, has_sequence, first_sequences, timestamps, messages, kafka_timestamps, content_columns = columns
    sequences, prices, quantities, sides, text, id_starts, id_sizes = content_columns
    headers, words, count, is_live = pages.headers, pages.words, 0, head_grace_us != 0
    for slice_idx in range(position, len(rows)):
        row = rows[slice_idx]
        if not has_sequence[row]:
            continue
        slot_idx: Any = np.int64(slot_of[symbols[row]])
        slot, sequence, first, message = slots[slot_idx], sequences[row], first_sequences[row], messages[row]
        is_head, kafka_time = verdicts[slice_idx] == HEAD, kafka_timestamps[message]
        if is_head and not _is_overdue(slot, heads[slot_idx], sequence, kafka_time, head_grace_us):
            continue
        if is_head or first >> PAGE_BITS != sequence >> PAGE_BITS:
            return slice_idx, count
        at = _effective_time(timestamps[row], kafka_time)
        kafka_time = at if kafka_time == NULL_TIME else kafka_time
        is_market, content, verdict = verdicts[slice_idx] != SKIPPED, NON_MARKET_CONTENT, STORED
        if is_market:
            id_hash = id_word(sequence, text, id_starts[row], id_sizes[row], key)
            price, quantity = prices[row], quantities[row]
            content = fingerprint_of(id_hash, sides[row], price[0], price[1], quantity[0], quantity[1], key)
        if slot[SESSION] and _continues(slot, first, at):
            is_settled = is_live and ranges[slot_idx, DOUBTED] == DOUBT_HERE
            is_open = sequence <= slot[OLD_HIGHEST] and not is_settled
            if is_open and _may_be_old(slot, slot_idx, sequence, content, pages):
                return slice_idx, count
            page = slot[TOP_PAGE]
            if first & (PAGE_NUMBERS - 1) == 0 or page == NO_PAGE:
                page = _page_after(slot, slot_idx, sequence, pages)
            if page == NO_PAGE:
                return slice_idx, count
            slot[TOP_PAGE], slot[HIGHEST], slot[LATEST] = page, sequence, max(slot[LATEST], at)
            if is_settled:
                settle_doubt(slot, ranges[slot_idx], slice_idx, events[count])
                count += 1
        else:
            trade = first, sequence, at, content, is_market and is_live
            verdict, more = _place(slot, slot_idx, ranges[slot_idx], pages, trade, slice_idx, events[count])
            if verdict == _UNDECIDED:
                return slice_idx, count
            count += more
            page = find_page(pages, slot_idx, slot[SESSION], sequence) if verdict == STORED else NO_PAGE
        if verdict == STORED:
            _write(headers, words, page, first, sequence, content, kafka_time)
        verdicts[slice_idx] = verdict if is_market else SKIPPED
        if is_market or verdict == STORED:
            sessions[slice_idx] = slot[SESSION]
    return len(rows), count

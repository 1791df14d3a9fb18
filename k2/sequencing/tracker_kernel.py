"""The compiled loop of sequence tracking: rows that simply continue their symbol, or copy what its session stores."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME, TradeBatch
from k2.model.compiled import compiled
from k2.model.content import NON_MARKET, ContentColumns, content_at, content_of, id_word
from k2.model.times import TIME_AHEAD_TOLERANCE_US
from k2.model.verdicts import DUPLICATE, SKIPPED, STORED
from k2.sequencing.fingerprints import (
    NO_PAGE,
    PAGE_BITS,
    PAGE_NUMBERS,
    Pages,
    find_page,
    is_stored_elsewhere,
    read_mark,
    take_page,
    write_mark,
)

__all__ = [
    "CHECKED",
    "COLUMNS",
    "EARLIEST",
    "HIGHEST",
    "LATEST",
    "OLD_HIGHEST",
    "SESSION",
    "TOP_PAGE",
    "TOP_START",
    "TrackedColumns",
    "effective_time",
    "evidence_at",
    "follow",
    "tracked_columns",
]

TOP_START: Final = 0
"""Column of a slot: where the topmost range of numbers seen in the newest session starts."""
HIGHEST: Final = 1
"""Column of a slot: where that range ends."""
LATEST: Final = 2
"""Column of a slot: the newest session's latest effective time."""
EARLIEST: Final = 3
"""Column of a slot: the newest session's earliest effective time."""
SESSION: Final = 4
"""Column of a slot: the newest session; 0 before the symbol's first trade."""
OLD_HIGHEST: Final = 5
"""Column of a slot: the highest number of the sessions before; the least int64 where there is none, and the greatest
where the symbol's newest conflict is not settled, so that no row passes the plain form."""
TOP_PAGE: Final = 6
"""Column of a slot: the page of fingerprints that holds `HIGHEST`, or `NO_PAGE`."""
CHECKED: Final = 7
"""Column of a slot: of which page number all fingerprints of sessions before are at hand; the least int64 for none."""
COLUMNS: Final = 8
"""As many as fill a line of a processor's cache."""

_TIME_MAX: Final = np.iinfo(np.int64).max
_NONE: Final = np.iinfo(np.int64).min


class TrackedColumns(NamedTuple):
    """What sequence tracking reads of a batch."""

    symbols: NDArray[np.int32]
    """int32[n], numbers of this process."""
    has_sequence: NDArray[np.bool_]
    """bool[n]; a row without is passed over."""
    timestamps: NDArray[np.int64]
    """int64[n], the venue's, microseconds."""
    messages: NDArray[np.int32]
    """int32[n], into `kafka_timestamps`."""
    kafka_timestamps: NDArray[np.int64]
    """int64[messages], microseconds; `NULL_TIME` where the broker gave none."""
    content: ContentColumns


def tracked_columns(batch: TradeBatch) -> TrackedColumns:
    """Return the columns of a batch that tracking reads, without a copy."""
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
        columns.timestamps,
        columns.messages,
        batch.source.kafka_timestamps,
        content,
    )


@compiled
def effective_time(timestamp: int, kafka_timestamp: int) -> int:
    """Return the time by which a trade is ordered, microseconds.

    It is the venue's, or where that is ahead of the message's Kafka timestamp by more than 5 seconds, the Kafka
    timestamp: so one misdated trade does not hide that numbering began again.
    """
    if kafka_timestamp == NULL_TIME or kafka_timestamp > _TIME_MAX - TIME_AHEAD_TOLERANCE_US:
        return timestamp
    return kafka_timestamp if timestamp > kafka_timestamp + TIME_AHEAD_TOLERANCE_US else timestamp


@compiled
def evidence_at(columns: TrackedColumns, row: int, key: np.uint64) -> tuple[int, int, bool, int]:
    """Return a row's content, effective time, whether its message names a trade id, and its Kafka time.

    The Kafka time is the effective one where the broker gave none.
    """
    content = columns.content
    named = id_word(content.sequences[row], content.text, content.id_starts[row], content.id_sizes[row], key)
    kafka_time = columns.kafka_timestamps[columns.messages[row]]
    at = effective_time(columns.timestamps[row], kafka_time)
    if kafka_time == NULL_TIME:
        kafka_time = at
    return content_at(content, row, key), at, named != 0, kafka_time


@compiled
def _start(slot: NDArray[np.int64], sequence: int, at: int, page: int) -> None:
    slot[TOP_START] = sequence
    slot[HIGHEST] = sequence
    slot[LATEST] = at
    slot[EARLIEST] = at
    slot[SESSION] = 1
    slot[OLD_HIGHEST] = _NONE
    slot[TOP_PAGE] = page
    slot[CHECKED] = _NONE


@compiled
def _continues(slot: NDArray[np.int64], sequence: int, at: int) -> bool:
    """Return whether a number is one above the highest, and not earlier than all of its session."""
    # Without adding to what may be the last of 64 bits.
    return bool(sequence > slot[HIGHEST] and sequence - 1 == slot[HIGHEST] and at >= slot[EARLIEST])


@compiled
def _may_be_old(slot: NDArray[np.int64], number: int, sequence: int, content: int, pages: Pages) -> bool:
    """Return whether a number may be a copy of what a session before the newest stores under it."""
    if sequence >> PAGE_BITS != slot[CHECKED]:
        return True
    # All that is no market trade is alike.
    return bool(content != NON_MARKET and is_stored_elsewhere(pages, number, slot[SESSION], sequence, content))


@compiled
def _page_of(slot: NDArray[np.int64], number: int, sequence: int, pages: Pages) -> int:
    """Return the page of a number of the newest session; `NO_PAGE` where it has none."""
    if slot[TOP_PAGE] != NO_PAGE and sequence >> PAGE_BITS == slot[HIGHEST] >> PAGE_BITS:
        return int(slot[TOP_PAGE])
    return find_page(pages, number, slot[SESSION], sequence)


@compiled
def _page_behind(slot: NDArray[np.int64], number: int, sequence: int, pages: Pages) -> int:
    """Return the page of the number behind the highest; `NO_PAGE` where it has none and none is free."""
    page = find_page(pages, number, slot[SESSION], sequence)
    return page if page != NO_PAGE else take_page(pages, number, slot[SESSION], sequence)


@compiled
def follow(
    position: int,
    rows: NDArray[np.int32],
    columns: TrackedColumns,
    key: np.uint64,
    slot_of: NDArray[np.int32],
    slots: NDArray[np.int64],
    pages: Pages,
    verdicts: NDArray[np.uint8],
    sessions: NDArray[np.int32],
    started: NDArray[np.int32],
) -> tuple[int, int]:
    """Track int32[m] `rows` of the columns from `position` on, up to the first that needs the plain form.

    `key` is of the contents; int32[symbols] `slot_of` has a slot of int64[slots, COLUMNS] for each symbol. `slots` and
    `pages` are changed in place. uint8[m] `verdicts` (a row that is `SKIPPED` stays so) and int32[m] `sessions` are
    written for the rows tracked, int32[m] `started` with the places in `rows` of symbols' first trades, ascending.
    Returns the place in `rows` of the row that was left alone, or m; and how many `started` holds.
    """
    symbols, has_sequence, timestamps, messages, kafka_timestamps, content_columns = columns
    sequences, prices, quantities, sides, text, id_starts, id_sizes = content_columns
    headers, marks = pages.headers, pages.marks
    count = 0
    for place in range(position, len(rows)):
        row = rows[place]
        if not has_sequence[row]:
            continue
        number = slot_of[symbols[row]]
        slot = slots[number]
        sequence = sequences[row]
        kafka_time = kafka_timestamps[messages[row]]
        at = effective_time(timestamps[row], kafka_time)
        kafka_time = at if kafka_time == NULL_TIME else kafka_time
        is_market = verdicts[place] != SKIPPED
        content, verdict = NON_MARKET, STORED
        if is_market:
            named = id_word(sequence, text, id_starts[row], id_sizes[row], key)
            price, quantity = prices[row], quantities[row]
            content = content_of(named, sides[row], price[0], price[1], quantity[0], quantity[1], key)
        if slot[SESSION] == 0:
            page = take_page(pages, number, 1, sequence)
            if page == NO_PAGE:
                return place, count
            _start(slot, sequence, at, page)
            started[count] = place
            count += 1
            write_mark(headers, marks, page, sequence, content, kafka_time)
        elif _continues(slot, sequence, at):
            if sequence <= slot[OLD_HIGHEST] and _may_be_old(slot, number, sequence, content, pages):
                return place, count
            page = slot[TOP_PAGE]
            if sequence & (PAGE_NUMBERS - 1) == 0 or page == NO_PAGE:
                page = _page_behind(slot, number, sequence, pages)
                if page == NO_PAGE:
                    return place, count
                slot[TOP_PAGE] = page
            slot[HIGHEST], slot[LATEST] = sequence, max(slot[LATEST], at)
            write_mark(headers, marks, page, sequence, content, kafka_time)
        elif slot[TOP_START] <= sequence <= slot[HIGHEST]:
            page = _page_of(slot, number, sequence, pages)
            if page == NO_PAGE or read_mark(marks, page, sequence) != content:
                return place, count
            verdict = DUPLICATE
        else:
            return place, count
        if is_market:
            verdicts[place] = verdict
        sessions[place] = slot[SESSION]
    return len(rows), count

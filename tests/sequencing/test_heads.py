"""Head numbers: what the venue has named, compared with what arrived."""

from typing import Final

import numpy as np
import pytest

from k2.model.verdicts import HEAD, STORED
from k2.sequencing.heads import HEAD_GRACE_US, Behind, Heads
from k2.sequencing.tracked import NewestMissing
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of

MINUTE: Final = HEAD_GRACE_US


def trade(number: int, at: int) -> Row:
    """Return a trade that arrives at a time."""
    return Row(number, at, kafka_timestamp=at, price=number)


def head(number: int, at: int, symbol: str = "BTC-USD") -> Row:
    """Return a message that names the last number of a symbol."""
    return Row(number, 0, symbol, kafka_timestamp=at, verdict=HEAD)


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([trade(1, 0), head(1, 1), head(1, 3 * MINUTE)], []),
        ([trade(1, 0), head(3, 1), trade(2, 2), trade(3, 3), head(3, 3 * MINUTE)], []),
        ([trade(1, 0), head(3, 1), head(3, MINUTE)], []),
        ([trade(1, 0), head(3, 1), head(3, MINUTE + 1)], [(2, 3)]),
        ([trade(1, 0), head(3, 1), head(5, 2), head(9, 2 * MINUTE)], [(2, 3)]),
        ([trade(1, 0), head(3, 1), trade(2, 2), head(9, 2 * MINUTE)], [(3, 3)]),
        ([trade(1, 0), head(3, 1), head(3, 2 * MINUTE), head(3, 2 * MINUTE + 1)], [(2, 3)]),
        ([trade(1, 0), head(3, 1), head(5, 2 * MINUTE), head(5, 4 * MINUTE)], [(2, 3), (4, 5)]),
        ([trade(1, 0), head(3, 1), *(head(3, minutes * 2 * MINUTE) for minutes in range(1, 5))], [(2, 3)]),
        ([head(3, 1), head(3, 2 * MINUTE)], []),
    ],
    ids=[
        "the trade is there",
        "the trades come later",
        "the grace period is not over",
        "the trades do not come",
        "the oldest number counts",
        "only some come",
        "once for a number",
        "again for a later number",
        "once, however often it is named",
        "a symbol without trades",
    ],
)
def test_numbers_that_were_named_and_do_not_come(rows: list[Row], missing: list[tuple[int, int]]) -> None:
    """Each is reported once, a minute after it was named; nothing is stored, and no gap is opened."""
    tracker, found = GroupTracker(), list[NewestMissing]()
    for offset, row in enumerate(rows):
        tracked = tracker.track(slice_of([row], first_offset=offset))
        found += tracked.newest_missing
        assert tracked.trade_slice.verdicts.tolist() == [row.verdict]
        assert {event.first_sequence for event in tracked.events} <= {1}
    assert found == [NewestMissing("kraken", "BTC-USD", first, last) for first, last in missing]


def test_a_head_takes_no_number() -> None:
    """The trade with that number is stored, after its head and before it."""
    rows = [trade(1, 0), head(2, 1), trade(2, 2), head(3, 3), head(3, 4)]
    tracked = GroupTracker().track(slice_of(rows))
    assert tracked.trade_slice.verdicts.tolist() == [STORED, HEAD, STORED, HEAD, HEAD]
    assert tracked.trade_slice.sessions.tolist() == [1, 0, 1, 0, 0]


def test_symbols_are_apart() -> None:
    """A head of one symbol says nothing of another."""
    heads, highest = Heads(), np.array([5, 8], dtype=np.int64)

    def compare(numbers: list[int], at: int) -> list[Behind]:
        times = np.array([at, at], dtype=np.int64)
        return heads.compare(np.array([0, 1], dtype=np.int32), np.array(numbers, dtype=np.int64), times, highest)

    assert compare([7, 8], 0) == []
    assert compare([7, 9], 2 * MINUTE) == [Behind(0, 6, 7)]
    assert compare([7, 9], 4 * MINUTE) == [Behind(1, 9, 9)]


def test_numbers_are_reported_again_if_numbering_has_begun_again() -> None:
    """What was reported of the numbers before says nothing of the lower ones that follow."""
    heads, slot = Heads(), np.array([0], dtype=np.int32)

    def compare(number: int, minute: int, highest: int) -> list[Behind]:
        numbers, times = np.array([number], dtype=np.int64), np.array([minute * MINUTE], dtype=np.int64)
        return heads.compare(slot, numbers, times, np.array([highest], dtype=np.int64))

    assert [compare(900, 0, 890), compare(900, 1, 890), compare(900, 2, 890)] == [[], [Behind(0, 891, 900)], []]
    assert [compare(3, 3, 1), compare(3, 4, 1), compare(3, 5, 1)] == [[], [Behind(0, 2, 3)], []]


def test_a_ticker_names_numbers_of_trades_that_have_no_holes() -> None:
    """Its own numbers have some, so its venue is monotonic: it is compared with the trades of the other view."""
    tracker = GroupTracker()
    tracker.track(slice_of([trade(1, 0)]))
    first = tracker.track(slice_of([head(3, 1), head(9, 1, "NEW")], venue="coinbase-ticker"))
    second = tracker.track(slice_of([head(4, 2 * MINUTE)], venue="coinbase-ticker"))
    assert first.newest_missing == []
    assert second.newest_missing == [NewestMissing("kraken", "BTC-USD", 2, 3)]
    assert tracker.track(slice_of([trade(2, 0)], first_offset=1)).trade_slice.verdicts.tolist() == [STORED]

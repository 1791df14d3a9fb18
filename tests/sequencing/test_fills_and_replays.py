"""A fill, or a replayed conflict, never says that numbering began again: whoever publishes it chooses its place."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.origin import MessageMarks, archive_origin, replay_origin, rest_origin
from k2.model.progress import TopicPartition
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracked import Tracked
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of

FILLS = [
    MessageMarks(archive_origin("0" * 64, "day.zip"), "k2-fill"),
    MessageMarks(rest_origin("0" * 64, "https://example.com/trades"), "k2-fill"),
    MessageMarks(replay_origin(TopicPartition("trades", 0), 7), trade_index=0),
]


def track(tracker: GroupTracker, rows: list[Row], offset: int, marks: MessageMarks | None = None) -> Tracked:
    """Track rows of one message each, all with the same marks."""
    given_slice = slice_of(rows, first_offset=offset)
    batch = given_slice.batch
    source = replace(batch.source, marks={} if marks is None else dict.fromkeys(range(len(rows)), marks))
    return tracker.track(replace(given_slice, batch=replace(batch, source=source)))


@pytest.mark.parametrize("marks", FILLS, ids=["archive", "rest", "replayed conflict"])
@pytest.mark.parametrize("at", [0, 5_000], ids=["at its time", "later than the newest trade"])
def test_contradictions_in_succession_stay_conflicts(marks: MessageMarks, at: int) -> None:
    """Two archives that differ, filled at once: the second is set aside, and the stream goes on in its session."""
    tracker = GroupTracker()
    track(tracker, [Row(number, number) for number in [*range(10, 13), *range(16, 1_000)]], 0)
    fill = track(tracker, [Row(number, number) for number in range(13, 16)], 2_000, marks)
    assert fill.trade_slice.verdicts.tolist() == [STORED] * 3
    other = [Row(number, at or number, price=2) for number in [*range(10, 16), *range(20, 30)]]
    told = track(tracker, other, 3_000, marks)
    assert told.trade_slice.verdicts.tolist() == [CONFLICT] * len(other)
    assert not told.trade_slice.doubts
    goes_on = track(tracker, [Row(1_000, 1_000), Row(11, 1_001, price=3), Row(1_001, 1_001)], 4_000)
    assert goes_on.trade_slice.verdicts.tolist() == [STORED, CONFLICT, STORED]
    assert not goes_on.events
    assert tracker.missing("kraken", "BTC-USD") == ((),)


def test_a_fill_between_two_contradictions_of_the_stream_changes_nothing() -> None:
    """The second of them begins the session, at the same message as without the fill."""
    tracker = GroupTracker()
    track(tracker, [Row(number, number) for number in [*range(1, 500), *range(501, 1_000)]], 0)
    first = track(tracker, [Row(300, 2_000, price=2)], 2_000)
    assert [one.sequence for one in first.trade_slice.doubts] == [300]
    fill = track(tracker, [Row(500, 2_500), Row(299, 299), Row(298, 299, price=4)], 3_000, FILLS[0])
    assert fill.trade_slice.verdicts.tolist() == [STORED, DUPLICATE, CONFLICT]
    assert not fill.trade_slice.doubts
    second = track(tracker, [Row(301, 2_001, price=2)], 4_000)
    assert (second.trade_slice.verdicts.tolist(), second.trade_slice.sessions.tolist()) == ([STORED], [2])


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60), st.integers(1, 3), st.booleans()), max_size=40))
def test_the_sessions_and_the_doubt_are_those_of_the_stream(trades: list[tuple[int, int, int, bool]]) -> None:
    """Whatever is filled: each of its trades is stored where it is missing, a copy, or a conflict."""
    sequence = SymbolSequence()
    sequence.place(20, 30, 1)
    for number, at, content, is_in_stream in trades:
        before, doubt = len(sequence.sessions), sequence.doubt
        sequence.place(number, at, content, is_in_stream=is_in_stream)
        if not is_in_stream:
            assert (len(sequence.sessions), sequence.doubt) == (before, doubt)

"""What a tracker's snapshot brings back beside its numberings."""

import pickle

import pytest

from tests.trades.trade_slices import Row, slice_of
from trades.progress import TopicPartition
from trades.symbols import Symbols
from trades.tracker import GroupTracker


def restarted(tracker: GroupTracker) -> GroupTracker:
    """Give a tracker made from the snapshot of another."""
    return GroupTracker(pickle.loads(pickle.dumps(tracker.snapshot())))  # noqa: S301


def test_positions_are_those_of_each_partition() -> None:
    """The offset behind the last row tracked, by topic and partition, before and after a restart."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(2, 2)], first_offset=5))
    tracker.track(slice_of([Row(3, 3)], topic="more", partition=7, first_offset=9))
    expected = {TopicPartition("trades", 0): 7, TopicPartition("more", 7): 10}
    assert tracker.positions == restarted(tracker).positions == expected


def test_open_gaps_outlive_a_restart() -> None:
    """By exchange, one without a gap among them, over all sessions."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(3, 2), Row(1, 3), Row(5, 4), Row(1, 1, "x", "other")]))
    assert tracker.open_gaps() == restarted(tracker).open_gaps() == {"kraken": 2, "other": 0}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_state_is_taken_up_by_a_process_that_knows_no_symbol(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The first numbers that it gives find their slots as any others, and what is kept is of these symbols alone."""
    names = [f"S{number}" for number in range(count)]
    tracker = GroupTracker()
    tracker.track(slice_of([Row(number, 1, name) for name in names for number in (1, 4)]))
    state = tracker.snapshot()
    assert len(state["recent"]["counts"]) == 2 * count  # type: ignore[index]
    monkeypatch.setattr("trades.tracker.SYMBOLS", Symbols())
    again = GroupTracker(state)
    assert [again.missing("kraken", name) for name in names] == [(((2, 3),),)] * count

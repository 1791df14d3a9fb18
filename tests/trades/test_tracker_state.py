"""What a tracker's snapshot brings back beside its numberings."""

import pickle

from tests.trades.trade_slices import Row, slice_of
from trades.progress import TopicPartition
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

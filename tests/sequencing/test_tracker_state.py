"""What a tracker's snapshot restores, and what it leaves out."""

import pickle

import pytest

from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.state_source import NumberDoubt, SessionKey, StoredSession
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.stored_rows import StoredRows

HERE = TopicPartition("trades", 0)


def restarted(tracker: GroupTracker, table: StoredRows | None = None) -> GroupTracker:
    """Return a tracker made from the snapshot of another."""
    state = pickle.loads(pickle.dumps(tracker.snapshot()))  # noqa: S301
    return GroupTracker(state, read_contents=None if table is None else table.read)


def test_positions_are_those_of_each_partition() -> None:
    """The offset after the last row tracked, by topic and partition, before and after a restart."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(2, 2)], first_offset=5))
    tracker.track(slice_of([Row(3, 3)], topic="more", partition=7, first_offset=9))
    expected = {HERE: 7, TopicPartition("more", 7): 10}
    assert tracker.positions == restarted(tracker).positions == expected


def test_open_gaps_outlive_a_restart() -> None:
    """By exchange, one without a gap among them, over all sessions."""
    tracker = GroupTracker()
    rows = [Row(1, 1), Row(3, 2), Row(1, 3, price=2), Row(5, 4, price=2), Row(1, 1, "x", "other")]
    tracker.track(slice_of([*rows, Row(1, 1, "y"), Row(3, 2, "y")]))
    assert tracker.open_gaps() == restarted(tracker).open_gaps() == {"kraken": (3, 5), "other": (0, 0)}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_state_is_taken_up_by_a_process_that_knows_no_symbol(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Its symbols get new ids and keep their slots."""
    names = [f"S{number}" for number in range(count)]
    tracker = GroupTracker()
    tracker.track(slice_of([Row(number, 1, name) for name in names for number in (1, 4)]))
    state = tracker.snapshot()
    again = GroupTracker(state)
    assert [again.missing("kraken", name) for name in names] == [(((2, 3),),)] * count


def test_the_state_holds_no_content() -> None:
    """It costs 60 bytes for each symbol, however many numbers a symbol had."""
    names = [f"S{number}" for number in range(100)]
    tracker = GroupTracker()
    tracker.track(slice_of([Row(number, 1, name) for name in names for number in range(1, 1_001)]))
    assert len(pickle.dumps(tracker.snapshot())) < 100 * 60 + 200


def test_a_conflict_that_is_not_settled_outlives_a_restart() -> None:
    """The second of two in succession starts a session, also in a process that started between them."""
    table, tracker = StoredRows(), GroupTracker()
    table.add(tracker.track(slice_of([Row(number, number) for number in range(1, 1_001)])).trade_slice)
    assert tracker.track(slice_of([Row(41, 1_001, price=2)])).trade_slice.verdicts.tolist() == [CONFLICT]
    piece = restarted(tracker, table).track(slice_of([Row(42, 1_002, price=2), Row(43, 1_003, price=2)])).trade_slice
    assert (piece.verdicts.tolist(), piece.sessions.tolist()) == ([STORED] * 2, [2] * 2)


def test_what_rows_change_of_a_doubt_travels_with_the_slice() -> None:
    """A slice names each symbol's unsettled conflict, or that it has none any longer."""
    tracker = GroupTracker()
    first = tracker.track(slice_of([*(Row(number, number) for number in (1, 2, 3)), Row(2, 9, price=2)])).trade_slice
    assert first.doubts == (NumberDoubt("kraken", "BTC-USD", 2, 9),)
    assert tracker.track(slice_of([Row(6, 4)])).trade_slice.doubts == ()
    assert tracker.track(slice_of([Row(5, 10)])).trade_slice.doubts == (NumberDoubt("kraken", "BTC-USD", None),)


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("doubt", [None, NumberDoubt("kraken", "BTC-USD", 2, 9)])
def test_doubts_are_those_of_the_table(doubt: NumberDoubt | None, is_lost: bool) -> None:  # noqa: FBT001
    """A state older than the table replaces its own conflict by the one that the table's rows left."""
    table, tracker = StoredRows(), GroupTracker()
    table.add(
        tracker.track(slice_of([*(Row(number, number) for number in range(1, 6)), Row(4, 9, price=2)])).trade_slice
    )
    again = GroupTracker(read_contents=table.read) if is_lost else restarted(tracker, table)
    stored = StoredSession(SessionKey("kraken", "BTC-USD", 1), ((1, 5),), 5, 1, HERE, 4)
    again.absorb([stored], doubts=[] if doubt is None else [doubt])
    piece = again.track(slice_of([Row(3, 10, price=2)])).trade_slice
    assert piece.verdicts.tolist() == [CONFLICT if doubt is None else STORED]
    assert piece.sessions.tolist() == [1 if doubt is None else 2]


def test_rows_that_the_table_has_are_passed_over() -> None:
    """A replay is not judged again below the committed offset: the former verdicts stand."""
    table, tracker = StoredRows(), GroupTracker()
    rows = [Row(1, 1), Row(2, 2), Row(3, 3), Row(2, 9, price=2)]
    table.add(tracker.track(slice_of(rows)).trade_slice)
    again = GroupTracker(read_contents=table.read)
    stored = StoredSession(SessionKey("kraken", "BTC-USD", 1), ((1, 3),), 3, 1, HERE, 2)
    again.absorb([stored], {HERE: 14}, [NumberDoubt("kraken", "BTC-USD", 2, 9)])
    tracked = again.track(slice_of([*rows, Row(3, 10, price=2), Row(4, 11, price=2)], first_offset=10))
    assert (tracked.trade_slice.sessions.tolist(), again.positions) == ([0, 0, 0, 0, 2, 2], {HERE: 16})
    assert [event.offset for event in tracked.events] == [14]
    other = again.track(slice_of([Row(3, 3)], partition=1)).trade_slice
    assert (other.verdicts.tolist(), other.sessions.tolist()) == ([DUPLICATE], [1])


def builtin(value: object) -> bool:
    """Return whether a value consists only of builtins."""
    if isinstance(value, dict):
        return all(builtin(key) and builtin(item) for key, item in value.items())
    if isinstance(value, list):
        return all(builtin(item) for item in value)
    return value is None or type(value) in {int, str, bytes}


def test_a_snapshot_is_builtins_and_stays_as_it_was() -> None:
    """A snapshot has no classes of k2 or NumPy, has symbols by name, and does not change with later rows."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(4, 2), Row(1, 3, price=2), Row(8, 4), Row(8, 4, price=9), Row(1, 1, "y")]))
    state = tracker.snapshot()
    before = pickle.dumps(state)
    tracker.track(slice_of([Row(2, 2), Row(6, 4), Row(1, 5), Row(2, 2, "y")]))
    assert builtin(state)
    assert state["symbols"] == [["kraken", "BTC-USD"], ["kraken", "y"]]
    assert pickle.dumps(state) == before


def test_a_foreign_format_is_refused() -> None:
    """State of another version stops the job instead of being misread."""
    with pytest.raises(StateError) as caught:
        GroupTracker({**GroupTracker().snapshot(), "format": 9})
    assert str(caught.value) == (
        "the recovery store's sequence state has format 9; this version reads 4: run the version that wrote it, or"
        " start without that store to rebuild the state"
    )

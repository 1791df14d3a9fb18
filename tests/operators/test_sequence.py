"""The sequence operator: verdicts, events and metrics of what the tracker finds."""

import pickle
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bytewax.dataflow import Stream

from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind
from k2.model.state_source import NO_STATE_SOURCE, GroupState, Ledger, Positions, SessionKey, StoredSession
from k2.model.symbols import Symbols
from k2.model.verdicts import DUPLICATE, STORED
from k2.ops.metrics import GAPS_DETECTED, GAPS_FILLED, OPEN_GAPS
from operators import sequence as module
from operators.sequence import _SequenceLogic, sequence
from tests.model.trade_slices import Row, slice_of
from tests.operators.running import run

EXCHANGE = "operators"


def sequenced(*numbers: list[int]) -> list[list[Any]]:
    """Return the items of both streams for slices with some numbers, each at the number's time."""

    def connect(trades: Stream[Any]) -> list[Stream[Any]]:
        streams = sequence("sequence", trades, 3, 86_400, NO_STATE_SOURCE, Symbols())
        return [streams.trades, streams.events]

    offset, items = 0, []
    for some in numbers:
        rows = [Row(number, number, exchange=EXCHANGE) for number in some]
        items.append(("00", slice_of(rows, first_offset=offset)))
        offset += len(rows)
    return run(connect, items)


def test_gaps_become_events_and_metrics() -> None:
    """A gap is opened, then filled by the late trade; a trade that comes twice is a duplicate."""
    before = (
        [GAPS_DETECTED.labels(EXCHANGE, size)._value.get() for size in ("large", "small")],
        GAPS_FILLED.labels(EXCHANGE)._value.get(),
    )
    trades, events = sequenced([1, 2, 6, 8], [7, 8])
    verdicts = [verdict for _, piece in trades for verdict in piece.verdicts.tolist()]
    assert verdicts == [STORED, STORED, STORED, STORED, STORED, DUPLICATE]
    found = [(one.event, one.first_sequence, one.last_sequence) for some in events for one in some]
    assert found == [
        (EventKind.SESSION_STARTED, 1, 1),
        (EventKind.GAP_OPENED, 3, 5),
        (EventKind.GAP_OPENED, 7, 7),
        (EventKind.GAP_FILLED, 7, 7),
    ]
    after = (
        [GAPS_DETECTED.labels(EXCHANGE, size)._value.get() for size in ("large", "small")],
        GAPS_FILLED.labels(EXCHANGE)._value.get(),
    )
    assert after == ([count + 1 for count in before[0]], before[1] + 1)
    assert OPEN_GAPS.labels(EXCHANGE)._value.get() == 1


def test_a_slice_without_events_sends_none() -> None:
    """The ledger's writer is not woken for nothing."""
    _, events = sequenced([1, 2], [3, 4])
    assert len(events) == 1


def states(logic: _SequenceLogic, *numbers: int) -> list[bool]:
    """Return for each of some slices of one trade whether it has a state for a checkpoint."""
    found = []
    for number in numbers:
        tracked, _ = logic.on_batch([slice_of([Row(number, number, exchange=EXCHANGE)], first_offset=number)])
        found += [one.trade_slice.state is not None for one in tracked]
    return found


def test_a_checkpoint_is_due_at_the_start_and_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, after a number of rows, and after a time in which there were rows."""
    monkeypatch.setattr(module, "CHECKPOINT_ROWS", 3)
    logic = _SequenceLogic(3, 1, NO_STATE_SOURCE, Symbols(), None)
    assert states(logic, *range(1, 9)) == [True, False, False, True, False, False, True, False]
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    assert states(logic, 9, 10) == [True, True]
    monkeypatch.setattr(module, "CHECKPOINT_ROWS", 10**6)
    empty = slice_of([])
    assert [one.trade_slice.state is not None for one in logic.on_batch([empty])[0]] == [True]
    assert [one.trade_slice.state is not None for one in logic.on_batch([empty])[0]] == [False]


def test_a_state_has_seen_the_rows_before_its_slice() -> None:
    """Not those of the slice, which is committed with it."""
    logic = _SequenceLogic(3, 1, NO_STATE_SOURCE, Symbols(), None)
    slices = [slice_of([Row(number, number, exchange=EXCHANGE)], first_offset=number) for number in (1, 2)]
    (first, _), _ = logic.on_batch(slices)
    assert first.trade_slice.state is not None
    assert first.trade_slice.state.sequence["symbols"] == []


class Table:
    """Tables with the number 5 of a symbol after a missing one, of which the ledger knows nothing."""

    def __getattr__(self, name: str) -> object:
        return getattr(NO_STATE_SOURCE, name)

    def checkpoint(self, group: int) -> GroupState | None:
        """Return none."""
        return None

    def sessions(self, group: int) -> Iterable[StoredSession]:
        """Return the numbers stored."""
        key = SessionKey(EXCHANGE, "BTC-USD", 1)
        return [StoredSession(key, ((1, 3), (5, 5)), 5, 1, TopicPartition("trades", 0), 4)]

    def committed(self, group: int) -> Positions:
        """Return the offset after them."""
        return {TopicPartition("trades", 0): 5}

    def ledger(self) -> Ledger:
        """Return an empty ledger."""
        return Ledger(frozenset(), {})


def test_no_checkpoint_is_taken_before_its_owed_events_are_in_the_ledger() -> None:
    """They are committed at the end of the epoch; a start from an earlier checkpoint would never write them."""
    logic = _SequenceLogic(3, 1, Table(), Symbols(), None)  # type: ignore[arg-type]
    assert states(logic, 6, 7) == [False, False]
    logic.snapshot()
    assert states(logic, 8) == [False]
    logic.snapshot()
    assert states(logic, 9, 10) == [True, False]


def test_rows_that_no_batch_follows_have_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time, with an empty slice; a group whose rows are all in one is not woken."""
    logic = _SequenceLogic(3, 1, NO_STATE_SOURCE, Symbols(), None)
    assert logic.notify_at() is None
    assert states(logic, 1, 2) == [True, False]
    assert timedelta(seconds=100) < logic.notify_at() - datetime.now(UTC) < timedelta(seconds=121)
    assert list(logic.on_notify()[0]) == []
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    assert logic.notify_at() <= datetime.now(UTC)
    (tracked,), _ = logic.on_notify()
    assert (len(tracked.trade_slice), tracked.trade_slice.group) == (0, 0)
    assert tracked.trade_slice.state is not None
    assert tracked.trade_slice.state.sequence["symbols"] == [[EXCHANGE, "BTC-USD"]]
    assert len(pickle.loads(pickle.dumps(tracked.trade_slice))) == 0  # noqa: S301  its own
    assert logic.notify_at() is None

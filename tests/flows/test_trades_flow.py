"""The flow with in-memory I/O: its step ids, its length, and what does not depend on how the stream was cut."""

import inspect
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from bytewax.testing import TestingSink
from bytewax.visualize import to_json
from hypothesis import given, settings
from hypothesis import strategies as st

import flows.trades
from flows.job_io import JobIO
from k2.model.batch import MessageBatch, TradeSlice
from k2.model.connections import ConnectionKey, Seen
from k2.model.consumed import Consumed
from k2.model.feeds import FeedKey, FeedRange, FeedTopic
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Positions, Ranges
from k2.ops.metrics import DATED_AHEAD
from k2.ops.settings import read_settings
from tests.flows.job_io import FIRST_KAFKA_TIME, MemorySource, Message, message_batch, run_in_memory

FIRST_TIME = 1_700_000_000_000_000


def _trade(symbol: str, sequence: int | None, time: int = 0, trade_id: str | None = None) -> Message:
    trade = {"exchange": "x", "symbol": symbol, "sequence": sequence, "price": "1.5", "quantity": 2}
    trade |= {"timestamp": FIRST_TIME + time, "side": "buy"}
    if trade_id is not None:
        trade["trade_id"] = trade_id
    return f"x|{symbol}".encode(), json.dumps(trade).encode()


def _rows(out: list[tuple[str, TradeSlice | Consumed]]) -> list[tuple[object, ...]]:
    """Return (partition, offset, verdict, session) of every row, sorted."""
    return sorted(
        (
            piece.batch.source.partition,
            piece.batch.offset(int(row)),
            int(verdict),
            int(session),
        )
        for _, piece in out
        if isinstance(piece, TradeSlice)
        for row, verdict, session in zip(piece.rows, piece.verdicts, piece.sessions, strict=True)
    )


def _cut(messages: Sequence[Message], cuts: Sequence[int], partition: int = 0) -> list[MessageBatch]:
    places = sorted({0, len(messages), *(cut % (len(messages) + 1) for cut in cuts)})
    return [message_batch(messages[start:end], start, partition) for start, end in itertools.pairwise(places)]


def test_step_names_are_pinned() -> None:
    """Recovery finds state by these ids: a step with a new id silently starts without state."""
    ends = JobIO(MemorySource({}), TestingSink([]), TestingSink([]))
    drawn = json.loads(to_json(flows.trades.trades_flow(ends, read_settings({}))))
    assert drawn["flow_id"] == "trades"
    assert [step["step_id"] for step in drawn["substeps"]] == [
        "trades.kafka_in",
        "trades.decode",
        "trades.decode_split",
        "trades.decode_account",
        "trades.sequence",
        "trades.sequence_trades",
        "trades.sequence_events",
        "trades.deduplicate",
        "trades.to_writers_trades",
        "trades.to_writers_consumed",
        "trades.to_writers",
        "trades.to_ledger",
        "trades.iceberg_out",
        "trades.events_out",
    ]


def test_steps_of_connections_are_added_if_a_topic_has_their_numbers() -> None:
    """The others keep their names, so the recovery store serves both."""
    plain = JobIO(MemorySource({}), TestingSink([]), TestingSink([]))
    numbered = replace(plain, connections=NoConnections())
    drawn = [
        json.loads(to_json(flows.trades.trades_flow(one, read_settings({}))))["substeps"] for one in (plain, numbered)
    ]
    before, after = ([step["step_id"] for step in steps] for steps in drawn)
    assert [one for one in after if one not in before] == [
        "trades.connections_read",
        "trades.connections",
        "trades.connections_states",
        "trades.connections_events",
        "trades.to_writers_connections",
        "trades.to_ledger_all",
    ]
    assert [one for one in after if one in before] == before


def test_steps_of_feeds_are_added_if_there_are_feeds() -> None:
    """The others keep their names."""
    plain = JobIO(MemorySource({}), TestingSink([]), TestingSink([]))
    drawn = [
        json.loads(to_json(flows.trades.trades_flow(one, read_settings({}))))["substeps"]
        for one in (plain, replace(plain, feeds=NoFeeds()))
    ]
    before, after = ([step["step_id"] for step in steps] for steps in drawn)
    assert [one for one in after if one not in before] == [
        "trades.feeds",
        "trades.feeds_states",
        "trades.feeds_events",
        "trades.to_writers_feeds",
        "trades.to_ledger_all",
    ]
    assert [one for one in after if one in before] == before


class NoFeeds:
    """Tables without feeds."""

    topics: tuple[FeedTopic, ...] = ()

    def ranges(self, group: int) -> Iterable[FeedRange]:
        """Return none."""
        return ()

    def events(self, group: int) -> Iterable[SequenceEvent]:
        """Return none."""
        return ()

    def committed(self, group: int) -> Positions:
        """Return none."""
        return {}

    def missing(self) -> Mapping[FeedKey, Ranges]:
        """Return none."""
        return {}


class NoConnections:
    """Tables without connections."""

    def seen(self, group: int) -> Iterable[Seen]:
        """Return none."""
        return ()

    def committed(self, group: int) -> Positions:
        """Return none."""
        return {}

    def missing(self) -> Mapping[ConnectionKey, Ranges]:
        """Return none."""
        return {}


def test_the_flow_fits_on_a_screen() -> None:
    """It is a diagram of the job, so it must be visible at once."""
    assert len(inspect.getsource(flows.trades).splitlines()) <= 60


def test_every_message_has_one_outcome() -> None:
    """Trades, duplicates, gaps and unreadable messages each reach their output."""
    messages = [
        _trade("A", 1),
        _trade("A", 2, 1),
        (b"x|A", b"{"),
        _trade("A", 5, 2),
        _trade("A", 2, 1),
        _trade("A", 3, 3),
        _trade("B", None, 4, "id"),
        _trade("B", None, 4, "id"),
    ]
    out = run_in_memory({"trades:0": _cut(messages, [3])})
    assert _rows(out["iceberg"]) == [
        (0, 0, 0, 1),
        (0, 1, 0, 1),
        (0, 3, 0, 1),
        (0, 4, 1, 1),
        (0, 5, 0, 1),
        (0, 6, 0, 0),
        (0, 7, 1, 0),
    ]
    consumed = [item for _, item in out["iceberg"] if isinstance(item, Consumed)]
    assert [
        (one.first_offset, one.next_offset, [letter.offset for letter in one.dead_letters]) for one in consumed
    ] == [
        (0, 3, [2]),
        (3, 8, []),
    ]
    assert [letter.reason for one in consumed for letter in one.dead_letters] == ["malformed"]
    events = [event for _, some in out["events"] for event in some]
    assert [(event.event, event.first_sequence, event.last_sequence, event.offset) for event in events] == [
        (EventKind.SESSION_STARTED, 1, 1, 0),
        (EventKind.GAP_OPENED, 3, 4, 3),
        (EventKind.GAP_FILLED, 3, 3, 5),
    ]


def test_trades_dated_too_far_ahead_are_dead_letters() -> None:
    """The limit is the setting's; trades within it but more than 5 s ahead are stored and counted."""
    ahead = FIRST_KAFKA_TIME - FIRST_TIME
    times = [0, 5_000_000, 6_000_000, 10_000_000, 10_000_001, 7_000_000]
    messages = [_trade("A", number, ahead + time) for number, time in enumerate(times)]
    batch = message_batch(messages)
    batch.kafka_timestamps[:] = FIRST_KAFKA_TIME
    before = DATED_AHEAD.labels("x")._value.get()
    out = run_in_memory({"trades:0": [batch]}, settings=read_settings({"K2_TIME_AHEAD_SECONDS_MAX": "10"}))
    assert [row[1] for row in _rows(out["iceberg"])] == [0, 1, 2, 3, 5]
    [letter] = [letter for _, item in out["iceberg"] if isinstance(item, Consumed) for letter in item.dead_letters]
    assert (letter.offset, letter.reason) == (4, "invalid")
    assert "K2_TIME_AHEAD_SECONDS_MAX (10)" in letter.error
    assert DATED_AHEAD.labels("x")._value.get() - before == 3


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_writers_share_the_rows_and_all_get_the_offsets(workers: int) -> None:
    """With two writers each row goes to one of them, and messages without a trade are reported to one."""
    messages = [_trade(f"S{place % 40}", place // 40 + 1, place) for place in range(400)]
    messages[7] = (None, None)
    out = run_in_memory(
        {"trades:0": _cut(messages, [100, 250])}, workers=workers, settings=read_settings({"K2_WRITERS": "2"})
    )
    assert [row[1] for row in _rows(out["iceberg"])] == [place for place in range(400) if place != 7]
    groups = {(key, piece.group % 2) for key, piece in out["iceberg"] if isinstance(piece, TradeSlice)}
    assert groups == {("0", 0), ("1", 1)}
    consumed = [(key, item) for key, item in out["iceberg"] if isinstance(item, Consumed)]
    assert {key for key, item in consumed if item.next_offset == 400} == {"0", "1"}
    assert sum(len(item.dead_letters) for _, item in consumed) == 1


@settings(max_examples=25, deadline=None)
@given(
    places=st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(1, 12), st.integers(0, 9)), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    workers=st.sampled_from([1, 2]),
)
def test_verdicts_do_not_depend_on_cuts_or_workers(
    places: list[tuple[str, int, int]], cuts: list[int], workers: int
) -> None:
    """Law 14: however a partition's stream is cut into polls, and whichever worker tracks it, verdicts are the same."""
    messages = [_trade(symbol, number, time) for symbol, number, time in places]
    whole = run_in_memory({"trades:0": _cut(messages, [])})
    pieces = run_in_memory({"trades:0": _cut(messages, cuts)}, workers=workers)
    assert _rows(whole["iceberg"]) == _rows(pieces["iceberg"])
    ledger = [sorted(event for _, some in out["events"] for event in some if event) for out in (whole, pieces)]
    assert ledger[0] == ledger[1]

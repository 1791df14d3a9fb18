"""Accepting missing numbers: one decision in the ledger, next to the job, whatever happens at the same time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from k2.iceberg.sink import LedgerSink
from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName, open_table
from k2.maintenance.acceptance import NothingToDecideError, Request, decide
from k2.model.errors import SettingsError
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import SessionKey
from k2.ops.failpoints import Name, arm
from k2.ops.settings import Settings
from k2.query.gaps import GapFilter, gaps, missing_ranges
from k2.query.pool import open_engine
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import settings_in
from tests.query.tables import EPOCH, append, event, made

KEY = SessionKey("kraken", "BTC-USD", 1)


def request(first: int, last: int, **values: Any) -> Request:
    """Return a request for numbers of the symbol of these tests."""
    asked = {"reason": "the venue says so", "decided_by": "ops", **values}
    return Request("kraken", "BTC-USD", first, last, **asked)


def opened(offset: int, numbers: int = 2, kind: EventKind = EventKind.GAP_OPENED) -> SequenceEvent:
    """Return the event of the message at an offset: numbers from its offset on."""
    last = offset + numbers - 1
    return SequenceEvent(*KEY, kind, offset, last, offset * 1_000, "trades", 0, offset)


def listed(settings: Settings, which: GapFilter) -> list[tuple[int, int]]:
    """Return first and last number of the gaps."""
    return [(one.first_sequence, one.last_sequence) for one in gaps(settings, which=which)]


def ledger_rows(settings: Settings) -> list[dict[str, Any]]:
    """Return the rows of the ledger."""
    rows: list[dict[str, Any]] = made(settings, TableName.SEQUENCE_EVENTS).scan().to_arrow().to_pylist()
    return rows


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a ledger with a gap of five numbers, one of which was filled."""
    settings = settings_in(tmp_path)
    named = {"exchange": "kraken", "symbol": "BTC-USD", "session": 1}
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 5, 9, **named)])
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_filled", 7, 7, **named)])
    return settings


@pytest.fixture
def crash() -> Iterator[list[Name]]:
    """Raise at the failpoints of a list, each once, as a kill would end the command there."""
    names = list[Name]()

    def act(name: Name) -> None:
        if name in names:
            names.remove(name)
            raise RuntimeError(name)

    arm(act)
    yield names
    arm(None)


def test_only_missing_numbers_are_accepted_and_undone(settings: Settings) -> None:
    """Those of the range that are missing; again is refused; undone they are missing as before."""
    planned = decide(settings, request(1, 20), dry_run=True)
    assert listed(settings, GapFilter.OPEN) == [(5, 6), (8, 9)]
    decided = decide(settings, request(1, 20))
    assert (decided.numbers, decided.ranges, decided.event) == (4, [(5, 6), (8, 9)], "gap_accepted")
    assert replace(planned, decided_at=decided.decided_at) == decided
    assert (listed(settings, GapFilter.OPEN), listed(settings, GapFilter.ACCEPTED)) == ([], [(5, 6), (8, 9)])
    assert listed(settings, GapFilter.ALL) == [(5, 6), (7, 7), (8, 9)]
    (one, _) = gaps(settings, which=GapFilter.ACCEPTED)
    assert (one.accepted_at, one.reason, one.decided_by) == (decided.decided_at, "the venue says so", "ops")
    with pytest.raises(NothingToDecideError, match=r"^numbers 5 to 9 of kraken BTC-USD: accepted already by ops at"):
        decide(settings, request(5, 9))
    with pytest.raises(NothingToDecideError, match=r"^number 7 of kraken BTC-USD: none of them is missing"):
        decide(settings, request(7, 7))
    undone = decide(settings, request(9, 9, is_undo=True))
    assert (undone.ranges, undone.event) == ([(9, 9)], "gap_acceptance_undone")
    assert (listed(settings, GapFilter.OPEN), listed(settings, GapFilter.ACCEPTED)) == ([(9, 9)], [(5, 6), (8, 8)])
    with pytest.raises(NothingToDecideError, match="none of them is accepted"):
        decide(settings, request(9, 9, is_undo=True))
    decide(settings, request(9, 9))
    assert listed(settings, GapFilter.OPEN) == []
    then = [listed_at(settings, decided.decided_at + timedelta(microseconds=shift)) for shift in (-1, 0)]
    assert then == [[(5, 6), (8, 9)], []]


def listed_at(settings: Settings, as_of: Any) -> list[tuple[int, int]]:
    """Return the open gaps as of a time."""
    return [(one.first_sequence, one.last_sequence) for one in gaps(settings, as_of=as_of)]


def test_a_late_trade_fills_an_accepted_number(settings: Settings) -> None:
    """It is filled, and no longer accepted; for a start of the job an accepted number is missing."""
    decide(settings, request(5, 9))
    with open_engine(settings) as engine:
        engine.register("sequence_events", made(settings, TableName.SEQUENCE_EVENTS))
        assert missing_ranges(engine) == {KEY: ((5, 6), (8, 9))}
    named = {"exchange": "kraken", "symbol": "BTC-USD", "session": 1, "detected_at": EPOCH + timedelta(days=9_999)}
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_filled", 8, 8, **named)])
    assert listed(settings, GapFilter.ACCEPTED) == [(5, 6), (9, 9)]
    assert listed(settings, GapFilter.FILLED) == [(7, 7), (8, 8)]
    assert listed(settings, GapFilter.OPEN) == []


def test_a_range_of_several_sessions_needs_one(settings: Settings) -> None:
    """The sentence names the sessions; one is selected by its number."""
    append(
        made(settings, TableName.SEQUENCE_EVENTS),
        [event("gap_opened", 1, 6, exchange="kraken", symbol="BTC-USD", session=2)],
    )
    with pytest.raises(SettingsError, match="choose one of 1, 2 with --session"):
        decide(settings, request(5, 6))
    assert decide(settings, request(5, 6, session=2)).session == 2
    assert decide(settings, request(5, 6)).session == 1
    with pytest.raises(SettingsError, match="give the lower number first"):
        decide(settings, request(6, 5))


def test_a_later_decision_holds_if_the_clock_of_its_host_is_behind(settings: Settings) -> None:
    """A decision dated in the future is undone all the same."""
    named = {"exchange": "kraken", "symbol": "BTC-USD", "session": 1, "topic": "", "partition": -1, "offset": -1}
    later = {**named, "detected_at": EPOCH + timedelta(days=9_999), "reason": "r", "decided_by": "b"}
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_accepted", 5, 9, **later)])
    assert listed(settings, GapFilter.OPEN) == []
    decide(settings, request(5, 9, is_undo=True))
    assert listed(settings, GapFilter.OPEN) == [(5, 6), (8, 9)]


def test_next_to_the_job(tmp_path: Path) -> None:
    """A job that runs commits over it, its progress is as without it, and a start that rolls back keeps it."""
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings).build_part("out", "0", None)
    writer.write_batch([[opened(7)]])
    writer.snapshot()
    before = read_progress(settings, TableName.SEQUENCE_EVENTS)
    decide(settings, request(7, 8))
    assert read_progress(settings, TableName.SEQUENCE_EVENTS) == before
    writer.write_batch([[opened(20)]])
    state = writer.snapshot()
    progress = read_progress(settings, TableName.SEQUENCE_EVENTS).of("0")
    assert progress == {TopicPartition("trades", 0): PartitionProgress(21, received=2, stored=2)}
    assert (listed(settings, GapFilter.OPEN), listed(settings, GapFilter.ACCEPTED)) == ([(20, 21)], [(7, 8)])
    nothing = Progress({"0": {TopicPartition("trades", 0): PartitionProgress(0)}})
    again = LedgerSink(settings, nothing).build_part("out", "0", {**state, "offsets": {}})
    assert [row["event"] for row in ledger_rows(settings)] == ["gap_accepted"]
    assert listed(settings, GapFilter.ALL) == []
    again.write_batch([[opened(7)]])
    again.snapshot()
    assert listed(settings, GapFilter.ACCEPTED) == [(7, 8)]


@pytest.mark.parametrize(
    ("at", "is_in"), [("file.written", False), ("maintenance.staged", False), ("maintenance.landed", True)]
)
def test_a_crash_leaves_all_or_nothing(settings: Settings, crash: list[Name], at: Name, *, is_in: bool) -> None:
    """Run again, the command does what is not done yet, and never twice."""
    crash.append(at)
    with pytest.raises(RuntimeError, match=at):
        decide(settings, request(5, 9))
    assert listed(settings, GapFilter.ACCEPTED) == ([(5, 6), (8, 9)] if is_in else [])
    if is_in:
        with pytest.raises(NothingToDecideError, match="accepted already"):
            decide(settings, request(5, 9))
    else:
        decide(settings, request(5, 9))
    assert [row["event"] for row in ledger_rows(settings)].count("gap_accepted") == 2


@pytest.mark.parametrize("is_same", [True, False])
def test_two_commands_at_once(settings: Settings, *, is_same: bool) -> None:
    """The one that commits second judges the ledger of the first: the same numbers are refused, others are accepted."""
    waiting = [request(5, 6) if is_same else request(8, 9)]

    def act(name: Name) -> None:
        if name == "maintenance.staged" and waiting:
            decide(settings, waiting.pop())

    arm(act)
    try:
        if is_same:
            with pytest.raises(NothingToDecideError, match="accepted already"):
                decide(settings, request(5, 6))
        else:
            decide(settings, request(5, 6))
    finally:
        arm(None)
    assert listed(settings, GapFilter.ACCEPTED) == ([(5, 6)] if is_same else [(5, 6), (8, 9)])
    table = open_table(open_catalog(settings), settings, TableName.SEQUENCE_EVENTS)
    files = [task.file.file_path for task in table.scan().plan_files()]
    assert len(files) == len(set(files)) == (3 if is_same else 4)


def test_the_ledger_of_an_earlier_version(settings: Settings) -> None:
    """Without the columns it has no accepted gaps; the first decision adds them."""
    table = made(settings, TableName.SEQUENCE_EVENTS)
    with table.update_schema() as update:
        update.delete_column("reason").delete_column("decided_by")
    assert (listed(settings, GapFilter.OPEN), listed(settings, GapFilter.ACCEPTED)) == ([(5, 6), (8, 9)], [])
    assert decide(settings, request(5, 9), dry_run=True).numbers == 4
    decide(settings, request(5, 9))
    assert [one.reason for one in gaps(settings, which=GapFilter.ACCEPTED)] == ["the venue says so"] * 2

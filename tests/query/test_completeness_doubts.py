"""Completeness in doubt: conflicts by venue time, sessions by the ledger, and their effect on days and symbols."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from k2.iceberg.tables import TableName
from k2.model.key_groups import group_of
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query.completeness import CompletenessParameters, by_day, by_hour
from tests.iceberg.trades_table import DAY, read_to, row_at, settings_in, writer_of
from tests.model.dead_letters import dead_letter
from tests.model.trade_slices import slice_of
from tests.query.tables import (
    EPOCH,
    append,
    conflict,
    event,
    made,
    numbered,
    progress,
    session_started,
    set_progress,
    write_letters,
)

HOUR = timedelta(hours=1)
Marks = tuple[str, int, int, int, bool, bool]


def lay_out(settings: Settings, rows: list[Any], events: list[Any], letters: list[Any]) -> None:
    """Create both tables, and the dead letters as commits have counted them."""
    trades = made(settings, TableName.TRADES)
    append(trades, rows)
    append(made(settings, TableName.SEQUENCE_EVENTS), events)
    set_progress(trades, progress(offset=1_000))
    if letters:
        write_letters(settings, letters)


def marks(settings: Settings, **asked: Any) -> list[Marks]:
    """Query by day: symbol, day of the month, conflicts, sessions, and the doubts of day and symbol."""
    return [
        (one.symbol, one.day.day, one.conflicts, one.sessions, one.numbering_in_doubt, one.symbol_in_doubt)
        for one in by_day(settings, CompletenessParameters(**asked))
    ]


@pytest.mark.parametrize(
    ("rows", "events", "letters", "expected"),
    [
        ([(1, 1)], [(1, 1)], [], [(9, 0, 1, False, False)]),
        ([(1, 1), (2, 25)], [(1, 1), (2, 25)], [], [(9, 0, 1, False, False), (10, 0, 1, False, False)]),
        ([(1, 1), (2, 25)], [(1, 1), (2, 2)], [], [(9, 0, 2, True, True), (10, 0, 0, False, True)]),
        ([(1, 1)], [(1, 1), (1, 1)], [], [(9, 0, 1, False, False)]),
        ([(1, 1)], [(1, 1), (2, 25)], [], [(9, 0, 1, False, True), (10, 0, 1, False, True)]),
        ([(1, 1)], [(1, 1)], [2, 23.9, 24], [(9, 2, 1, True, True), (10, 1, 0, True, True)]),
        ([(1, 1)], [], [], [(9, 0, 0, False, False)]),
        ([], [(1, 1)], [], [(9, 0, 1, False, False)]),
    ],
    ids=[
        "a symbol's first session",
        "a session a day",
        "two sessions on a day",
        "an event that is there twice",
        "more sessions than days with trades",
        "conflicts, one on a day without trades",
        "a numbering without sessions",
        "one session, of trades that were removed",
    ],
)
def test_numbering_in_doubt(
    settings: Settings, rows: list[Any], events: list[Any], letters: list[float], expected: list[tuple[Any, ...]]
) -> None:
    """A conflict, or a second session on a day; for a symbol, more sessions than days with trades."""
    counted = [conflict(number, EPOCH + hours * HOUR) for number, hours in enumerate(letters)]
    lay_out(settings, [numbered(*one) for one in rows], [session_started(*one) for one in events], counted)
    assert [one[1:] for one in marks(settings)] == expected


def test_a_day_with_only_conflicts_expects_nothing(settings: Settings) -> None:
    """It has a row without a percentage; the strip by hour has none."""
    lay_out(settings, [], [], [conflict(1, EPOCH)])
    (day,) = by_day(settings)
    assert (day.expected, day.stored, day.missing, day.percent, day.conflicts) == (0, 0, 0, None, 1)
    assert by_hour(settings, CompletenessParameters()) == by_hour(settings, CompletenessParameters(in_doubt=True)) == []


def test_only_committed_conflicts_that_name_their_trade_count(settings: Settings) -> None:
    """Other reasons, dead letters of an earlier version, unreadable lines and uncommitted ones are ignored."""
    lay_out(settings, [numbered(1, 1)], [], [])
    broken = msgspec.json.encode({**conflict(4, EPOCH).fields, "timestamp": "yesterday"}) + b"\n"
    letters = [
        dead_letter(1, reason=Reason.CONFLICT),
        dead_letter(2, value='{"reason":"conflict"}'),
        conflict(3, EPOCH, exchange=None),
        SimpleNamespace(line=lambda: broken),
        conflict(5, "2024-08-10T01:00:00+02:00"),
    ]
    write_letters(settings, letters, uncounted=[conflict(6, EPOCH)])
    assert marks(settings) == [("BTCUSDT", 9, 1, 0, True, True)]


def test_without_ledger_and_dead_letters_there_is_no_doubt(settings: Settings) -> None:
    """Without a folder of dead letters there are no conflicts, and without a ledger no sessions."""
    append(made(settings, TableName.TRADES), [numbered(1, 1), numbered(1, 2, 2)])
    assert marks(settings) == [("BTCUSDT", 9, 0, 0, False, False)]


def test_filters_select_marks(settings: Settings) -> None:
    """By name, by time, by part of a name, and by doubt; a day outside the requested span does not count."""
    rows = [numbered(1, 1), numbered(5, 30), numbered(1, 1, symbol="ETHUSDT"), numbered(1, 1, symbol="XRPUSDT")]
    events = [
        session_started(1, 1),
        session_started(2, 3),
        session_started(3, 30),
        session_started(1, 1, symbol="ETHUSDT"),
    ]
    lay_out(settings, rows, events, [conflict(1, EPOCH + 2 * HOUR, symbol="XRPUSDT")])
    btc = [("BTCUSDT", 9, 0, 2, True, True), ("BTCUSDT", 10, 0, 1, False, True)]
    eth, xrp = ("ETHUSDT", 9, 0, 1, False, False), ("XRPUSDT", 9, 1, 0, True, True)
    assert marks(settings) == [*btc, eth, xrp]
    assert marks(settings, symbol="ETHUSDT") == marks(settings, containing="eth") == [eth]
    assert marks(settings, exchange="kraken") == []
    assert marks(settings, in_doubt=True) == [*btc, xrp]
    assert marks(settings, in_doubt=True, worst=1) == btc
    assert marks(settings, in_doubt=True, symbol="ETHUSDT") == []
    after = EPOCH + 2 * HOUR + HOUR / 2
    assert marks(settings, start=after) == [("BTCUSDT", 9, 0, 1, False, True), ("BTCUSDT", 10, 0, 1, False, True)]
    assert marks(settings, end=EPOCH + 2 * HOUR, symbol="XRPUSDT") == [("XRPUSDT", 9, 0, 0, False, False)]
    hours = by_hour(settings, CompletenessParameters())
    assert by_hour(settings, CompletenessParameters(in_doubt=True)) == [one for one in hours if one.symbol != "ETHUSDT"]


def test_as_of_has_the_marks_of_the_messages_committed_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions and conflicts of each writer's messages below its progress then, whenever they were recorded."""
    clock = SimpleNamespace(now=1_700_000_000.0, time=lambda: clock.now)
    monkeypatch.setattr("pyiceberg.table.snapshots.time", clock)
    settings = settings_in(tmp_path, writers=2)
    names = [next(f"S{n}" for n in range(99) if group_of("kraken", f"S{n}") % 2 == writer) for writer in (0, 1)]
    times: list[float] = []
    writers = [writer_of(settings, str(writer)) for writer in (0, 1)]
    for epoch in range(2):
        for writer, name in zip(writers, names, strict=True):
            offset = 4 * epoch + 2 * writers.index(writer)
            rows = [row_at(offset, symbol=name, sequence=epoch, timestamp=20_000 * DAY + epoch)]
            writer.write_batch([slice_of(rows, session=1 + epoch), read_to(4 * epoch + 4)])
            writer.snapshot()
            times.append(clock.now)
            clock.now += 60
    day = datetime.fromtimestamp(20_000 * 86_400, UTC)
    events = [
        event("session_started", 0, 0, exchange="kraken", symbol=name, session=1 + epoch, timestamp=day,
              offset=4 * epoch + 2 * place)
        for epoch in range(2) for place, name in enumerate(names)
    ]  # fmt: skip
    append(made(settings, TableName.SEQUENCE_EVENTS), events)
    for place, name in enumerate(names):
        letters = [conflict(4 * epoch + 1 + 2 * place, day, exchange="kraken", symbol=name) for epoch in range(2)]
        write_letters(settings, letters, str(place))
    reported = [marks(settings, as_of=datetime.fromtimestamp(now, UTC)) for now in times]
    assert [[one[2:4] for one in found] for found in reported] == [
        [(1, 1)],
        [(1, 1), (1, 1)],
        [(2, 2), (1, 1)],
        [(2, 2), (2, 2)],
    ]
    assert reported[-1] == marks(settings)

"""Completeness: every number from the lowest stored to the highest is counted once, on one day."""

from dataclasses import asdict, astuple
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from k2.iceberg.tables import TableName
from k2.model.key_groups import group_of
from k2.ops.settings import Settings
from k2.query.completeness import CompletenessParameters, by_day, by_hour, summary_by_day, summary_by_hour
from k2.query.snapshots import NoSnapshotError
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import DAY as DAY_US
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
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
    trade,
    write_letters,
)

YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
Trade = tuple[str, int, int, datetime]
"""Symbol, session, sequence and venue time."""


def days(settings: Settings, **asked: Any) -> list[tuple[str, int, int, int | None]]:
    """Query by day: symbol, day of the month, stored and missing."""
    found = by_day(settings, CompletenessParameters(**asked))
    for one in found:
        numbers = None if one.missing is None else one.stored - one.not_numbered + one.missing
        assert one.expected == numbers
    return [(one.symbol, one.day.day, one.stored, one.missing) for one in found]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(7, 1)], [(9, 1, 0)]),
        ([(1, 1), (2, 2)], [(9, 2, 0)]),
        ([(1, 1), (4, 2)], [(9, 2, 2)]),
        ([(1, 23), (4, 25)], [(9, 1, 1), (10, 1, 1)]),
        ([(1, 23), (3, 25)], [(9, 1, 0), (10, 1, 1)]),
        ([(1, 12), (10, 84)], [(9, 1, 1), (10, 0, 3), (11, 0, 3), (12, 1, 1)]),
        ([(4, 23), (1, 25)], [(9, 1, 1), (10, 1, 1)]),
        ([(1, 23), (2, 23), (2, 25)], [(9, 2, 0)]),
        ([(5, 1), (1, 2, 2), (3, 3, 2)], [(9, 3, 1)]),
        ([(None, 1, 0), (None, 2, 0), (None, 25, 0)], [(9, 2, None), (10, 1, None)]),
        ([(1, 1, 0), (9, 2, 0)], [(9, 2, None)]),
        ([(1, 1, None), (9, 2, -1), (None, 3, 1)], [(9, 3, None)]),
        ([(1, 1), (9, 2, 0), (3, 3)], [(9, 3, 1)]),
        ([(1, 1), (9, 25, 0), (10, 26, 0), (3, 73)], [(9, 1, 0), (10, 2, 1), (12, 1, 0)]),
        ([(-(2**63), 1), (2**63 - 1, 2)], [(9, 2, 2**64 - 2)]),
    ],
    ids=[
        "one trade",
        "in order",
        "a hole on a day",
        "a hole over midnight, on both sides of it",
        "a hole's number that falls on midnight is the new day's",
        "a hole over days without any trade",
        "numbers against the clock",
        "a number twice",
        "sessions apart",
        "trades without a number",
        "numbers with holes by nature",
        "other rows without a gapless number",
        "a row without a gapless number among numbers",
        "a day that has only missing numbers and rows without a gapless number",
        "wider than 64 bits",
    ],
)
def test_days(settings: Settings, rows: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    """Stored numbers count for their day, missing ones for the time between their neighbours."""
    append(made(settings, TableName.TRADES), [numbered(*one) for one in rows])
    assert [one[1:] for one in days(settings)] == expected


def test_percent_is_rounded_down(settings: Settings) -> None:
    """A symbol with one of three million missing is not reported as complete."""
    append(made(settings, TableName.TRADES), [numbered(1, 1), numbered(3, 2), numbered(1, 3, 2)])
    assert [astuple(one) for one in by_day(settings)] == [
        ("binance", "BTCUSDT", date(2024, 8, 9), 4, 3, 1, 75.0, 0, 0, 0, False, False, 0),
    ]
    append(made(settings, TableName.TRADES), [numbered(n, 30 + n / 1e6, 3) for n in (*range(300_000), 300_001)])
    assert [one.percent for one in by_day(settings)] == [75.0, 99.9996]


def test_accepted_numbers_are_not_expected(settings: Settings) -> None:
    """They are counted apart, on the days between their stored neighbours, until a trade of theirs comes."""
    trades, ledger = made(settings, TableName.TRADES), made(settings, TableName.SEQUENCE_EVENTS)
    append(trades, [numbered(1, 0), numbered(2, 23), numbered(6, 27), numbered(8, 28)])
    where = {"session": 1, "topic": "", "partition": -1, "offset": -1}
    append(ledger, [event("gap_opened", 3, 5, session=1), event("gap_accepted", 3, 5, **where)])
    assert [(one.day.day, one.expected, one.stored, one.missing, one.accepted) for one in by_day(settings)] == [
        (9, 2, 2, 0, 0),
        (10, 3, 2, 1, 3),
    ]
    assert [(one.hour.hour, one.accepted) for one in by_hour(settings, CompletenessParameters()) if one.accepted] == [
        (0, 1),
        (1, 1),
        (2, 1),
    ]
    append(ledger, [event("gap_accepted", 7, 7, **where, detected_at=EPOCH + HOUR)])
    totals = summary_by_day(settings, CompletenessParameters()).totals
    assert (totals.expected, totals.missing, totals.accepted, totals.percent) == (4, 0, 4, 100.0)
    assert (totals.days, totals.days_complete) == (2, 2)
    append(trades, [numbered(4, 24)])
    assert [(one.stored, one.missing, one.accepted) for one in by_day(settings)] == [(2, 0, 1), (3, 0, 2)]
    append(ledger, [event("gap_acceptance_undone", 3, 7, **where, detected_at=EPOCH + 2 * HOUR)])
    assert [(one.stored, one.missing, one.accepted) for one in by_day(settings)] == [(2, 1, 0), (3, 2, 0)]


def test_numbers_that_the_canary_leaves_out_are_not_accepted(settings: Settings) -> None:
    """Also if someone accepts them: they count once, as left out."""
    canary = {"exchange": "k2-canary", "symbol": "C"}
    append(made(settings, TableName.TRADES), [numbered(n, n / 100, **canary) for n in (98, 102)])
    where = {**canary, "session": 1, "topic": "", "partition": -1, "offset": -1}
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_accepted", 99, 100, **where)])
    watched = settings.model_copy(update={"canary_exchange": "k2-canary"})
    assert [(one.missing, one.accepted) for one in by_day(watched)] == [(1, 1)]


def test_filters_select(settings: Settings) -> None:
    """By name and by time; of a hole whose neighbours are outside, the part inside counts."""
    rows = [numbered(1, 0), numbered(9, 8), numbered(1, 1, symbol="ETHUSDT"), numbered(1, 2, exchange="kraken")]
    append(made(settings, TableName.TRADES), rows)
    assert [one.exchange for one in by_day(settings, CompletenessParameters(exchange="kraken"))] == ["kraken"]
    assert days(settings, symbol="ETHUSDT") == [("ETHUSDT", 9, 1, 0)]
    binance = {"exchange": "binance", "symbol": "BTCUSDT"}
    assert days(settings, **binance) == [("BTCUSDT", 9, 2, 7)]
    assert days(settings, **binance, start=EPOCH + 2 * HOUR, end=EPOCH + 5 * HOUR) == [("BTCUSDT", 9, 0, 3)]
    assert days(settings, **binance, start=EPOCH + 6 * HOUR) == [("BTCUSDT", 9, 1, 2)]
    assert days(settings, **binance, start=EPOCH + 9 * HOUR) == []
    hours = by_hour(settings, CompletenessParameters(**binance, end=EPOCH + 2 * HOUR))
    assert [(one.hour, one.stored, one.missing) for one in hours] == [(EPOCH, 1, 0), (EPOCH + HOUR, 0, 1)]


def current_of(settings: Settings) -> int:
    """Return the id of the current snapshot of the trades."""
    snapshot = made(settings, TableName.TRADES).current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def test_as_of_a_time_is_the_table_at_that_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commits until then, or up to a snapshot, of two writers; later commits and expired ones do not matter."""
    clock = SimpleNamespace(now=1_700_000_000.0, time=lambda: clock.now)
    monkeypatch.setattr("pyiceberg.table.snapshots.time", clock)
    settings = settings_in(tmp_path, writers=2)
    names = [next(f"S{n}" for n in range(99) if group_of("kraken", f"S{n}") % 2 == writer) for writer in (0, 1)]
    writers = [writer_of(settings, str(writer)) for writer in (0, 1)]
    reported: list[tuple[float, Any]] = [(clock.now - 1, [])]
    snapshots: list[int] = []
    for epoch, numbers in enumerate([(1, 9), (4, 10), (2, 3)]):
        for writer, name in zip(writers, names, strict=True):
            offset = 4 * epoch + 2 * writers.index(writer)
            rows = [
                row_at(offset + place, symbol=name, sequence=number, timestamp=20_000 * DAY_US + number)
                for place, number in enumerate(numbers)
            ]
            writer.write_batch([slice_of(rows, session=1), read_to(4 * epoch + 4)])
            writer.snapshot()
            reported.append((clock.now, by_day(settings)))
            snapshots.append(current_of(settings))
            clock.now += 60
    assert [sum(one.stored for one in found) for _, found in reported] == [0, 2, 4, 6, 8, 10, 12]
    for now, found in reported:
        as_of = datetime.fromtimestamp(now, UTC)
        assert by_day(settings, CompletenessParameters(as_of=as_of)) == found
        assert by_day(settings, CompletenessParameters(as_of=as_of, symbol=names[1])) == [
            one for one in found if one.symbol == names[1]
        ]
    open_catalog(settings).load_table("market_data.trades").maintenance.expire_snapshots().by_id(snapshots[0]).commit()
    append(made(settings, TableName.TRADES), [trade(99)])
    for snapshot, (_, found) in zip([*snapshots, current_of(settings)], [*reported[1:], reported[-1]], strict=True):
        assert by_day(settings, CompletenessParameters(as_of=snapshot)) == found
    with pytest.raises(NoSnapshotError, match=r"as_of: 17 is no commit in the lineage of table market_data\.trades"):
        by_day(settings, CompletenessParameters(as_of=17))


def test_the_worst_come_first(settings: Settings) -> None:
    """With a limit, the least complete symbols come first, then those with most trades; each as without a limit.

    A symbol that is not numbered comes last, however many trades it has.
    """
    numbers = {"AAA": (1, 2, 3), "BBB": (1, 9), "CCC": (1, 2), "aab": (1, 3), "NON": range(9)}
    rows = [
        trade(one, symbol=name) | {"session": int(name != "NON")} for name, found in numbers.items() for one in found
    ]
    append(made(settings, TableName.TRADES), rows)
    every = by_day(settings)
    for count, names in ((1, {"BBB"}), (2, {"BBB", "aab"}), (4, {*numbers} - {"NON"}), (9, {*numbers})):
        assert by_day(settings, CompletenessParameters(worst=count)) == [row for row in every if row.symbol in names]
    for part, names in (("aa", {"AAA", "aab"}), ("NCE B", {"BBB"}), ("%", set()), ("' OR 1", set())):
        assert by_day(settings, CompletenessParameters(containing=part)) == [
            row for row in every if row.symbol in names
        ]


def test_totals_are_of_all_symbols(settings: Settings) -> None:
    """Whatever is selected of them, by day and by hour; the percentage is of those that are numbered."""
    append(made(settings, TableName.TRADES), [
        *(numbered(number, number) for number in (1, 4)),
        *(numbered(number, 30, symbol="ETHUSDT") for number in (1, 2)),
        *(numbered(number, 1, 0, symbol="NON") for number in range(5)),
        numbered(None, 1, 0, symbol="ETHUSDT"),
    ])  # fmt: skip
    append(made(settings, TableName.SEQUENCE_EVENTS), [session_started(session, 1) for session in (1, 2)])
    sums = {
        "symbols": 3,
        "symbols_not_numbered": 1,
        "expected": 6,
        "stored": 10,
        "missing": 2,
        "percent": 66.6666,
        "accepted": 0,
    }
    by_days = {"symbols_in_doubt": 1, "days": 2, "days_complete": 1, "days_in_doubt": 1}
    for asked in ({}, {"worst": 1}, {"containing": "non"}, {"in_doubt": True}, {"containing": "nothing"}):
        selected = CompletenessParameters.model_validate(asked)
        found = summary_by_day(settings, selected)
        assert asdict(found.totals) == {**sums, "not_numbered": 6, **by_days}
        assert found.rows == by_day(settings, selected)
        hours = summary_by_hour(settings, selected)
        assert asdict(hours.totals) == {**sums, "not_numbered": 6}
        assert hours.rows == by_hour(settings, selected)
    non = summary_by_day(settings, CompletenessParameters(symbol="NON")).totals
    assert (non.symbols, non.symbols_not_numbered, non.expected, non.missing, non.percent) == (1, 1, None, None, None)
    assert (non.stored, non.days, non.days_complete) == (5, 0, 0)
    none = summary_by_day(settings, CompletenessParameters(symbol="none")).totals
    assert (none.symbols, none.expected, none.stored, none.percent) == (0, None, 0, None)


@pytest.mark.parametrize(("session", "expected"), [(1, 0), (0, None)], ids=["numbered", "not numbered"])
def test_a_day_without_rows_is_numbered_if_its_symbol_is(
    settings: Settings, session: int, expected: int | None
) -> None:
    """A day that has only a conflict: nothing is missing if the symbol has numbers on another day, else unknown."""
    table = made(settings, TableName.TRADES)
    append(table, [numbered(1, 1, session)])
    set_progress(table, progress(offset=100))
    write_letters(settings, [conflict(50, EPOCH + 30 * HOUR)])
    for start in (None, EPOCH + DAY):
        last = by_day(settings, CompletenessParameters(start=start))[-1]
        assert (last.day.day, last.expected, last.missing, last.percent) == (10, expected, expected, None)


def test_numbers_that_the_canary_leaves_out_are_not_expected(tmp_path: Path) -> None:
    """Only each hundredth number of its exchange; any other that is missing counts, and so does another exchange's."""
    settings = Settings(data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    rows = [
        numbered(sequence, hours, exchange=exchange)
        for exchange in ("k2-canary", "x")
        for sequence, hours in ((99, 1), (101, 2), (199, 3), (203, 4))
    ]
    append(table, rows)
    found = {one.exchange: (one.expected, one.missing) for one in by_day(settings)}
    assert found == {"k2-canary": (103, 99), "x": (105, 101)}

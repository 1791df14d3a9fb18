"""Completeness: every number from the lowest stored to the highest is counted once, on one day."""

from collections import Counter
from dataclasses import asdict, astuple
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.model.key_groups import group_of
from k2.model.progress import TopicPartition
from k2.model.state_source import SessionKey, StoredSession
from k2.ops.settings import Settings
from k2.query.completeness import CompletenessParameters, by_day, by_hour, summary_by_day, summary_by_hour
from k2.query.conflicts import CONFLICTS
from k2.query.pool import open_engine
from k2.query.snapshots import NoSnapshotError
from k2.query.span_counts import SOURCES, count_spans, register_marks, register_non_market
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import DAY as DAY_US
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of
from tests.query.tables import (
    EPOCH,
    append,
    conflict,
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
        ("binance", "BTCUSDT", date(2024, 8, 9), 4, 3, 1, 75.0, 0, 0, 0, False, False),
    ]
    append(made(settings, TableName.TRADES), [numbered(n, 30 + n / 1e6, 3) for n in (*range(300_000), 300_001)])
    assert [one.percent for one in by_day(settings)] == [75.0, 99.9996]


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


TRADES = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.integers(0, 2),
        st.integers(-20, 40),
        st.integers(-60, 60).map(lambda hours: EPOCH + hours * HOUR / 2),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda one: one[:3],
)
BOUNDS = st.none() | st.integers(-50, 50).map(lambda hours: EPOCH + hours * HOUR / 2)


SCHEMA = pa.schema(
    {
        "exchange": pa.string(),
        "symbol": pa.string(),
        "session": pa.int32(),
        "sequence": pa.int64(),
        "first_sequence": pa.int64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
)
Counts = tuple[int, int, int | None]
"""Stored, of these not numbered, and missing."""


def first_of(number: int) -> int:
    """Return the first of the numbers that a trade stands for: one in four stands for three."""
    return number - 2 if number % 4 == 0 else number


def by_hand(
    trades: list[Trade], non_market: set[int], asked: CompletenessParameters, span: timedelta
) -> dict[tuple[str, int], Counts]:
    """Return the counts by symbol and span, counted number by number."""
    stored: Counter[tuple[str, int]] = Counter()
    not_numbered: Counter[tuple[str, int]] = Counter()
    missing: Counter[tuple[str, int]] = Counter()

    def count(counter: Counter[tuple[str, int]], symbol: str, time: datetime, numbers: int = 1) -> None:
        if (asked.start is None or time >= asked.start) and (asked.end is None or time < asked.end):
            counter[symbol, (time - YEAR_1) // span] += numbers

    for symbol, session, _, time in trades:
        if not session:
            count(stored, symbol, time)
            count(not_numbered, symbol, time)
    for symbol, session in {one[:2] for one in trades if one[1]}:
        ranges = sorted((first_of(one[2]), *one[2:]) for one in trades if one[:2] == (symbol, session))
        reached = ranges[0][0] - 1
        for idx, (first, last, after) in enumerate(ranges):
            if last > reached:
                count(stored, symbol, after, last - max(first, reached + 1) + 1)
            lacking = [number for number in range(reached + 1, first) if number not in non_market]
            reached = max(reached, last)
            early, late = sorted((ranges[idx - 1][2] if idx else after, after))
            for place in range(1, len(lacking) + 1):
                microseconds = (late - early) // timedelta(microseconds=1) * place // (len(lacking) + 1)
                count(missing, symbol, early + timedelta(microseconds=microseconds))
    return {
        key: (
            stored[key],
            not_numbered[key],
            missing[key] if missing[key] or stored[key] > not_numbered[key] else None,
        )
        for key in {*stored, *missing}
    }


def totals_of(counted: dict[tuple[str, int], Counts]) -> dict[str, int | None]:
    """Return the sums over symbols and spans."""
    symbols = {symbol for symbol, _ in counted}
    numbered = {symbol for (symbol, _), (_, _, missing) in counted.items() if missing is not None}
    stored, not_numbered = (sum(one[place] for one in counted.values()) for place in (0, 1))
    missing = sum(one[2] or 0 for one in counted.values()) if numbered else None
    return {
        "symbols": len(symbols),
        "symbols_not_numbered": len(symbols - numbered),
        "stored": stored,
        "not_numbered": not_numbered,
        "missing": missing,
        "expected": None if missing is None else stored - not_numbered + missing,
    }


@given(
    trades=TRADES,
    non_market=st.sets(st.integers(-20, 40), max_size=20),
    start=BOUNDS,
    end=BOUNDS,
    span=st.sampled_from([DAY, HOUR]),
    worst=st.none() | st.integers(1, 2),
)
def test_each_number_is_counted_once(
    trades: list[Trade],
    non_market: set[int],
    start: datetime | None,
    end: datetime | None,
    span: timedelta,
    worst: int | None,
) -> None:
    """Compared with a count number by number: the counts of every symbol and span, and the totals.

    Numbers of non-market trades, the same ones in every session, are neither stored nor missing. The totals are those
    of all symbols, whatever is selected, and a symbol that is not numbered comes after those that are.
    """
    rows = [
        {
            "exchange": "x",
            "symbol": symbol,
            "session": session,
            "sequence": sequence,
            "first_sequence": first_of(sequence) if session and first_of(sequence) < sequence else None,
            "timestamp": time,
        }
        for symbol, session, sequence, time in trades
    ]
    assume(start is None or end is None or start < end)
    asked = CompletenessParameters(start=start, end=end, worst=worst, containing="a" if worst == 2 else None)
    span_us = span // timedelta(microseconds=1)
    with open_engine(Settings()) as engine:
        engine.register_arrow("trades", pa.Table.from_pylist(rows, SCHEMA))
        register_non_market(engine, non_market_numbers(trades, non_market))
        register_marks(engine, None, CONFLICTS.empty_table(), asked)
        counts = count_spans(engine, SOURCES, asked, span_us, of_all=True)
        selected, totals = [*counts.rows()], counts.totals()
        everything = CompletenessParameters(start=start, end=end)
        counted = [*count_spans(engine, SOURCES, everything, span_us).rows()]
        whole = count_spans(engine, SOURCES, CompletenessParameters(), span_us).totals()
    found = {(one["symbol"], one["span"]): (one["stored"], one["not_numbered"], one["missing"]) for one in counted}
    expected = by_hand(trades, non_market, asked, span)
    assert found == expected
    sums = totals_of(expected)
    assert {name: totals[name] for name in sums} == sums
    assert (whole["expected"] or 0) == expected_of(trades, non_market)
    names = {one["symbol"] for one in counted} if worst is None else worst_of(expected, worst, asked.containing)
    assert selected == [one for one in counted if one["symbol"] in names]


def worst_of(counted: dict[tuple[str, int], Counts], worst: int, containing: str | None) -> set[str]:
    """Return the symbols with the most missing numbers, then those with the most trades; unnumbered ones come last."""
    missing: dict[str, int] = {}
    stored: Counter[str] = Counter()
    for (symbol, _), (count, _, lacking) in counted.items():
        stored[symbol] += count
        if lacking is not None:
            missing[symbol] = missing.get(symbol, 0) + lacking
    names = [symbol for symbol in stored if containing is None or containing in symbol.lower()]
    return {*sorted(names, key=lambda symbol: (-missing.get(symbol, -1), -stored[symbol], symbol))[:worst]}


def numbers_of(trades: list[Trade], key: tuple[str, int]) -> set[int]:
    """Return the numbers that the trades of a session stand for."""
    numbers = [one[2] for one in trades if one[:2] == key]
    return {number for last in numbers for number in range(first_of(last), last + 1)}


def non_market_numbers(trades: list[Trade], non_market: set[int]) -> list[StoredSession]:
    """Return the numbers of non-market trades, for each session that has trades."""
    return [
        StoredSession(SessionKey("x", symbol, session), ((number, number),), 0, 0, TopicPartition("t", 0), 0)
        for symbol, session in sorted({one[:2] for one in trades if one[1]})
        for number in sorted(non_market - numbers_of(trades, (symbol, session)))
    ]


def expected_of(trades: list[Trade], non_market: set[int]) -> int:
    """Return the expected number of trades: the numbers of each session."""
    sessions = {key: numbers_of(trades, key) for key in {one[:2] for one in trades if one[1]}}
    between = [{*range(min(numbers), max(numbers) + 1)} - (non_market - numbers) for numbers in sessions.values()]
    return sum(map(len, between))


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
    sums = {"symbols": 3, "symbols_not_numbered": 1, "expected": 6, "stored": 10, "missing": 2, "percent": 66.6666}
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

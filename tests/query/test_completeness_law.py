"""Completeness, compared with a count number by number."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from k2.model.progress import TopicPartition
from k2.model.state_source import AnnouncedNumber, SessionKey, StoredSession
from k2.ops.settings import Settings
from k2.query.announced import register_announced
from k2.query.completeness import CompletenessParameters
from k2.query.conflicts import CONFLICTS
from k2.query.decisions import register_accepted
from k2.query.pool import open_engine
from k2.query.span_counts import count_spans, register_marks, register_non_market
from k2.query.span_sql import SOURCES
from k2.sequencing.acceptance import AcceptedRange
from tests.query.tables import EPOCH

YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LAG = 5 * HOUR
"""How long after a trade its message was published."""
Trade = tuple[str, int, int, datetime]
"""Symbol, session, sequence and venue time."""

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
        "kafka_timestamp": pa.timestamp("us", tz="UTC"),
    }
)
Announced = tuple[int, datetime]
"""The number that the venue has named in every session, and the Kafka time of that message."""
Counts = tuple[int, int, int | None, int]
"""Stored, of these not numbered, missing, and accepted as missing."""


def first_of(number: int) -> int:
    """Return the first of the numbers that a trade stands for: one in four stands for three."""
    return number - 2 if number % 4 == 0 else number


def by_hand(
    trades: list[Trade],
    non_market: set[int],
    accepted: set[int],
    announced: Announced | None,
    asked: CompletenessParameters,
    span: timedelta,
) -> dict[tuple[str, int], Counts]:
    """Return the counts by symbol and span, counted number by number."""
    given_up: Counter[tuple[str, int]] = Counter()
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
        befores = [after for _, _, after in (ranges[0], *ranges)]
        steps = [(*one, before) for one, before in zip(ranges, befores, strict=False)]
        highest, highest_at = max((last, after) for _, last, after in ranges)
        if announced is not None and announced[0] > highest:
            # No trade, but the numbers up to the announced one are missing.
            named_at = highest_at + max(timedelta(), announced[1] - highest_at - LAG)
            steps.append((announced[0] + 1, announced[0], named_at, highest_at))
        for first, last, after, before in steps:
            if last > reached and first <= last:
                count(stored, symbol, after, last - max(first, reached + 1) + 1)
            lacking = [number for number in range(reached + 1, first) if number not in non_market]
            reached = max(reached, last)
            early, late = sorted((before, after))
            sizes = {True: len([number for number in lacking if number in accepted])}
            sizes[False] = len(lacking) - sizes[True]
            for is_accepted, size in sizes.items():
                for place in range(1, size + 1):
                    microseconds = (late - early) // timedelta(microseconds=1) * place // (size + 1)
                    time = early + timedelta(microseconds=microseconds)
                    count(given_up if is_accepted else missing, symbol, time)
    return {
        key: (
            stored[key],
            not_numbered[key],
            missing[key] if missing[key] or stored[key] > not_numbered[key] or not stored[key] else None,
            given_up[key],
        )
        for key in {*stored, *missing, *given_up}
    }


def totals_of(counted: dict[tuple[str, int], Counts]) -> dict[str, int | None]:
    """Return the sums over symbols and spans."""
    symbols = {symbol for symbol, _ in counted}
    numbered = {symbol for (symbol, _), (_, _, missing, _) in counted.items() if missing is not None}
    stored, not_numbered, accepted = (sum(one[place] or 0 for one in counted.values()) for place in (0, 1, 3))
    missing = sum(one[2] or 0 for one in counted.values()) if numbered else None
    return {
        "symbols": len(symbols),
        "symbols_not_numbered": len(symbols - numbered),
        "stored": stored,
        "not_numbered": not_numbered,
        "missing": missing,
        "accepted": accepted,
        "expected": None if missing is None else stored - not_numbered + missing,
    }


@given(
    trades=TRADES,
    non_market=st.sets(st.integers(-20, 40), max_size=20),
    accepted=st.sets(st.integers(-20, 40), max_size=30),
    announced=st.none() | st.tuples(st.integers(-20, 50), BOUNDS.filter(bool)),
    start=BOUNDS,
    end=BOUNDS,
    span=st.sampled_from([DAY, HOUR]),
    worst=st.none() | st.integers(1, 2),
)
def test_each_number_is_counted_once(
    trades: list[Trade],
    non_market: set[int],
    accepted: set[int],
    announced: Announced | None,
    start: datetime | None,
    end: datetime | None,
    span: timedelta,
    worst: int | None,
) -> None:
    """Compared with a count number by number: the counts of every symbol and span, and the totals.

    Numbers of non-market trades, the same ones in every session, are neither stored nor missing. Accepted numbers, the
    same ones in every session, count apart if they are neither stored nor non-market. The totals are those
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
            "kafka_timestamp": time + LAG,
        }
        for symbol, session, sequence, time in trades
    ]
    assume(start is None or end is None or start < end)
    asked = CompletenessParameters(start=start, end=end, worst=worst, containing="a" if worst == 2 else None)
    span_us = span // timedelta(microseconds=1)
    with open_engine(Settings()) as engine:
        engine.register_arrow("trades", pa.Table.from_pylist(rows, SCHEMA))
        register_non_market(engine, non_market_numbers(trades, non_market))
        register_accepted(engine, {SessionKey("x", *one[:2]): ranges_of(accepted) for one in trades})
        register_announced(engine, announced_numbers(trades, announced))
        register_marks(engine, None, CONFLICTS.empty_table(), asked)
        counts = count_spans(engine, SOURCES, asked, span_us, of_all=True)
        selected, totals = [*counts.rows()], counts.totals()
        everything = CompletenessParameters(start=start, end=end)
        counted = [*count_spans(engine, SOURCES, everything, span_us).rows()]
        whole = count_spans(engine, SOURCES, CompletenessParameters(), span_us).totals()
    names_of = ("stored", "not_numbered", "missing", "accepted")
    found = {(one["symbol"], one["span"]): tuple(one[name] for name in names_of) for one in counted}
    expected = by_hand(trades, non_market, accepted, announced, asked, span)
    assert found == expected
    sums = totals_of(expected)
    assert {name: totals[name] for name in sums} == sums
    assert (whole["expected"] or 0) + whole["accepted"] == expected_of(trades, non_market, announced)
    names = {one["symbol"] for one in counted} if worst is None else worst_of(expected, worst, asked.containing)
    assert selected == [one for one in counted if one["symbol"] in names]


def worst_of(counted: dict[tuple[str, int], Counts], worst: int, containing: str | None) -> set[str]:
    """Return the symbols with the most missing numbers, then those with the most trades; unnumbered ones come last."""
    missing: dict[str, int] = {}
    stored: Counter[str] = Counter()
    for (symbol, _), (count, _, lacking, _) in counted.items():
        stored[symbol] += count
        if lacking is not None:
            missing[symbol] = missing.get(symbol, 0) + lacking
    names = [symbol for symbol in stored if containing is None or containing in symbol.lower()]
    return {*sorted(names, key=lambda symbol: (-missing.get(symbol, -1), -stored[symbol], symbol))[:worst]}


def ranges_of(numbers: set[int]) -> list[AcceptedRange]:
    """Return ranges of at most three numbers."""
    firsts = [number for number in sorted(numbers) if number - 1 not in numbers or number % 3 == 0]
    ranges = []
    for first in firsts:
        last = first
        while last + 1 in numbers and last + 1 not in firsts:
            last += 1
        ranges.append(AcceptedRange(first, last, 0, "r", "b"))
    return ranges


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


def announced_numbers(trades: list[Trade], announced: Announced | None) -> list[AnnouncedNumber]:
    """Return the announced number of each session that has trades."""
    if announced is None:
        return []
    at = (announced[1] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return [
        AnnouncedNumber(SessionKey("x", symbol, session), announced[0], at, TopicPartition("t", 0), 0)
        for symbol, session in sorted({one[:2] for one in trades if one[1]})
    ]


def expected_of(trades: list[Trade], non_market: set[int], announced: Announced | None) -> int:
    """Return the expected number of trades: the numbers of each session, up to the announced one."""
    sessions = {key: numbers_of(trades, key) for key in {one[:2] for one in trades if one[1]}}
    highest = -(10**6) if announced is None else announced[0]
    ranges = [(numbers, range(min(numbers), max(*numbers, highest) + 1)) for numbers in sessions.values()]
    return sum(len({*expected} - (non_market - numbers)) for numbers, expected in ranges)

"""Feeds: which symbols count as silent, and which trades as dated ahead."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.query.recent_trades import SymbolActivity
from k2.status.feeds import DatedAhead, dated_ahead, silent_symbols

START: Final = datetime(2026, 11, 28, 12, tzinfo=UTC)


def activity(symbol: str, first: int, last: int, *, buckets: int | None = None, exchange: str = "x") -> SymbolActivity:
    """Return a symbol with trades in spans of 4 s, numbered from the start: in each of them unless said otherwise."""
    count = last - first + 1 if buckets is None else buckets
    return SymbolActivity(exchange, symbol, count, _time(first), _time(last), 0, 0.0)


def _time(bucket: int) -> datetime:
    return START + timedelta(seconds=4 * bucket)


@pytest.mark.parametrize(
    ("others", "silent"),
    [
        ([activity("A", 0, 93), activity("B", 0, 93)], ["A", "B"]),
        ([activity("A", 0, 94), activity("B", 0, 93)], []),
        ([activity("A", 0, 93)], []),
        ([activity("A", 0, 13), activity("B", 0, 13)], []),
        ([activity("A", 0, 93, buckets=70), activity("B", 0, 93, buckets=70)], []),
        ([activity("A", 0, 93, exchange="y"), activity("B", 0, 93, exchange="y")], []),
        ([activity("A", 0, 93), activity("B", 0, 93), *(activity(f"C{one}", 0, 99) for one in range(8))], []),
    ],
    ids=["two", "one not long enough", "one alone", "too short", "not steady", "the whole exchange", "a few of many"],
)
def test_examples(others: list[SymbolActivity], silent: list[str]) -> None:
    """Two steady symbols, and a fifth of them, that stopped six spans before the newest trade of the exchange."""
    found = silent_symbols([*others, activity("Z", 0, 100)])
    assert [one.silent for one in found] == ([silent] if silent else [])


def test_what_is_said_of_silent_symbols() -> None:
    """The number of steady symbols, and since when the last of them is silent."""
    (found,) = silent_symbols([activity("B", 0, 20), activity("A", 0, 30), activity("Z", 0, 100)])
    assert (found.exchange, found.silent, found.steady, found.since) == ("x", ["A", "B"], 3, _time(30))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(95, 100)), max_size=20))
def test_symbols_that_trade_are_never_silent(spans: list[tuple[int, int]]) -> None:
    """However they begin, if all traded within the last spans, none is silent."""
    assert silent_symbols(activity(f"S{one}", *span) for one, span in enumerate(spans)) == []


def test_symbols_with_no_sound_time_are_left_out() -> None:
    """If all trades of a symbol are dated ahead, its times say nothing."""
    ahead = SymbolActivity("x", "A", 0, None, None, 3, 3_600.0)
    assert silent_symbols([ahead]) == []
    assert dated_ahead([ahead, SymbolActivity("x", "B", 9, START, START, 2, 60.0), activity("C", 0, 9)]) == [
        DatedAhead("x", 5, 3_600.0)
    ]

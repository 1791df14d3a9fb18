"""Plots of the tables: each queries its rows and draws them as a matplotlib figure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from k2.analysis.extras import import_extra
from k2.model.wording import format_count
from k2.query.completeness import CompletenessParameters, Day, Hour, by_day, by_hour
from k2.query.engine import QueryError
from k2.query.gaps import Gap, GapFilter, gaps
from k2.query.market import Market
from k2.query.parameters import UNITS, BarsParameters, PricesParameters, RowsFields, RowsParameters, make_parameters
from k2.query.pool import Pool
from k2.query.query_builders import latency, ohlcv, symbol_spans

if TYPE_CHECKING:
    from k2.analysis.plots.picture import Picture

__all__ = ["CANDLES_MAX", "SYMBOLS_MAX", "Plotter"]

CANDLES_MAX: Final = 1_000
SYMBOLS_MAX: Final = 50
"""Rows of a picture by symbol, unless another number is given."""
HOURS_DAYS_MAX: Final = 7
"""Number of days up to which completeness is drawn by hour by default."""
INTERVALS_WANTED: Final = 150
INTERVALS: Final = ("1s", "5s", "15s", "1m", "5m", "15m", "1h", "4h", "1d", "1w")
"""From which an interval is chosen."""
NAMED_MAX: Final = 5
NO_TRADES: Final = "no trade is in this selection"

Time = str | datetime
Version = str | int | datetime
Name = tuple[str, str]


class Plotter:
    """Plots of market data: `market.plot.candles(...)` and others; each returns a matplotlib figure.

    Notebooks show a figure by itself, and its `savefig` writes a file. Times are UTC. If there is nothing to draw, the
    picture says so, and its `note` is that sentence. All methods raise:

        MissingExtraError: matplotlib is not installed.
        QueryError and the other errors of `Result`: an argument is invalid, or the query cannot be answered.
    """

    def __init__(self, pool: Callable[[], Pool]) -> None:
        """Query with the connections of a pool, which is looked up for each picture."""
        self._pool = pool

    def candles(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | timedelta | None = None,
        as_of: Version | None = None,
    ) -> "Picture":
        """Draw candles of one symbol, with the volume below; without `interval`, one that gives up to 150 candles.

        Raises:
            QueryError: the selection has several symbols, or more than 1,000 candles.
        """
        import_extra("matplotlib", "plot", "plot.candles()")
        from k2.analysis.plots.candles import draw_candles  # noqa: PLC0415  matplotlib is optional
        from k2.analysis.plots.picture import empty_picture  # noqa: PLC0415  as above

        fields: RowsFields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        market, checked, spans = self._select(fields, interval)
        if not spans:
            return empty_picture("Candles", NO_TRADES)
        fields["exchange"], fields["symbol"] = name = _only_symbol(spans)
        step = checked.interval or _interval_for(spans[0]["last"] - spans[0]["first"])
        fields["limit"] = CANDLES_MAX + 1
        bars = market.table(ohlcv(**fields, interval=step))
        if bars.num_rows > CANDLES_MAX:
            raise QueryError(
                f"interval {interval_text(step)} gives more than {CANDLES_MAX:,} candles, too many for a picture; "
                "choose a longer interval or a shorter time"
            )
        title = f"{' '.join(name)}, {interval_text(step)} candles"
        subtitle = f"{format_count(bars.num_rows, 'candle')}, {format_count(spans[0]['trades'], 'trade')}"
        return draw_candles(title, subtitle, bars, step, *_time_range(checked, bars, step))

    def completeness(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        by: Literal["day", "hour"] | None = None,
        worst: int | None = None,
        as_of: Version | None = None,
    ) -> "Picture":
        """Draw a heat map of the stored share of the expected trades, by symbol and by hour or day.

        By default hours if the trades are of up to 7 days; and up to 50 symbols: those with the most missing numbers.
        """
        import_extra("matplotlib", "plot", "plot.completeness()")
        from k2.analysis.plots.completeness import draw_completeness  # noqa: PLC0415  matplotlib is optional
        from k2.analysis.plots.picture import empty_picture  # noqa: PLC0415  as above

        if by not in {None, "day", "hour"}:
            raise QueryError(f"by: {by!r} is neither day nor hour; use one of them")
        fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        parameters = make_parameters(CompletenessParameters, **fields, worst=worst)
        pool = self._pool()
        days = by_day(pool.settings, parameters.model_copy(update={"worst": None}), pool=pool)
        days = [day for day in days if day.expected or day.not_numbered]
        if not days:
            return empty_picture("Completeness", f"{NO_TRADES}, so nothing is expected")
        names, subtitle = _worst(days, worst or SYMBOLS_MAX)
        cells: Sequence[Day | Hour] = days
        dates = [day.day for day in days]
        if by == "hour" or (by is None and (max(dates) - min(dates)).days < HOURS_DAYS_MAX):
            cells = by_hour(pool.settings, parameters.model_copy(update={"worst": None}), pool=pool)
        return draw_completeness(
            subtitle,
            [cell for cell in cells if (cell.expected or cell.not_numbered) and (cell.exchange, cell.symbol) in names],
            names,
            {(day.exchange, day.symbol) for day in days if day.symbol_in_doubt},
        )

    def gaps(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        worst: int | None = None,
        as_of: Version | None = None,
    ) -> "Picture":
        """Draw a timeline of the gaps of each symbol: those that are open, filled by late trades, or accepted.

        Times are of the job's clock, as in `gaps`. By default of up to 50 symbols: those with the most missing numbers.
        """
        import_extra("matplotlib", "plot", "plot.gaps()")
        from k2.analysis.plots.gaps import draw_gaps  # noqa: PLC0415  matplotlib is optional
        from k2.analysis.plots.picture import empty_picture  # noqa: PLC0415  as above

        checked = make_parameters(CompletenessParameters, exchange=exchange, symbol=symbol, as_of=as_of, worst=worst)
        pool = self._pool()
        found = gaps(pool.settings, checked.exchange, checked.symbol, checked.as_of, GapFilter.ALL, pool=pool)
        if not found:
            return empty_picture("Gaps", "no gap is recorded in this selection")
        names = _most_missing(found)
        shown = names[: checked.worst or SYMBOLS_MAX]
        missing = sum(gap.missing for gap in found if gap.is_open)
        filled = sum(gap.missing for gap in found if gap.filled_at is not None)
        accepted = sum(gap.missing for gap in found if gap.accepted_at is not None)
        until = max(gap.opened_at + timedelta(seconds=gap.open_seconds) for gap in found)
        return draw_gaps(
            "Gaps in the sequence numbers",
            f"{missing:,} missing, {filled:,} filled{f', {accepted:,} accepted' if accepted else ''}; "
            f"{_shown(len(shown), len(names))}",
            [gap for gap in found if (gap.exchange, gap.symbol) in shown],
            shown,
            until,
        )

    def latency(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | timedelta | None = None,
        as_of: Version | None = None,
    ) -> "Picture":
        """Draw how long after its venue time a trade was in Kafka, and was received: median and 99th percentile.

        A line for each of up to 8 exchanges, those with the most trades; without `interval`, up to 150 points each.
        """
        import_extra("matplotlib", "plot", "plot.latency()")
        from k2.analysis.plots.latency import LINES_MAX, draw_latency  # noqa: PLC0415  matplotlib is optional
        from k2.analysis.plots.picture import empty_picture  # noqa: PLC0415  as above

        fields: RowsFields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        market, checked, spans = self._select(fields, interval)
        if not spans:
            return empty_picture("Feed latency", NO_TRADES)
        counts = Counter[str]()
        for span in spans:
            counts[span["exchange"]] += span["trades"]
        names = [name for name, _ in counts.most_common(LINES_MAX)]
        step = checked.interval or _interval_for(max(s["last"] for s in spans) - min(s["first"] for s in spans))
        found = market.table(latency(**fields, interval=step))
        if found["kafka_ms_p50"].null_count == found["received_ms_p50"].null_count == found.num_rows:
            return empty_picture("Feed latency", "no trade has a Kafka timestamp or a time of receipt")
        found = found.filter(pc.is_in(found["exchange"], pa.array(names)))
        exchanges = f"the {len(names)} of {len(counts)} exchanges with the most trades: " * (len(counts) > len(names))
        subtitle = f"{exchanges}{format_count(sum(counts[name] for name in names), 'trade')}"
        return draw_latency(
            f"Feed latency by {interval_text(step)}", subtitle, found, step, *_time_range(checked, found, step)
        )

    def _select(
        self, fields: RowsFields, interval: str | timedelta | None
    ) -> tuple[Market, PricesParameters, list[dict[str, Any]]]:
        """Return the market to query, the checked selection, and the time span and trades of each symbol in it."""
        market = Market(self._pool())
        checked = make_parameters(PricesParameters, **fields, interval=interval)
        return market, checked, market.table(symbol_spans(**fields)).to_pylist()


def interval_text(interval: timedelta) -> str:
    """Return an interval in the form of an argument.

    >>> [interval_text(timedelta(seconds=seconds)) for seconds in (0.5, 90, 3_600, 86_400)]
    ['500ms', '90s', '1h', '1d']
    """
    return next(f"{interval // unit}{name}" for name, unit in reversed(UNITS.items()) if not interval % unit)


def _interval_for(span: timedelta) -> timedelta:
    """Return the shortest interval that divides a time into at most 150 parts, or the longest one."""
    steps = [make_parameters(BarsParameters, interval=text).interval for text in INTERVALS]
    return next((step for step in steps if span <= INTERVALS_WANTED * step), steps[-1])


def _time_range(checked: RowsParameters, rows: pa.Table, step: timedelta) -> tuple[datetime, datetime]:
    """Return the requested times, or those of the rows."""
    starts: list[Any] = rows["start"].to_pylist()
    first: datetime = min(starts)
    until: datetime = max(starts) + step
    return min(checked.start or first, first), max(checked.end or until, until)


def _only_symbol(spans: list[dict[str, Any]]) -> Name:
    """Return the exchange and symbol of the selection.

    Raises:
        QueryError: it has several.
    """
    names = [f"{span['exchange']} {span['symbol']}" for span in spans]
    if len(names) > 1:
        some = ", ".join(names[:NAMED_MAX]) + (", ..." if len(names) > NAMED_MAX else "")
        raise QueryError(
            f"candles are of one symbol, and there are {len(names):,} ({some}); choose exchange and symbol"
        )
    return spans[0]["exchange"], spans[0]["symbol"]


def _worst(days: Iterable[Day], count: int) -> tuple[list[Name], str]:
    """Return the symbols to show and a sentence: all of them by name, or those with the most missing numbers first."""
    missing, stored, expected = Counter[Name](), Counter[Name](), Counter[Name]()
    for day in days:
        missing[day.exchange, day.symbol] += day.missing or 0
        stored[day.exchange, day.symbol] += day.stored
        expected[day.exchange, day.symbol] += day.expected or 0
    names = sorted(name for name in missing if missing[name] + stored[name])
    if len(names) > count:
        shown = sorted(names, key=lambda name: (-missing[name], -stored[name], name))[:count]
    else:
        shown = names
    numbered = f"{expected.total() - missing.total():,} stored of {expected.total():,} expected"
    totals = f"{numbered}, {missing.total():,} missing"
    return shown, f"{totals}; {_shown(len(shown), len(names))}"


def _most_missing(found: Iterable[Gap]) -> list[Name]:
    missing, filled = Counter[Name](), Counter[Name]()
    for gap in found:
        (missing if gap.is_open else filled)[gap.exchange, gap.symbol] += gap.missing
    return sorted({*missing, *filled}, key=lambda name: (-missing[name], -filled[name], name))


def _shown(shown: int, count: int) -> str:
    symbols = format_count(count, "symbol")
    return symbols if shown == count else f"the {shown:,} of {symbols} with the most missing numbers"

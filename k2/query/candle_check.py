"""Comparison of stored trades with the venue's own candles, interval by interval, without tolerance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from k2.model.times import time_of
from k2.ops.settings import Settings
from k2.query.candle_files import Candle
from k2.query.day_facts import DaySelection
from k2.query.engine import Engine, QueryError
from k2.query.pool import open_engine, retry_if_files_gone, unlimited
from k2.query.tables import check_columns, existing_table
from k2.query.where_clauses import equal

__all__ = ["CandleCheck", "CandleDifference", "check_candles"]

_MICROSECOND: Final = timedelta(microseconds=1)
_VALUES: Final = ("trades", "volume", "high", "low", "open", "close")


@dataclass(frozen=True, slots=True)
class CandleDifference:
    """One value of an interval that differs."""

    start: datetime
    value: str
    """`trades`, `volume`, `high`, `low`, `open` or `close`."""
    venue: Decimal | int | None
    """None if the venue has no candle for the interval."""
    stored: Decimal | int | None
    """None for a price if no trade is stored."""


@dataclass(frozen=True, slots=True)
class CandleCheck:
    """The result for one symbol."""

    exchange: str
    symbol: str
    interval_seconds: float
    compared: int
    """Intervals that were compared."""
    left_out: list[datetime]
    """Starts of the candles at or beyond the first and last stored trade: what is stored of them may be a part."""
    differing: int
    """Intervals in which a value differs."""
    differences: list[CandleDifference]

    @property
    def holds(self) -> bool:
        """Whether intervals were compared and none differs."""
        return self.compared > 0 and not self.differences


@retry_if_files_gone
def check_candles(
    settings: Settings,
    exchange: str,
    candles: Sequence[Candle],
    *,
    symbol: str | None = None,
    day: date | None = None,
    interval: timedelta | None = None,
) -> CandleCheck:
    """Compare the trades of a symbol with candles, which are the oldest first, of one day if it is given.

    The interval is the smallest distance of two candles unless it is given. Without a symbol, the exchange must have
    one only. An interval without a candle, between two candles, must have no trades.

    Raises:
        NoTableError: the table `trades` does not exist.
        QueryError: no trades are stored, there are several symbols, or the interval is not known.
    """
    table = existing_table(settings, "trades")
    check_columns(table, ("exchange", "symbol", "price", "quantity", "timestamp"))
    step = _interval_us(candles, interval)
    with open_engine(unlimited(settings)) as engine:
        engine.register("trades", table, row_filter=equal(exchange=exchange, symbol=symbol))
        name, first_us, last_us = _span(engine, exchange, symbol)
        chosen = _of_day(candles, day)
        inside = [one for one in chosen if first_us < one.start_us and one.start_us + step <= last_us]
        starts = {one.start_us for one in inside}
        left_out = [time_of(one.start_us) for one in chosen if one.start_us not in starts]
        found: list[CandleDifference] = []
        if inside:
            stored = _stored(engine, exchange, name, inside, step)
            found = [*_differences(inside, stored, inside[0].start_us, step)]
    return CandleCheck(exchange, name, step / 1e6, len(inside), left_out, len({one.start for one in found}), found)


def _interval_us(candles: Sequence[Candle], interval: timedelta | None) -> int:
    steps = [later.start_us - earlier.start_us for earlier, later in pairwise(candles)]
    if interval is None and not steps:
        raise QueryError("the file has one candle, so its interval is not known; use --interval, such as 1h")
    step = min(steps) if interval is None else interval // _MICROSECOND
    if any(one % step for one in steps):
        raise QueryError("the candles do not begin at multiples of one interval; name a file of one interval")
    return step


def _span(engine: Engine, exchange: str, symbol: str | None) -> tuple[str, int, int]:
    rows = engine.query(_SPAN, {"exchange": exchange, "symbol": symbol})
    if not rows:
        raise QueryError(
            f"no trade of {exchange}{'' if symbol is None else f' {symbol}'} is stored; k2 symbols lists them"
        )
    if len(rows) > 1:
        raise QueryError(f"{exchange} has several symbols; name the one of the candles with --symbol")
    return rows[0]["symbol"], rows[0]["first_us"], rows[0]["last_us"]


def _of_day(candles: Sequence[Candle], day: date | None) -> list[Candle]:
    selection = DaySelection(day=day)
    if selection.start is None or selection.end is None:
        return [*candles]
    return [one for one in candles if selection.start <= time_of(one.start_us) < selection.end]


def _stored(
    engine: Engine, exchange: str, symbol: str, candles: Sequence[Candle], step: int
) -> dict[int, dict[str, Any]]:
    """Return the values of the intervals that have trades, by the interval's index from the first candle on."""
    parameters = {
        "exchange": exchange,
        "symbol": symbol,
        "first": candles[0].start_us,
        "until": candles[-1].start_us + step,
        "step": step,
    }
    return {row["interval_idx"]: row for row in engine.query(_STORED, parameters)}


def _differences(
    candles: Sequence[Candle], stored: dict[int, dict[str, Any]], first_us: int, step: int
) -> Iterator[CandleDifference]:
    by_index = {(one.start_us - first_us) // step: one for one in candles}
    for index in sorted({*by_index, *stored}):
        candle, row = by_index.get(index), stored.get(index, {"trades": 0, "volume": Decimal(0)})
        start = time_of(first_us + index * step)
        for name in _VALUES:
            venue = getattr(candle, name) if candle else None
            if _differs(name, candle, venue, row):
                yield CandleDifference(start, name, venue, row.get(name))


def _differs(name: str, candle: Candle | None, venue: Decimal | int | None, row: dict[str, Any]) -> bool:
    """Return whether a value differs; a value that the file lacks, and a price without trades, is not compared."""
    if candle is None:
        return name == "trades"
    is_quiet = candle.trades == 0 or (candle.trades is None and candle.volume == 0)
    if venue is None or (name not in {"trades", "volume"} and is_quiet and not row["trades"]):
        return False
    return bool(row.get(name) != venue)


_SPAN: Final = """
    SELECT symbol, epoch_us(min("timestamp")) AS first_us, epoch_us(max("timestamp")) AS last_us FROM trades
    WHERE exchange = $exchange AND symbol = coalesce($symbol, symbol) GROUP BY symbol ORDER BY symbol LIMIT 2
"""
# A trade that stands for a range of numbers is as many trades of the venue.
_STORED: Final = """
    SELECT (epoch_us("timestamp") - $first) // $step AS interval_idx,
           sum(coalesce(sequence - first_sequence + 1, 1))::BIGINT AS trades, sum(quantity) AS volume,
           max(price) AS high, min(price) AS low, arg_min(price, place) AS open, arg_max(price, place) AS close
    FROM (
        SELECT *, ("timestamp", coalesce(session, 0), coalesce(sequence, 0), topic, partition, "offset", index) AS place
        FROM trades
        WHERE exchange = $exchange AND symbol = $symbol
          AND epoch_us("timestamp") >= $first AND epoch_us("timestamp") < $until
    ) GROUP BY interval_idx
"""

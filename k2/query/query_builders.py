"""Query builders: rows, symbols, bars, average prices and latency of trades as SQL statements.

Statements are composed of constants of this file only; values are always passed as parameters.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Unpack

from k2.query.parameters import (
    BarsFields,
    BarsParameters,
    PricesFields,
    PricesParameters,
    QueryParameters,
    RowsFields,
    RowsParameters,
    make_parameters,
)

__all__ = [
    "BAR_COLUMNS",
    "BY_BAR",
    "COLUMNS",
    "TradesQuery",
    "as_double",
    "latency",
    "latest",
    "ohlcv",
    "symbol_spans",
    "symbols",
    "trades",
    "twap",
    "vwap",
]

_MICROSECOND: Final = timedelta(microseconds=1)
_MONDAY_US: Final = 946_857_600_000_000


@dataclass(frozen=True)
class TradesQuery:
    """A statement over `trades` with its parameters, and the selection of its rows."""

    filters: QueryParameters
    sql: str
    parameters: dict[str, object] = field(default_factory=dict)
    is_corrected: bool = False
    """Whether the statement is one over `corrected_trades` instead."""


def symbols(**fields: Unpack[RowsFields]) -> TradesQuery:
    """Query each exchange and symbol, with its number of trades.

    Raises:
        QueryError: a field is invalid; the message names it.
    """
    return _build(
        make_parameters(RowsParameters, **fields),
        "SELECT exchange, symbol, count(*) AS trades FROM filtered GROUP BY exchange, symbol ORDER BY exchange, symbol",
    )


def symbol_spans(**fields: Unpack[RowsFields]) -> TradesQuery:
    """Query each exchange and symbol, with the venue times of its first and last trade, and its number of trades."""
    return _build(
        make_parameters(RowsParameters, **fields),
        f"""SELECT exchange, symbol, min("timestamp") AS first, max("timestamp") AS last, count(*) AS trades
            FROM filtered {_BY_SYMBOL}""",
    )


def trades(*, corrected: bool = False, **fields: Unpack[RowsFields]) -> TradesQuery:
    """Query trades with all their columns, oldest first.

    With `corrected` they are as their venues left them: without cancelled ones, with corrected values in place, and a
    column `correction` that says so.
    """
    return _build(make_parameters(RowsParameters, **fields), _TRADES, is_corrected=corrected)


def latest(**fields: Unpack[RowsFields]) -> TradesQuery:
    """Query the latest trade of each symbol, by venue time."""
    return _build(make_parameters(RowsParameters, **fields), _LATEST)


def ohlcv(**fields: Unpack[BarsFields]) -> TradesQuery:
    """Query bars; the default interval is 1m.

    A bar aggregates the trades from its start until the start of the next; an interval without trades has no bar. Bars
    start at multiples of their interval since Monday 2000-01-03 (UTC). Prices and volume are exact; vwap is a double.
    """
    filters: BarsParameters = make_parameters(BarsParameters, **fields)
    return _build(filters, _OHLCV, interval=_microseconds(filters.interval))


def vwap(**fields: Unpack[PricesFields]) -> TradesQuery:
    """Query the average price weighted by quantity.

    By interval if one is given, otherwise over all trades of a symbol. Null if no quantity was traded.
    """
    filters: PricesParameters = make_parameters(PricesParameters, **fields)
    if filters.interval is None:
        return _build(filters, f"SELECT exchange, symbol, {_VWAP} FROM filtered {_BY_SYMBOL}")
    return _build(
        filters,
        f"SELECT exchange, symbol, {_BAR} AS start, {_VWAP} FROM filtered {BY_BAR}",
        interval=_microseconds(filters.interval),
    )


def twap(**fields: Unpack[PricesFields]) -> TradesQuery:
    """Query the average price weighted by time.

    A price holds from its trade until the symbol's next trade; the last one holds until `end` (at most until now), or
    for no time without `end`. By interval if one is given: a price that holds beyond an interval counts in the next
    ones as well. If no time passed, the result is the plain average.
    """
    filters: PricesParameters = make_parameters(PricesParameters, **fields)
    end = None if filters.end is None else min(filters.end, datetime.now(UTC))
    if filters.interval is None:
        return _build(filters, f"{_HELD} {_TWAP}", until=end)
    return _build(filters, f"{_HELD} {_TWAP_BY_BAR}", until=end, interval=_microseconds(filters.interval))


def latency(**fields: Unpack[BarsFields]) -> TradesQuery:
    """Query how long after its venue time a trade was received, and was in Kafka; the default interval is 1m.

    For each exchange and interval: the number of trades, and the median and 99th percentile in milliseconds of
    `received` and of `kafka_timestamp` minus `timestamp`. Null if no trade has that time; negative if the venue's clock
    is ahead.
    """
    filters: BarsParameters = make_parameters(BarsParameters, **fields)
    return _build(filters, _LATENCY, interval=_microseconds(filters.interval))


def as_double(value: str) -> str:
    """Return an expression that converts a number to a double; null remains null.

    DuckDB converts a decimal(38, 18) to double by two 128-bit divisions, a microsecond per value. Its average of a list
    converts without a division, in a twentieth of that time; the result is the nearest double almost always, and
    otherwise differs by one unit in the last place.
    """
    return f"list_avg([{value}])"


def _build(filters: RowsParameters, sql: str, *, is_corrected: bool = False, **parameters: object) -> TradesQuery:
    limit = {} if filters.limit is None else {"limit": filters.limit}
    source = "corrected_trades" if is_corrected else "trades"
    # For a statement that reads it twice, materializing all rows would take longer than reading the files again.
    rows = f"filtered AS NOT MATERIALIZED (SELECT * FROM {source} WHERE {filters.sql_condition})"
    return TradesQuery(
        filters,
        f"WITH {rows} {sql}{' LIMIT $limit' * len(limit)}",
        {**filters.sql_parameters, **parameters, **limit},
        is_corrected,
    )


def _microseconds(interval: timedelta) -> int:
    return interval // _MICROSECOND


COLUMNS: Final = (
    "exchange",
    "symbol",
    "session",
    "sequence",
    "price",
    "quantity",
    "timestamp",
    "topic",
    "partition",
    "offset",
    "index",
)
# Trades of one venue time are ordered by their sequence numbers, or by Kafka coordinates without them.
_ORDER: Final = '"timestamp", coalesce(session, 0), coalesce(sequence, 0), topic, "partition", "offset", "index"'
_BAR: Final = 'time_bucket(to_microseconds($interval), "timestamp")'
_BY_SYMBOL: Final = "GROUP BY exchange, symbol ORDER BY exchange, symbol"
BY_BAR: Final = "GROUP BY exchange, symbol, start ORDER BY exchange, symbol, start"
_PRICE: Final = as_double("price")
_QUANTITY: Final = as_double("quantity")
_MEAN: Final = f"sum({_PRICE} * {_QUANTITY}) / nullif(sum({_QUANTITY}), 0)"
_VWAP: Final = f"{_MEAN} AS vwap, sum(quantity) AS volume, count(*) AS trades"
_TRADES: Final = f"SELECT * FROM filtered ORDER BY {_ORDER}, exchange, symbol"
BAR_COLUMNS: Final = f"""
    arg_min(price, ({_ORDER})) AS open, max(price) AS high, min(price) AS low,
    arg_max(price, ({_ORDER})) AS close, {_VWAP}
"""
"""What a bar shows of its trades."""
_OHLCV: Final = f"SELECT exchange, symbol, {_BAR} AS start, {BAR_COLUMNS} FROM filtered {BY_BAR}"
_LATENCY: Final = f"""
    , late AS (
        SELECT exchange, {_BAR} AS start, (epoch_us(received) - epoch_us("timestamp")) / 1e3 AS received,
               (epoch_us(kafka_timestamp) - epoch_us("timestamp")) / 1e3 AS kafka
        FROM filtered
    )
    SELECT exchange, start, count(*) AS trades,
           quantile_cont(received, 0.5) AS received_ms_p50, quantile_cont(received, 0.99) AS received_ms_p99,
           quantile_cont(kafka, 0.5) AS kafka_ms_p50, quantile_cont(kafka, 0.99) AS kafka_ms_p99
    FROM late GROUP BY exchange, start ORDER BY exchange, start
"""
# Finds the newest times first, then reads whole rows for these only: DuckDB reads the other columns where needed.
_LATEST: Final = f"""
    , newest AS (
        SELECT exchange, symbol, max("timestamp") AS "timestamp" FROM filtered GROUP BY exchange, symbol
    ), last AS (
        SELECT arg_max(filtered, ({_ORDER})) AS trade
        FROM filtered SEMI JOIN newest USING (exchange, symbol, "timestamp") GROUP BY exchange, symbol
    )
    SELECT unnest(trade) FROM last ORDER BY trade.exchange, trade.symbol
"""
_HELD: Final = f"""
    , held AS (
        SELECT exchange, symbol, {_PRICE} AS price, epoch_us("timestamp") AS since, epoch_us(coalesce(
                   lead("timestamp") OVER (PARTITION BY exchange, symbol ORDER BY {_ORDER}),
                   greatest("timestamp", $until::TIMESTAMPTZ)
               )) AS until
        FROM filtered
    )
"""
_TWAP: Final = f"""
    SELECT exchange, symbol,
           coalesce(sum(price * (until - since)) / nullif(sum(until - since), 0), avg(price)) AS twap,
           count(*) AS trades
    FROM held {_BY_SYMBOL}
"""
# Bars are numbered from Monday 2000-01-03, as time_bucket counts. They are rows of a table function, which produces a
# few at a time: neither the memory limit nor the time limit bounds a list of all bars in which a price holds.
_TWAP_BY_BAR: Final = f"""
    , numbered AS (
        SELECT *, floor((since - {_MONDAY_US}) / $interval)::BIGINT AS first,
               ceil((until - {_MONDAY_US}) / $interval)::BIGINT - 1 AS last
        FROM held
    ), parts AS (
        SELECT numbered.*, bar * $interval + {_MONDAY_US} AS start
        FROM numbered, range(first, greatest(first, last) + 1) AS bars(bar)
    ), weighed AS (
        SELECT exchange, symbol, start, price, since >= start AS is_traded,
               least(until, start + $interval) - greatest(since, start) AS held_us
        FROM parts
    )
    SELECT exchange, symbol, make_timestamptz(start) AS start,
           coalesce(sum(price * held_us) / nullif(sum(held_us), 0), avg(price)) AS twap,
           count(*) FILTER (is_traded) AS trades
    FROM weighed {BY_BAR}
"""

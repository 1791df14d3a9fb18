"""What may be asked of the trades, as statements: rows, symbols, bars, average prices.

Statements are joined from constants of this file; values only ever travel as parameters.
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
    ask,
)

__all__ = ["COLUMNS", "TradesQuery", "latest", "ohlcv", "symbols", "trades", "twap", "vwap"]

_MICROSECOND: Final = timedelta(microseconds=1)
_MONDAY_US: Final = 946_857_600_000_000


@dataclass(frozen=True)
class TradesQuery:
    """A statement over `trades`, and what it is asked of."""

    asked: QueryParameters
    sql: str
    parameters: dict[str, object] = field(default_factory=dict)


def symbols(**fields: Unpack[RowsFields]) -> TradesQuery:
    """Ask for each exchange and symbol, with the number of its trades.

    Raises:
        QueryError: a field is wrong; the sentence names it.
    """
    return _question(
        ask(RowsParameters, **fields),
        "SELECT exchange, symbol, count(*) AS trades FROM asked GROUP BY exchange, symbol ORDER BY exchange, symbol",
    )


def trades(**fields: Unpack[RowsFields]) -> TradesQuery:
    """Ask for trades with all their columns, the oldest first."""
    return _question(ask(RowsParameters, **fields), _TRADES)


def latest(**fields: Unpack[RowsFields]) -> TradesQuery:
    """Ask for the latest trade of each symbol, by venue time."""
    return _question(ask(RowsParameters, **fields), _LATEST)


def ohlcv(**fields: Unpack[BarsFields]) -> TradesQuery:
    """Ask for bars, of an interval of 1m where none is given.

    A bar is of the trades from its start on, before the next one's; one without trades is left out. BarsFields begin at
    multiples of their interval from Monday 2000-01-03 on (UTC). Prices and volume are exact, the vwap is a double.
    """
    asked: BarsParameters = ask(BarsParameters, **fields)
    return _question(asked, _OHLCV, interval=_microseconds(asked.interval))


def vwap(**fields: Unpack[PricesFields]) -> TradesQuery:
    """Ask for the average price weighted by quantity.

    By intervals where one is given, else of all trades of a symbol together. Null where no quantity was traded.
    """
    asked: PricesParameters = ask(PricesParameters, **fields)
    if asked.interval is None:
        return _question(asked, f"SELECT exchange, symbol, {_VWAP} FROM asked {_BY_SYMBOL}")
    return _question(
        asked,
        f"SELECT exchange, symbol, {_BAR} AS start, {_VWAP} FROM asked {_BY_BAR}",
        interval=_microseconds(asked.interval),
    )


def twap(**fields: Unpack[PricesFields]) -> TradesQuery:
    """Ask for the average price weighted by time.

    A price holds from its trade to the symbol's next, the last one to the end that is asked for (at most until now),
    or else not at all. By intervals where one is given: a price that holds beyond one counts in the next ones as
    well. Where no time passed it is the plain average.
    """
    asked: PricesParameters = ask(PricesParameters, **fields)
    end = None if asked.end is None else min(asked.end, datetime.now(UTC))
    if asked.interval is None:
        return _question(asked, f"{_HELD} {_TWAP}", until=end)
    return _question(asked, f"{_HELD} {_TWAP_BY_BAR}", until=end, interval=_microseconds(asked.interval))


def _question(asked: RowsParameters, sql: str, **parameters: object) -> TradesQuery:
    limit = {} if asked.limit is None else {"limit": asked.limit}
    # Where it is read twice, to hold all rows of it would take longer than to read the files again.
    rows = f"asked AS NOT MATERIALIZED (SELECT * FROM trades WHERE {asked.conditions})"
    return TradesQuery(
        asked, f"WITH {rows} {sql}{' LIMIT $limit' * len(limit)}", {**asked.parameters, **parameters, **limit}
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
# Trades of one venue time are in the order of their numbers, and without numbers in that of Kafka.
_PLACE: Final = '"timestamp", coalesce(session, 0), coalesce(sequence, 0), topic, "partition", "offset", "index"'
_BAR: Final = 'time_bucket(to_microseconds($interval), "timestamp")'
_BY_SYMBOL: Final = "GROUP BY exchange, symbol ORDER BY exchange, symbol"
_BY_BAR: Final = "GROUP BY exchange, symbol, start ORDER BY exchange, symbol, start"
# DuckDB makes a double of a decimal(38, 18) by two divisions of 128 bits, a microsecond a value; its average of a list
# makes one without any, in a twentieth of that, at most one last place from it: the nearest double almost always.
_PRICE: Final = "list_avg([price])"
_QUANTITY: Final = "list_avg([quantity])"
_MEAN: Final = f"sum({_PRICE} * {_QUANTITY}) / nullif(sum({_QUANTITY}), 0)"
_VWAP: Final = f"{_MEAN} AS vwap, sum(quantity) AS volume, count(*) AS trades"
_TRADES: Final = f"SELECT * FROM asked ORDER BY {_PLACE}, exchange, symbol"
_OHLCV: Final = f"""
    SELECT exchange, symbol, {_BAR} AS start, arg_min(price, ({_PLACE})) AS open, max(price) AS high,
           min(price) AS low, arg_max(price, ({_PLACE})) AS close, {_VWAP}
    FROM asked {_BY_BAR}
"""
# The newest times first, and of these alone whole rows: DuckDB reads the other columns only where files may hold one.
_LATEST: Final = f"""
    , newest AS (
        SELECT exchange, symbol, max("timestamp") AS "timestamp" FROM asked GROUP BY exchange, symbol
    ), last AS (
        SELECT arg_max(asked, ({_PLACE})) AS trade
        FROM asked SEMI JOIN newest USING (exchange, symbol, "timestamp") GROUP BY exchange, symbol
    )
    SELECT unnest(trade) FROM last ORDER BY trade.exchange, trade.symbol
"""
_HELD: Final = f"""
    , held AS (
        SELECT exchange, symbol, {_PRICE} AS price, epoch_us("timestamp") AS since, epoch_us(coalesce(
                   lead("timestamp") OVER (PARTITION BY exchange, symbol ORDER BY {_PLACE}),
                   greatest("timestamp", $until::TIMESTAMPTZ)
               )) AS until
        FROM asked
    )
"""
_TWAP: Final = f"""
    SELECT exchange, symbol,
           coalesce(sum(price * (until - since)) / nullif(sum(until - since), 0), avg(price)) AS twap,
           count(*) AS trades
    FROM held {_BY_SYMBOL}
"""
# Bars are numbered from Monday 2000-01-03 on, as time_bucket counts. They are rows of a table function, which come a
# few at a time: a list of all that a price holds in is bounded by neither the memory limit nor the time limit.
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
    FROM weighed {_BY_BAR}
"""

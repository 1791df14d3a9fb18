"""What free SQL offers in addition to the tables: the macros `vwap` and `ohlcv`, and the view `trades_derived`.

The product of two decimal(38, 18) values has 36 decimals, which leaves two of DuckDB's 38 digits for the integer: plain
`price * quantity` fails from 100. What is defined here computes with doubles, or splits the factors.
"""

from typing import Final

import duckdb

from k2.query.query_builders import BAR_COLUMNS, BY_BAR, as_double

__all__ = ["DERIVED", "TABLE_MACROS", "create_macros"]


def create_macros(database: duckdb.DuckDBPyConnection) -> None:
    """Create the macros in the main schema, which all connections search last."""
    # DuckDB binds a table macro when it is created, and again by its names in each statement that calls it.
    database.execute(_TRADES_DURING_CREATION)
    database.execute(_VWAP)
    database.execute(_OHLCV)
    database.execute("DROP TABLE main.trades")


def _whole(value: str) -> str:
    """Return the integer next to a value; the rounding of the double may choose its neighbour."""
    return f"{as_double(value)}::BIGINT::DECIMAL(19, 0)"


def _rest(value: str) -> str:
    """Return the value minus its integer, exactly; an error if a double has no digits left for it."""
    return f"({value} - {_whole(value)})::DECIMAL(19, 18)"


def _rounded(value: str) -> str:
    """Return a DECIMAL(38, 36) between -10 and 10, rounded to 18 decimals, in two halves that a double holds exactly.

    Dividing 128-bit numbers, as DuckDB's own cast does, takes ten times as long.
    """
    first = f"round({as_double(value)} * 1e9)::BIGINT::DECIMAL(11, 0) * 1e-9::DECIMAL(9, 9)"
    second = f"round({as_double(f'{value} - {first}')} * 1e18)::BIGINT::DECIMAL(11, 0) * 1e-18::DECIMAL(18, 18)"
    return f"{first} + {second}"


def _product(left: str, right: str) -> str:
    """Return the product of two decimal(38, 18) values as a DECIMAL(38, 18), rounded to its 18 decimals."""
    rests = f"({_rest(left)} * {_rest(right)})"
    product = f"{left} * {_whole(right)} + {_whole(left)} * {_rest(right)} + {_rounded(rests)}"
    return f"({product})::DECIMAL(38, 18)"


DERIVED: Final[dict[str, str]] = {
    "trades_derived": f"""
        SELECT *, {as_double("price")} AS price_double, {as_double("quantity")} AS quantity_double,
               {_product("price", "quantity")} AS notional
        FROM trades
    """
}
"""Name of each view, and its statement over `trades`."""
TABLE_MACROS: Final = frozenset({"ohlcv"})
"""Macros that read `trades`."""
_TRADES_DURING_CREATION: Final = """
    CREATE TABLE main.trades (
        exchange VARCHAR, symbol VARCHAR, session INTEGER, sequence BIGINT, price DECIMAL(38, 18),
        quantity DECIMAL(38, 18), "timestamp" TIMESTAMPTZ, topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
        "index" INTEGER
    )
"""
# The sums are compensated: a plain sum of doubles loses digits with the number of trades.
_VWAP: Final = f"""
    CREATE MACRO main.vwap(price, quantity) AS
        fsum({as_double("price")} * {as_double("quantity")})
        / nullif(fsum({as_double("quantity")}) FILTER (price IS NOT NULL), 0)
"""
_OHLCV: Final = f"""
    CREATE MACRO main.ohlcv(bar) AS TABLE
        SELECT exchange, symbol, time_bucket(bar::INTERVAL, "timestamp") AS start, {BAR_COLUMNS}
        FROM trades {BY_BAR}
"""

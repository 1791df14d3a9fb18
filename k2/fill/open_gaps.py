"""Read what is missing now, with the times of the stored trades next to each gap."""

from typing import Any, Final

import pyarrow as pa

from k2.fill.plan import Gap
from k2.ops.settings import Settings
from k2.query.gaps import gaps
from k2.query.parameters import AsOf
from k2.query.pool import open_engine, retry_if_files_gone
from k2.query.tables import existing_table
from k2.query.where_clauses import equal

__all__ = ["open_gaps"]


@retry_if_files_gone
def open_gaps(
    settings: Settings, exchange: str | None = None, symbol: str | None = None, as_of: AsOf | None = None
) -> list[Gap]:
    """Return the gaps that are open, ascending; raises as `k2.query.gaps.gaps`.

    Their times are those of the newest stored trade below and the oldest above, in the same session.
    """
    found = gaps(settings, exchange, symbol, as_of)
    if not found:
        return []
    names = ("exchange", "symbol", "session", "first_sequence", "last_sequence")
    rows = pa.table({name: [getattr(gap, name) for gap in found] for name in names})
    trades = existing_table(settings, "trades")
    with open_engine(settings) as engine:
        engine.register("trades", trades, row_filter=equal(exchange=exchange, symbol=symbol))
        engine.register_arrow("gaps", rows)
        return [_gap(row) for row in engine.query(_WITH_TIMES)]


def _gap(row: dict[str, Any]) -> Gap:
    return Gap(row["exchange"], row["symbol"], row["first_sequence"], row["last_sequence"], row["start"], row["end"])


_WITH_TIMES: Final = """
    WITH numbered AS (
        SELECT exchange, symbol, session, sequence, coalesce(first_sequence, sequence) AS first_of_trade,
               "timestamp" AS at
        FROM trades SEMI JOIN gaps USING (exchange, symbol, session) WHERE sequence IS NOT NULL
    )
    SELECT gaps.exchange, gaps.symbol, gaps.first_sequence, gaps.last_sequence, below.at AS start, above.at AS "end"
    FROM gaps
    ASOF LEFT JOIN numbered AS below
      ON below.exchange = gaps.exchange AND below.symbol = gaps.symbol AND below.session = gaps.session
     AND gaps.first_sequence > below.sequence
    ASOF LEFT JOIN numbered AS above
      ON above.exchange = gaps.exchange AND above.symbol = gaps.symbol AND above.session = gaps.session
     AND gaps.last_sequence < above.first_of_trade
    ORDER BY gaps.exchange, gaps.symbol, gaps.first_sequence
"""

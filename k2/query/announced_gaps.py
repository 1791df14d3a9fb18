"""Missing numbers above the newest trade of a symbol, which the venue named but no trade has had since.

`k2 completeness` does not count them, since it counts from the rows alone: nothing is stored above them. They belong to
the day of the newest trade, to that of the message that named them, or to a day between.
"""

from collections import Counter
from datetime import date, timedelta
from typing import Final

import pyarrow as pa

from k2.query.day_dead_letters import SymbolDay
from k2.query.gaps import gaps
from k2.query.pool import EnginePool
from k2.query.tables import NoTableError, existing_table
from k2.query.where_clauses import equal

__all__ = ["announced_gaps"]


def announced_gaps(pool: EnginePool, exchange: str | None, symbol: str | None) -> Counter[SymbolDay]:
    """Return how many such numbers may belong to each symbol's day; a range counts on each day that it may belong to.

    Raises:
        NoTableError: the table `trades` does not exist.
    """
    try:
        found = gaps(pool.settings, exchange, symbol, pool=pool)
    except NoTableError:
        return Counter()
    counted: Counter[SymbolDay] = Counter()
    if not found:
        return counted
    names = ("exchange", "symbol", "session", "first_sequence", "last_sequence")
    ranges = pa.table({name: [getattr(gap, name) for gap in found] for name in names})
    where = equal(exchange=exchange, symbol=symbol)
    with pool.engine() as engine:
        for table in ("trades", "sequence_events"):
            engine.register(table, existing_table(pool.settings, table, pool), row_filter=where)
        engine.register_arrow("open_gaps", ranges)
        for row in engine.query(_ANNOUNCED):
            for day in _days(row["first_day"], row["last_day"]):
                counted[row["exchange"], row["symbol"], day] += int(row["missing"])
    return counted


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range(max(0, (last - first).days) + 1)]


_ANNOUNCED: Final = """
    WITH newest AS (
        SELECT exchange, symbol, session, max(sequence) AS last_number, max("timestamp") AS last_time
        FROM trades SEMI JOIN open_gaps USING (exchange, symbol, session) GROUP BY ALL
    ), above AS (
        SELECT open_gaps.*, last_time FROM open_gaps JOIN newest USING (exchange, symbol, session)
        WHERE first_sequence > last_number
    )
    SELECT above.exchange, above.symbol, above.last_time::DATE AS first_day, max(event."timestamp")::DATE AS last_day,
           above.last_sequence::HUGEINT - above.first_sequence + 1 AS missing
    FROM above JOIN sequence_events AS event
        ON event.exchange = above.exchange AND event.symbol = above.symbol AND event.session = above.session
        AND event.event = 'gap_opened' AND event.first_sequence <= above.last_sequence
        AND event.last_sequence >= above.first_sequence
    GROUP BY above.exchange, above.symbol, above.session, above.first_sequence, above.last_sequence, above.last_time
"""

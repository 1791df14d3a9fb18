"""Activity of each symbol in the rows of the newest commits."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pyiceberg.table import Table

from k2.model.times import TIME_AHEAD_TOLERANCE_US
from k2.ops.settings import Settings
from k2.query.pool import EnginePool, open_engine

__all__ = ["BUCKET_SECONDS", "SymbolActivity", "read_activity"]

BUCKET_SECONDS: Final = 4


@dataclass(frozen=True, slots=True)
class SymbolActivity:
    """The trades of one symbol in the rows that were read."""

    exchange: str
    symbol: str
    buckets: int
    """Number of spans of 4 s of venue time that have a trade; trades dated ahead do not count."""
    first: datetime | None
    """Venue time of its first trade, to the span; None if all are dated ahead."""
    last: datetime | None
    ahead: int
    """Trades whose venue time is more than 5 s ahead of the Kafka timestamp."""
    ahead_seconds: float
    """By how much at most; 0 if none is."""


def read_activity(
    settings: Settings, table: Table, snapshot_ids: Collection[int], *, pool: EnginePool | None = None
) -> list[SymbolActivity]:
    """Return the activity of each symbol in the rows that some snapshots added."""
    with open_engine(settings, pool) as engine:
        engine.register_added("added", table, snapshot_ids)
        return [_activity(row) for row in engine.query(_ACTIVITY)]


_ACTIVITY: Final = f"""
    WITH dated AS (
        SELECT exchange, symbol, coalesce(epoch_us("timestamp") - epoch_us(kafka_timestamp), 0) AS ahead_us,
               time_bucket(INTERVAL {BUCKET_SECONDS} SECOND, "timestamp") AS bucket
        FROM added
    )
    SELECT exchange, symbol,
           count(DISTINCT bucket) FILTER (ahead_us <= {TIME_AHEAD_TOLERANCE_US}) AS buckets,
           min(bucket) FILTER (ahead_us <= {TIME_AHEAD_TOLERANCE_US}) AS first,
           max(bucket) FILTER (ahead_us <= {TIME_AHEAD_TOLERANCE_US}) AS last,
           count(*) FILTER (ahead_us > {TIME_AHEAD_TOLERANCE_US}) AS ahead,
           max(ahead_us) AS ahead_us
    FROM dated GROUP BY exchange, symbol
"""


def _activity(row: dict[str, Any]) -> SymbolActivity:
    return SymbolActivity(
        row["exchange"],
        row["symbol"],
        row["buckets"],
        row["first"],
        row["last"],
        row["ahead"],
        row["ahead_us"] / 1_000_000 if row["ahead"] else 0.0,
    )

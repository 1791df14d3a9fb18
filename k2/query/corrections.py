"""Corrections: the table with what is pending, the view of corrected trades, and the report."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from k2.model.columns import CORRECTIONS
from k2.model.committed_offsets import CommittedOffsets
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.snapshots import NO_SNAPSHOT, snapshot_as_of
from k2.query.tables import existing_table, find_job_table
from k2.query.where_clauses import equal
from k2.storage.pending_corrections import correction_row
from k2.storage.schemas import schema_of
from k2.storage.table_properties import PENDING_CORRECTIONS, PROGRESS, WRITERS

__all__ = ["ReportedCorrection", "committed_coordinates", "corrections", "register_corrections"]

SCHEMA: Final = schema_to_pyarrow(schema_of(CORRECTIONS), include_field_ids=False)


@dataclass(frozen=True, slots=True)
class ReportedCorrection:
    """One correction or cancel."""

    what: str
    """`cancelled` or `corrected`."""
    exchange: str
    symbol: str
    trade_id: str
    """Of the trade that is meant."""
    new_trade_id: str | None
    old_price: Decimal | None
    old_quantity: Decimal | None
    new_price: Decimal | None
    new_quantity: Decimal | None
    old_conditions: str | None
    new_conditions: str | None
    timestamp: datetime
    """The venue's time of the correction."""
    topic: str
    partition: int
    offset: int
    index: int
    kafka_timestamp: datetime | None
    names_trade: bool
    """Whether the trade that is meant is stored, or another correction led to it."""


@retry_if_files_gone
def corrections(
    settings: Settings,
    exchange: str | None = None,
    symbol: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
    *,
    pool: EnginePool | None = None,
) -> list[ReportedCorrection]:
    """Return the corrections with `start` <= timestamp < `end`, oldest first; with a `limit`, the newest of them.

    Raises:
        NoTableError: the table `trades` does not exist.
    """
    trades = existing_table(settings, "trades", pool)
    parameters = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "limit": limit}
    with open_engine(settings, pool) as engine:
        engine.register("trades", trades, row_filter=equal(exchange=exchange, symbol=symbol))
        register_corrections(engine, settings, trades, None, pool)
        return [ReportedCorrection(**row) for row in reversed(engine.query(_REPORT, parameters))]


_REPORT: Final = """
    WITH named AS (
        SELECT exchange, symbol, trade_id FROM trades
        SEMI JOIN corrections USING (exchange, symbol, trade_id)
        UNION
        SELECT exchange, symbol, new_trade_id FROM corrections WHERE new_trade_id <> trade_id
    )
    SELECT corrections.* EXCLUDE received, named.trade_id IS NOT NULL AS names_trade
    FROM corrections LEFT JOIN named USING (exchange, symbol, trade_id)
    WHERE ($exchange IS NULL OR corrections.exchange = $exchange) AND ($symbol IS NULL OR corrections.symbol = $symbol)
      AND ($start IS NULL OR "timestamp" >= $start::TIMESTAMPTZ) AND ($end IS NULL OR "timestamp" < $end::TIMESTAMPTZ)
    ORDER BY "timestamp" DESC, topic DESC, partition DESC, "offset" DESC, "index" DESC
    LIMIT coalesce($limit, 9223372036854775807)
"""


def register_corrections(
    engine: Engine, settings: Settings, trades: Table, as_of: datetime | None, pool: EnginePool | None = None
) -> None:
    """Register the corrections under the name `corrections`, as of a time (now by default).

    The current ones include those that `trades` has as pending, so they are complete at every instant: `trades` was
    read before. There are none if the table does not exist.
    """
    table = find_job_table(settings, "corrections", pool)
    snapshot_id = NO_SNAPSHOT if table is None else snapshot_as_of(table, as_of)
    if table is None or snapshot_id == NO_SNAPSHOT:
        engine.register_arrow("stored_corrections", SCHEMA.empty_table())
    else:
        engine.register("stored_corrections", table, snapshot_id=snapshot_id)
    pending = [] if as_of is not None else PENDING_CORRECTIONS.read_all(trades.metadata.properties)
    rows = [correction_row(placed) for one in pending for placed in one.rows]
    engine.register_arrow("pending_corrections", pa.Table.from_pylist(rows, schema=SCHEMA))
    engine.register_view("corrections", _CORRECTIONS)


_COLUMNS: Final = ", ".join(f'"{column.name}"' for column in CORRECTIONS)
_CORRECTIONS: Final = f"""
    SELECT {_COLUMNS} FROM stored_corrections
    UNION ALL
    SELECT {_COLUMNS} FROM pending_corrections
    ANTI JOIN stored_corrections USING (topic, partition, "offset", "index")
"""


def committed_coordinates(engine: Engine, settings: Settings, trades: Table) -> pa.Table:
    """Return `topic`, `partition`, `offset` and `index` of the corrections that the progress of `trades` counts.

    The table may have others: of a commit since `trades` was read, or before it was restored to an earlier state.
    """
    progress = PROGRESS.read(trades.metadata.properties)
    committed = CommittedOffsets(progress, WRITERS.read(trades.metadata.properties) or settings.writers)
    rows = engine.table('SELECT topic, partition, "offset", "index", exchange, symbol FROM corrections').to_pylist()
    counted = [
        row
        for row in rows
        if row["offset"]
        < committed.offset(row["exchange"], row["symbol"], TopicPartition(row["topic"], row["partition"]))
    ]
    return pa.Table.from_pylist(counted, schema=SCHEMA).select(["topic", "partition", "offset", "index"])

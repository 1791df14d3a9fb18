"""Which topic partition a symbol's trades come from, by the ledger."""

from typing import Final

from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.query.pool import open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table
from k2.query.where_clauses import equal

__all__ = ["topic_partition_of"]

_COLUMNS: Final = ("exchange", "symbol", "event", "topic", "partition", "detected_at")
_NEWEST: Final = """
    SELECT topic, "partition" FROM sequence_events
    WHERE exchange = $exchange AND symbol = $symbol AND event IN ('session_started', 'gap_opened', 'gap_filled')
    ORDER BY detected_at DESC, "offset" DESC LIMIT 1
"""


@retry_if_files_gone
def topic_partition_of(settings: Settings, exchange: str, symbol: str) -> TopicPartition | None:
    """Return the topic partition of the newest event of a symbol; None if it has no contiguous numbering.

    Raises:
        NoTableError: the ledger does not exist.
        TableError: it was not created by the job.
    """
    table = existing_table(settings, "sequence_events")
    check_columns(table, _COLUMNS)
    with open_engine(settings) as engine:
        engine.register("sequence_events", table, row_filter=equal(exchange=exchange, symbol=symbol))
        rows = engine.query(_NEWEST, {"exchange": exchange, "symbol": symbol})
    return TopicPartition(rows[0]["topic"], rows[0]["partition"]) if rows else None

"""Which topic partitions a symbol's trades come from, by the ledger."""

from typing import Final

from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.pool import open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table
from k2.query.where_clauses import equal

__all__ = ["topic_partition_of", "topic_partitions"]

_COLUMNS: Final = ("exchange", "symbol", "event", "topic", "partition", "detected_at")
_NEWEST_FIRST: Final = """
    SELECT topic, "partition" FROM sequence_events
    WHERE exchange = $exchange AND symbol = $symbol AND event IN ('session_started', 'gap_opened', 'gap_filled')
    GROUP BY topic, "partition" ORDER BY max(detected_at) DESC, max("offset") DESC, topic, "partition"
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
        return next(iter(topic_partitions(engine, exchange, symbol)), None)


def topic_partitions(engine: Engine, exchange: str, symbol: str) -> list[TopicPartition]:
    """Return those of a symbol's events in the registered `sequence_events`, that of the newest event first.

    Empty if the symbol has no contiguous numbering.
    """
    rows = engine.query(_NEWEST_FIRST, {"exchange": exchange, "symbol": symbol})
    return [TopicPartition(row["topic"], row["partition"]) for row in rows]

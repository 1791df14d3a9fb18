"""Reconciliation: counts per exchange, and whether every received message is accounted for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import pyarrow as pa
import structlog

from k2.model.progress import Counts, TopicPartition
from k2.ops.settings import Settings
from k2.query.corrections import committed_coordinates, register_corrections
from k2.query.engine import Engine
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table
from k2.storage.dead_letters.files import DeadLetterLine, committed_lines, read_coordinates
from k2.storage.dead_letters.folders import dead_letter_folder
from k2.storage.table_properties import DEAD_LETTER_POSITIONS, PARTITION_STARTS, PROGRESS, REMOVED_ROWS

__all__ = ["ExchangeSummary", "Reconciliation", "reconcile", "summary"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ExchangeSummary:
    """The stored trades of one exchange."""

    exchange: str
    symbols: int
    trades: int
    first: datetime
    last: datetime
    volume: float
    """Sum of price times quantity over all symbols, approximate."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The counts of a topic partition: received messages against their outcomes."""

    topic: str
    partition: int
    received: int
    stored: int
    """Counted from the table's rows."""
    duplicates: int
    dead_letters: int
    """Counted from the files, below the table's progress."""
    skipped: int
    holds: bool
    """Whether received = stored + removed + duplicates + dead letters + skipped + corrections, the counted values equal
    those of the progress, and no (offset, index) occurs twice, as row, dead letter or correction."""
    removed: int = 0
    """Stored rows that `k2 maintain retain` removed, by its record in the table."""
    corrections: int = 0
    """Counted from the rows of the table `corrections`, below the progress of `trades`."""
    left_out: int = 0
    """Offsets before the start of the partition by `K2_START`, which are not received; by its record in the table."""


@retry_if_files_gone
def summary(settings: Settings) -> list[ExchangeSummary]:
    """Count the stored trades of each exchange.

    Raises:
        NoTableError: the table `trades` does not exist.
    """
    table = existing_table(settings, "trades")
    with open_engine(settings) as engine:
        engine.register("trades", table)
        return [ExchangeSummary(**row) for row in engine.query(_SUMMARY)]


_SUMMARY: Final = """
    SELECT exchange, count(DISTINCT symbol) AS symbols, count(*) AS trades, min("timestamp") AS first,
           max("timestamp") AS last, sum(price::DOUBLE * quantity::DOUBLE) AS volume
    FROM trades GROUP BY exchange ORDER BY exchange
"""


@retry_if_files_gone
def reconcile(settings: Settings, *, pool: EnginePool | None = None) -> list[Reconciliation]:
    """Compare counted rows and dead letters with the table's progress, for each topic partition of either.

    Rows, progress and the committed size of each dead-letter file are of one snapshot. Rows without progress do not
    hold: the job writes none.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: it is not the job's, or its progress cannot be read.
    """
    table = existing_table(settings, "trades", pool)
    check_columns(table, _COLUMNS)
    properties = table.metadata.properties
    progress, removed = PROGRESS.read(properties), REMOVED_ROWS.read(properties)
    lines = committed_lines(dead_letter_folder(settings), DEAD_LETTER_POSITIONS.read_all(properties))
    with open_engine(settings, pool) as engine:
        engine.register("trades", table)
        engine.register_arrow("dead_letters", _coordinates(lines))
        register_corrections(engine, settings, table, None, pool)
        engine.register_arrow("counted_corrections", committed_coordinates(engine, settings, table))
        stored, dead_letters = _counted(engine, "trades"), _counted(engine, "dead_letters")
        corrections = _counted(engine, "corrections")
        doubled = {TopicPartition(row["topic"], row["partition"]) for row in engine.query(_DOUBLED)}
    left_out = {where: one.left_out for where, one in PARTITION_STARTS.read(properties).items() if one.left_out}
    partitions = sorted({*progress.partitions(), *stored, *left_out})
    return [
        _reconciled(
            partition,
            progress.counts(partition),
            stored.get(partition, 0),
            dead_letters.get(partition, 0),
            removed.of(partition),
            corrections.get(partition, 0),
            left_out.get(partition, 0),
            is_doubled=partition in doubled,
        )
        for partition in partitions
    ]


_COUNTED: Final[dict[str, str]] = {
    "trades": "SELECT topic, partition, count(*) AS n FROM trades GROUP BY ALL",
    "dead_letters": "SELECT topic, partition, count(*) AS n FROM dead_letters GROUP BY ALL",
    "corrections": "SELECT topic, partition, count(*) AS n FROM counted_corrections GROUP BY ALL",
}
_DOUBLED: Final = """
    SELECT DISTINCT topic, partition FROM (
        SELECT topic, partition, "offset", "index" FROM trades
        UNION ALL
        SELECT topic, partition, "offset", "index" FROM dead_letters
        UNION ALL
        SELECT topic, partition, "offset", "index" FROM counted_corrections
    ) GROUP BY topic, partition, "offset", "index" HAVING count(*) > 1
"""
_COLUMNS: Final[dict[str, pa.DataType]] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "index": pa.int64(),
}
_COORDINATES: Final = pa.schema(_COLUMNS)


def _counted(engine: Engine, name: str) -> dict[TopicPartition, int]:
    return {TopicPartition(row["topic"], row["partition"]): row["n"] for row in engine.query(_COUNTED[name])}


def _coordinates(lines: Iterable[DeadLetterLine]) -> pa.Table:
    """Return the coordinates of dead lines, a row each."""
    rows = [msgspec.structs.asdict(coordinates) for _, coordinates in read_coordinates(lines, _warn)]
    return pa.Table.from_pylist(rows, schema=_COORDINATES)


def _reconciled(
    partition: TopicPartition,
    recorded: Counts,
    stored: int,
    dead_letters: int,
    removed: int,
    corrections: int,
    left_out: int,
    *,
    is_doubled: bool,
) -> Reconciliation:
    counted = Counts(
        recorded.received, stored + removed, recorded.duplicates, dead_letters, recorded.skipped, corrections
    )
    return Reconciliation(
        partition.topic,
        partition.partition,
        counted.received,
        stored,
        counted.duplicates,
        counted.dead_letters,
        counted.skipped,
        holds=counted.holds and counted == recorded and not is_doubled,
        removed=removed,
        corrections=corrections,
        left_out=left_out,
    )


def _warn(line: str) -> None:
    log.warning("dead_letter_unreadable", line=line)

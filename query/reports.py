"""Reports on what is in: counts per exchange, numbers missing now, and whether the sums come out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Final

import msgspec
import pyarrow as pa
import structlog
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo

from query.engine import Engine, open_engine
from query.tables import check_columns, existing_table
from runtime.dead_letter_files import Line, committed_lines, read_coordinates, recorded_letters
from runtime.settings import Settings
from trades.progress import Counts, Progress, TopicPartition

__all__ = ["ExchangeSummary", "MissingRange", "Reconciliation", "gaps", "is_known", "reconcile", "summary"]

PROGRESS: Final = "k2.progress"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ExchangeSummary:
    """What is stored of one exchange."""

    exchange: str
    symbols: int
    trades: int
    first: datetime
    last: datetime
    volume: float
    """Sum of price times quantity over all symbols, about."""


@dataclass(frozen=True, slots=True)
class MissingRange:
    """A range of sequence numbers that were not seen, `first_sequence` to `last_sequence` inclusive."""

    exchange: str
    symbol: str
    session: int
    first_sequence: int
    last_sequence: int
    missing: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A topic partition's sums: what was received against what became of it."""

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
    """received = stored + duplicates + dead letters + skipped, the counted ones are those that the progress
    says, and no (offset, index) is there twice, be it as row or as dead letter."""


def summary(settings: Settings) -> list[ExchangeSummary]:
    """Count the stored trades of each exchange.

    Raises:
        NoTableError: there is no table `trades` where the settings say.
    """
    table = existing_table(settings, "trades")
    with open_engine(settings) as engine:
        engine.show("trades", table)
        return [ExchangeSummary(**row) for row in engine.query(_SUMMARY)]


_SUMMARY: Final = """
    SELECT exchange, count(DISTINCT symbol) AS symbols, count(*) AS trades, min("timestamp") AS first,
           max("timestamp") AS last, sum(price::DOUBLE * quantity::DOUBLE) AS volume
    FROM trades GROUP BY exchange ORDER BY exchange
"""


def gaps(
    settings: Settings, exchange: str | None = None, symbol: str | None = None, as_of: datetime | None = None
) -> list[MissingRange]:
    """Give each range of numbers that is missing: what the ledger says was opened, less what was filled.

    `as_of` (with its zone) asks what was missing then, by the time that events were detected at.

    Raises:
        NoTableError: there is no ledger where the settings say.
        TableError: it is not the job's.
    """
    with _ledger(settings, exchange, symbol) as engine:
        parameters = {"exchange": exchange, "symbol": symbol, "as_of": as_of}
        return [MissingRange(**row) for row in engine.query(OPEN_RANGES, parameters)]


def is_known(settings: Settings, exchange: str | None, symbol: str | None) -> bool:
    """Tell whether the ledger has a numbering of an exchange or symbol: without one, nothing can be missing."""
    with _ledger(settings, exchange, symbol) as engine:
        return bool(engine.query(_KNOWN, {"exchange": exchange, "symbol": symbol}))


@contextmanager
def _ledger(settings: Settings, exchange: str | None, symbol: str | None) -> Iterator[Engine]:
    """Give an engine that shows, as `sequence_events`, at least what the ledger has of an exchange and symbol."""
    table = existing_table(settings, "sequence_events")
    check_columns(table, _LEDGER_COLUMNS)
    with open_engine(settings) as engine:
        engine.show("sequence_events", table, where=_equal(exchange=exchange, symbol=symbol))
        yield engine


_LEDGER_COLUMNS: Final = (
    "exchange",
    "symbol",
    "session",
    "event",
    "first_sequence",
    "last_sequence",
    "detected_at",
)
_KNOWN: Final = """
    SELECT 1 FROM sequence_events
    WHERE exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol) LIMIT 1
"""


# Each range is an edge up and an edge down; between two edges of a symbol's session a stretch is missing
# where something opened covers it and nothing filled does. Neighbouring stretches of one kind are one.
OPEN_RANGES: Final = """
    WITH events AS (
        SELECT exchange, symbol, session, first_sequence::HUGEINT AS low, last_sequence::HUGEINT + 1 AS high,
               (event = 'gap_opened')::INT AS opened, (event = 'gap_filled')::INT AS filled
        FROM sequence_events
        WHERE event IN ('gap_opened', 'gap_filled')
          AND exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)
          AND detected_at <= coalesce($as_of::TIMESTAMPTZ, detected_at)
    ), edges AS (
        SELECT exchange, symbol, session, low AS edge, opened, filled FROM events
        UNION ALL
        SELECT exchange, symbol, session, high AS edge, -opened, -filled FROM events
    ), steps AS (
        SELECT exchange, symbol, session, edge, sum(opened) AS opened, sum(filled) AS filled
        FROM edges GROUP BY ALL
    ), stretches AS (
        SELECT exchange, symbol, session, edge,
               sum(opened) OVER numbers > 0 AND sum(filled) OVER numbers = 0 AS is_missing
        FROM steps WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY edge)
    ), changes AS (
        SELECT * FROM stretches
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY edge)
        QUALIFY is_missing IS DISTINCT FROM lag(is_missing) OVER numbers
    ), ranges AS (
        SELECT *, lead(edge) OVER (PARTITION BY exchange, symbol, session ORDER BY edge) AS until FROM changes
    )
    SELECT exchange, symbol, session, edge::BIGINT AS first_sequence, (until - 1)::BIGINT AS last_sequence,
           (until - edge)::BIGINT AS missing
    FROM ranges WHERE is_missing ORDER BY exchange, symbol, session, edge
"""


def reconcile(settings: Settings) -> list[Reconciliation]:
    """Hold what was counted against the table's progress, for each topic partition that either knows.

    Rows and progress are of one snapshot, and so is how far each file of dead letters counts. Rows without a progress
    do not hold: the job writes none.

    Raises:
        NoTableError: there is no table `trades` where the settings say.
        TableError: it is not the job's, or its progress cannot be read.
    """
    table = existing_table(settings, "trades")
    check_columns(table, _COLUMNS)
    progress = Progress.parse(table.metadata.properties.get(PROGRESS))
    letters = _letters(settings, table.metadata.properties, progress)
    with open_engine(settings) as engine:
        engine.show("trades", table)
        engine.show_arrow("letters", letters)
        stored, dead_letters = _counted(engine, "trades"), _counted(engine, "letters")
        doubled = {TopicPartition(row["topic"], row["partition"]) for row in engine.query(_DOUBLED)}
    partitions = sorted({*progress.partitions(), *stored})
    return [
        _reconciled(
            where,
            progress.counts(where),
            stored.get(where, 0),
            dead_letters.get(where, 0),
            is_doubled=where in doubled,
        )
        for where in partitions
    ]


_COUNTED: Final[dict[str, str]] = {
    "trades": "SELECT topic, partition, count(*) AS n FROM trades GROUP BY ALL",
    "letters": "SELECT topic, partition, count(*) AS n FROM letters GROUP BY ALL",
}
_DOUBLED: Final = """
    SELECT DISTINCT topic, partition FROM (
        SELECT topic, partition, "offset", "index" FROM trades
        UNION ALL
        SELECT topic, partition, "offset", "index" FROM letters
    ) GROUP BY topic, partition, "offset", "index" HAVING count(*) > 1
"""
_COLUMNS: Final[dict[str, pa.DataType]] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "index": pa.int64(),
}
_LETTERS: Final = pa.schema(_COLUMNS)


def _counted(engine: Engine, name: str) -> dict[TopicPartition, int]:
    return {TopicPartition(row["topic"], row["partition"]): row["n"] for row in engine.query(_COUNTED[name])}


def _letters(settings: Settings, properties: Mapping[str, str], progress: Progress) -> pa.Table:
    """Give where the letters came from that commits have counted, a row each."""
    rows = [
        msgspec.structs.asdict(coordinates)
        for writer in progress.writers
        for _, coordinates in read_coordinates(_committed(settings, properties, writer), _warn)
    ]
    return pa.Table.from_pylist(rows, schema=_LETTERS)


def _committed(settings: Settings, properties: Mapping[str, str], writer: str) -> Iterator[Line]:
    return committed_lines(settings.dead_letter_folder, recorded_letters(properties, writer))


def _reconciled(
    where: TopicPartition, said: Counts, stored: int, dead_letters: int, *, is_doubled: bool
) -> Reconciliation:
    counted = Counts(said.received, stored, said.duplicates, dead_letters, said.skipped)
    return Reconciliation(
        where.topic,
        where.partition,
        counted.received,
        counted.stored,
        counted.duplicates,
        counted.dead_letters,
        counted.skipped,
        holds=counted.holds and counted == said and not is_doubled,
    )


def _equal(**values: str | None) -> BooleanExpression:
    terms = [EqualTo(name, value) for name, value in values.items() if value is not None]  # type: ignore[call-arg,arg-type]  # PyIceberg's own types miss its constructor
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, terms, everything)


def _warn(line: str) -> None:
    log.warning("dead letter cannot be read", line=line)

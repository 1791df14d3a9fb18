"""The job's tables with rows that a test chooses, in a real catalog."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import msgspec
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from k2.iceberg.tables import TableName, open_table
from k2.model.columns import CORRECTIONS, SEQUENCE_EVENTS, TRADES, Column
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query.gaps import gaps
from k2.storage.catalog import open_catalog
from k2.storage.commit_log import MOVE_COUNTS, Commit, PartitionMove
from k2.storage.dead_letters.files import Position, file_name, series_prefix
from k2.storage.table_properties import COMMIT_NOTES, DEAD_LETTER_POSITIONS
from tests.model.dead_letters import dead_letter

__all__ = [
    "EPOCH",
    "append",
    "conflict",
    "event",
    "job_commit",
    "made",
    "missing_now",
    "numbered",
    "progress",
    "session_started",
    "set_commit_notes",
    "set_progress",
    "trade",
    "write_letters",
]

EPOCH = datetime(2024, 8, 9, tzinfo=UTC)
Row = dict[str, Any]


class Letter(Protocol):
    """What can be written as a line of a dead-letter file."""

    def line(self) -> bytes:
        """Return the line with its newline."""


def made(settings: Settings, which: TableName) -> Table:
    """Create or open one of the tables."""
    return open_table(open_catalog(settings), settings, which)


def append(table: Table, rows: list[Row]) -> None:
    """Append rows in one commit."""
    table.append(pa.Table.from_pylist(rows, schema=schema_to_pyarrow(table.schema())))


def missing_now(settings: Settings) -> list[tuple[str, str, int, int, int]]:
    """Return the ranges missing now, without the times they were opened."""
    return [(gap.exchange, gap.symbol, gap.session, gap.first_sequence, gap.last_sequence) for gap in gaps(settings)]


def set_progress(table: Table, progress: Progress) -> None:
    """Write progress to the table's properties."""
    with table.transaction() as transaction:
        transaction.set_properties({"k2.progress": progress.text()})


def progress(**values: int) -> Progress:
    """Return progress of partition 0 of topic `trades`."""
    return Progress({"0": {TopicPartition("trades", 0): PartitionProgress(**values)}})


def job_commit(
    number: int,
    when: datetime,
    writer: str | None = "0",
    *,
    snapshot_id: int = 0,
    moves: list[PartitionMove] | None = None,
    lag: int | None = None,
    **counts: int,
) -> Commit:
    """Return the job's n-th commit, after the one before it; the counts are of partition 0 of topic `trades`.

    Its sequence number is lower than that of any snapshot of the table.
    """
    counts = dict.fromkeys(MOVE_COUNTS, 0) | counts
    moved = [PartitionMove("trades", 0, number, **counts)] if moves is None and writer is not None else moves or []
    committed_at = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    rows, before = sum(one.stored for one in moved), number - 1 or None
    own_id = snapshot_id or number
    return Commit(own_id, None, number - 10**6, committed_at, writer, rows, 1, 100, moved, previous_id=before, lag=lag)


def set_commit_notes(table: Table, commits: Iterable[Commit]) -> None:
    """Write commit notes to the table's properties."""
    with table.transaction() as transaction:
        transaction.set_properties(COMMIT_NOTES.set_to([*commits]))


def trade(offset: int, exchange: str = "binance", symbol: str = "BTCUSDT", **values: Any) -> Row:
    """Return a row of `trades`; a column without a default here is null."""
    row = {
        "exchange": exchange,
        "symbol": symbol,
        "trade_id": str(offset),
        "sequence": offset,
        "session": 0,
        "price": Decimal("2.5"),
        "quantity": Decimal(2),
        "side": "buy",
        "timestamp": EPOCH + timedelta(seconds=offset),
        "topic": "trades",
        "partition": 0,
        "offset": offset,
        "index": 0,
        "kafka_timestamp": EPOCH,
        **values,
    }
    return _with_all_columns(TRADES, row)


def numbered(sequence: int | None, hours: float, session: int = 1, **values: Any) -> Row:
    """Return a row of `trades` with a number, this many hours after the epoch of the tests."""
    timestamp = EPOCH + timedelta(hours=hours)
    return trade(0, **{"sequence": sequence, "session": session, "timestamp": timestamp, **values})


def event(kind: str, first: int, last: int, **values: Any) -> Row:
    """Return a row of `sequence_events`."""
    row = {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "session": 0,
        "event": kind,
        "first_sequence": first,
        "last_sequence": last,
        "missing": last - first + 1,
        "timestamp": EPOCH,
        "topic": "trades",
        "partition": 0,
        "offset": 0,
        "detected_at": EPOCH,
        **values,
    }
    return _with_all_columns(SEQUENCE_EVENTS, row)


def correction(offset: int, **values: Any) -> Row:
    """Return the cancel of a trade that is not stored, in the message at an offset of topic `trades`."""
    row = {"exchange": "binance", "symbol": "BTCUSDT", "what": "cancelled", "trade_id": "none", "timestamp": EPOCH}
    return _with_all_columns(CORRECTIONS, {**row, "topic": "trades", "partition": 0, "offset": offset, **values})


def session_started(session: int, hours: float, **values: Any) -> Row:
    """Return the event of a session that began this many hours after the epoch of the tests."""
    return event("session_started", 1, 1, session=session, timestamp=EPOCH + timedelta(hours=hours), **values)


def _with_all_columns(columns: Iterable[Column], row: Row) -> Row:
    names = [column.name for column in columns]
    assert row.keys() <= set(names), "a misspelt column would be null in the table"
    return {name: row.get(name) for name in names}


@dataclass(frozen=True)
class Fields:
    """A dead letter given by its fields."""

    fields: Row

    def line(self) -> bytes:
        """Return the line with its newline."""
        return msgspec.json.encode(self.fields) + b"\n"


def conflict(offset: int, timestamp: datetime | str, **values: Any) -> Fields:
    """Return a dead letter of a trade with a stored trade's number, with the fields that identify that trade."""
    which = {"exchange": "binance", "symbol": "BTCUSDT", "sequence": offset, "session": 1, "timestamp": timestamp}
    message = dead_letter(offset, reason=Reason.CONFLICT, error="sequence: stored with other content")
    return Fields({**msgspec.to_builtins(message), **which, **values})


def write_letters(
    settings: Settings, letters: Iterable[Letter], writer: str = "0", uncounted: Iterable[Letter] = ()
) -> None:
    """Rewrite a writer's first dead-letter file; the table counts the lines of `letters`, not those after."""
    table = made(settings, TableName.TRADES)
    series = f"{series_prefix(str(table.metadata.table_uuid), writer)}000000"
    counted = b"".join(one.line() for one in letters)
    settings.dead_letter_folder.mkdir(parents=True, exist_ok=True)
    path = settings.dead_letter_folder / file_name(series, 1)
    path.write_bytes(counted + b"".join(one.line() for one in uncounted))
    with table.transaction() as transaction:
        transaction.set_properties(DEAD_LETTER_POSITIONS.set_to({series: Position(1, len(counted))}, writer))

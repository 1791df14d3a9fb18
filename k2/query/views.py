"""The tables as views on an engine, all as of one moment."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2.model.dead_letter import DeadLetter
from k2.model.progress import Progress
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryMemoryError
from k2.query.parameters import AsOf
from k2.query.pool import EnginePool
from k2.query.snapshots import NO_SNAPSHOT, NoSnapshotError, snapshot_as_of
from k2.query.tables import existing_table
from k2.storage.dead_letter_files import committed_lines

__all__ = ["register_table", "register_tables"]


def register_tables(engine: Engine, pool: EnginePool, names: Collection[str], as_of: AsOf | None) -> None:
    """Show tables under their own names; a snapshot's id is one of `trades`, and the others are shown as of its time.

    Raises:
        NoSnapshotError: no such snapshot is kept.
        NoTableError: there is no such table where the settings say.
    """
    if not names:
        return
    settings = pool.settings
    trades = existing_table(settings, "trades", pool)
    time = _time_of(trades, as_of) if isinstance(as_of, int) else as_of
    for name in sorted(names):
        if name == "trades":
            register_table(engine, trades, as_of)
        elif name == "dead_letters":
            engine.register_arrow(name, _dead_letters(settings, trades, time))
        else:
            register_table(engine, existing_table(settings, name, pool), time)


def register_table(engine: Engine, table: Table, as_of: AsOf | None, where: BooleanExpression | None = None) -> None:
    """Show one table under its name, as of a snapshot or a time; files without a row of `where` stay closed.

    Raises:
        NoSnapshotError: no such snapshot is kept.
    """
    snapshot_id = snapshot_as_of(table, as_of)
    if snapshot_id == NO_SNAPSHOT:
        engine.register_empty(table.name()[-1], table)
    else:
        engine.register(table.name()[-1], table, row_filter=where, snapshot_id=snapshot_id)


def _time_of(trades: Table, snapshot_id: int) -> datetime:
    snapshot = trades.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise NoSnapshotError(f"as_of: table {'.'.join(trades.name())} keeps no snapshot {snapshot_id}")
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1_000, UTC)


def _dead_letters(settings: Settings, trades: Table, as_of: datetime | None) -> pa.Table:
    """Return the letters that commits have counted, a row each; held in memory, as a view over files has no filter."""
    properties, rows, held_bytes = trades.metadata.properties, [], 0
    writers = Progress.in_properties(properties).writers
    for line in committed_lines(settings.dead_letter_folder, properties, writers):
        held_bytes += len(line.text)
        if held_bytes > settings.query_memory_limit_bytes:
            raise QueryMemoryError(
                f"the dead letters are larger than K2_QUERY_MEMORY_LIMIT={settings.query_memory_limit}; raise it"
            )
        letter = DeadLetter.parse(line.text)
        if as_of is None or (letter.dead_lettered_at is not None and letter.dead_lettered_at <= as_of):
            rows.append({**msgspec.structs.asdict(letter), "reason": letter.reason.value})
    return pa.Table.from_pylist(rows, schema=_LETTERS)


_TIME: Final = pa.timestamp("us", tz="UTC")
_LETTERS_FIELDS: Final[Mapping[str, pa.DataType]] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "index": pa.int32(),
    "kafka_timestamp": _TIME,
    "key": pa.string(),
    "key_encoding": pa.string(),
    "value": pa.string(),
    "value_encoding": pa.string(),
    "reason": pa.string(),
    "error": pa.string(),
    "error_type": pa.string(),
    "venue": pa.string(),
    "dead_lettered_at": _TIME,
    "exchange": pa.string(),
    "symbol": pa.string(),
    "sequence": pa.int64(),
    "session": pa.int32(),
    "timestamp": _TIME,
}
_LETTERS: Final = pa.schema(_LETTERS_FIELDS)

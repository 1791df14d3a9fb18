"""Registration of the tables as views of an engine, all as of one moment."""

from collections.abc import Collection
from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2.model.dead_letter import DeadLetter
from k2.ops.settings import Settings
from k2.query.corrected_trades import CORRECTED_TRADES, CORRECTION_VIEWS
from k2.query.corrections import register_corrections
from k2.query.dead_letters import DEAD_LETTER_SCHEMA, dead_letter_row
from k2.query.engine import Engine, QueryError, QueryMemoryError
from k2.query.parameters import AsOf
from k2.query.pool import EnginePool
from k2.query.quality import quality
from k2.query.snapshots import NO_SNAPSHOT, NoSnapshotError, snapshot_as_of
from k2.query.sql_macros import DERIVED
from k2.query.tables import existing_table
from k2.storage.dead_letters.files import committed_lines
from k2.storage.dead_letters.folders import dead_letter_folder
from k2.storage.table_properties import DEAD_LETTER_POSITIONS

__all__ = ["register_corrected_trades", "register_table", "register_tables"]


def register_tables(engine: Engine, pool: EnginePool, names: Collection[str], as_of: AsOf | None) -> None:
    """Register tables, and views derived from `trades` and `corrections`, under their names.

    A snapshot id is one of `trades`; the other tables are read as of its time.

    Raises:
        NoSnapshotError: the snapshot does not exist.
        NoTableError: a table does not exist.
        QueryError: the view `quality` is not known as of an earlier time.
    """
    if not names:
        return
    settings = pool.settings
    trades = existing_table(settings, "trades", pool)
    time = _time_of(trades, as_of) if isinstance(as_of, int) else as_of
    views = {**DERIVED, **CORRECTION_VIEWS}
    for name in sorted({*names} - {*views}):
        if name == "trades":
            register_table(engine, trades, as_of)
        elif name == "corrections":
            register_corrections(engine, settings, trades, time, pool)
        elif name == "quality":
            if as_of is not None:
                raise QueryError("as_of: the view quality is known as of now only; leave as_of out")
            engine.register_arrow(name, quality(settings))
        elif name == "dead_letters":
            engine.register_arrow(name, _dead_letters(settings, trades, time))
        else:
            register_table(engine, existing_table(settings, name, pool), time)
    for name in sorted({*names} & {*views}):
        engine.register_view(name, views[name])


def register_corrected_trades(engine: Engine, pool: EnginePool, trades: Table, as_of: AsOf | None) -> None:
    """Register the view `corrected_trades` over the registered `trades`, and the corrections as of the same time.

    Raises:
        NoSnapshotError: the snapshot does not exist.
    """
    time = _time_of(trades, as_of) if isinstance(as_of, int) else as_of
    register_corrections(engine, pool.settings, trades, time, pool)
    engine.register_view("corrected_trades", CORRECTED_TRADES)


def register_table(
    engine: Engine, table: Table, as_of: AsOf | None, row_filter: BooleanExpression | None = None
) -> None:
    """Register one table under its name, as of a snapshot or time; files without a row of `row_filter` are skipped.

    Raises:
        NoSnapshotError: the snapshot does not exist.
    """
    snapshot_id = snapshot_as_of(table, as_of)
    if snapshot_id == NO_SNAPSHOT:
        engine.register_empty(table.name()[-1], table)
    else:
        engine.register(table.name()[-1], table, row_filter=row_filter, snapshot_id=snapshot_id)


def _time_of(trades: Table, snapshot_id: int) -> datetime:
    snapshot = trades.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise NoSnapshotError(
            f"as_of: table {'.'.join(trades.name())} has no snapshot {snapshot_id}; k2 audit lists its snapshots"
        )
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1_000, UTC)


def _dead_letters(settings: Settings, trades: Table, as_of: datetime | None) -> pa.Table:
    """Return the committed dead letters, a row each, in memory, because DuckDB cannot filter the files by commit."""
    rows, held_bytes = [], 0
    positions = DEAD_LETTER_POSITIONS.read_all(trades.metadata.properties)
    for line in committed_lines(dead_letter_folder(settings), positions):
        held_bytes += len(line.text)
        if held_bytes > settings.query_memory_limit_bytes:
            raise QueryMemoryError(
                f"the dead letters exceed K2_QUERY_MEMORY_LIMIT={settings.query_memory_limit}; raise it"
            )
        dead_letter = DeadLetter.parse(line.text)
        if as_of is None or (dead_letter.dead_lettered_at is not None and dead_letter.dead_lettered_at <= as_of):
            rows.append(dead_letter_row(dead_letter))
    return pa.Table.from_pylist(rows, schema=DEAD_LETTER_SCHEMA)

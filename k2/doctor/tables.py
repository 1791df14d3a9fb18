"""Checks of the catalog, the job's tables and their checkpoints; nothing is created."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table

from k2.doctor.broker import Tables
from k2.doctor.findings import Finding, NotCheckedError, Shared, failed, ok, unknown, warning
from k2.iceberg.snapshot_lineage import check_lineage
from k2.iceberg.table_binding import is_bound
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName, check_table
from k2.model.errors import CatalogError, K2Error
from k2.model.progress import Progress
from k2.model.wording import format_count
from k2.ops.retry import missing_file_message, missing_local_file
from k2.ops.settings import Settings
from k2.restore.checkpoints import find_checkpoints
from k2.status.wording import duration
from k2.storage.catalog import (
    catalog_exists,
    catalog_location,
    check_lost,
    check_namespace,
    database_file,
    local_catalog,
    open_catalog,
)
from k2.storage.catalog_errors import as_k2_error, translate_permanent_errors
from k2.storage.table_properties import LEDGER_ID, PARTITION_STARTS, TOPIC_IDS

__all__ = ["Found", "check_catalog", "check_checkpoints", "check_tables", "said_of_topics"]

Found = Mapping[TableName, Table | None]
"""The job's tables; None for one that does not exist yet."""
AHEAD_SECONDS_MAX: Final = 5.0


def check_catalog(settings: Settings, shared: Shared[Found]) -> Iterator[Finding]:
    """Open the catalog and the tables.

    Raises:
        SettingsError: the catalog is misconfigured, or refuses the credentials.
        CatalogError: it is lost or corrupt, or a table's metadata file is missing.
        UnreachableError: it does not answer.
    """
    address = catalog_location(settings)
    if not _has_database(settings):
        if local_catalog(settings) is not None:
            check_lost(settings)
        shared.set(dict.fromkeys(TableName))
        yield ok("catalog", f"{address} does not exist yet; the job creates it")
        return
    found = _load_tables(settings, address)
    shared.set(found)
    yield ok("catalog", f"catalog {settings.catalog!r} answers at {address}")


def _has_database(settings: Settings) -> bool:
    """Return whether there is something to open: SQLite would create the file of a catalog that is absent."""
    database = database_file(settings)
    return catalog_exists(settings) and (database is None or database.exists())


def _load_tables(settings: Settings, address: str) -> Found:
    try:
        with translate_permanent_errors(settings.catalog, database_file(settings)):
            return _load(settings)
    except K2Error:
        raise
    except Exception as error:
        file = missing_local_file(error)
        if file is not None:
            raise CatalogError(f"opening the tables failed: {missing_file_message(file)}") from error
        k2_error = as_k2_error(settings.catalog, address, error)
        if k2_error is None:
            raise
        raise k2_error from error


def _load(settings: Settings) -> Found:
    # Imported here because it reads PyIceberg's configuration at import, and would raise a bare error.
    from pyiceberg.catalog.sql import IcebergTables, SqlCatalog  # noqa: PLC0415
    from sqlalchemy import inspect  # noqa: PLC0415  only an SQL catalog needs it

    catalog = open_catalog(settings, is_read_only=True)
    if isinstance(catalog, SqlCatalog) and not inspect(catalog.engine).has_table(IcebergTables.__tablename__):
        return dict.fromkeys(TableName)
    found: dict[TableName, Table | None] = {}
    for name in TableName:
        try:
            found[name] = catalog.load_table((*settings.namespace.split("."), name.value))
        except (NoSuchTableError, NoSuchNamespaceError):
            check_namespace(settings, catalog)
            found[name] = None
    return found


def said_of_topics(found: Found) -> Tables:
    """Return what the tables say of topics."""
    trades = found[TableName.TRADES]
    if trades is None:
        return Tables(Progress(), {})
    properties = trades.metadata.properties
    return Tables(progress_of(trades), TOPIC_IDS.read(properties), PARTITION_STARTS.read(properties))


def check_tables(
    settings: Settings, shared: Shared[Found], tables: Shared[Tables], resumed: Shared[bool]
) -> Iterator[Finding]:
    """Check that each table is the job's, that none was rolled back, and that the ledger belongs to the trades.

    `resumed` is whether a start resumes states from a recovery store; it then refuses a ledger that is new.
    """
    found = shared.get()
    tables.set(said_of_topics(found))
    for name, table in found.items():
        check = f"table {name}"
        if table is None:
            yield ok(check, "does not exist yet; the job creates it")
            continue
        try:
            check_table(table, settings, name)
            check_lineage(table.metadata, ".".join(table.name()))
        except K2Error as error:
            yield failed(check, str(error))
        else:
            yield ok(check, f"Iceberg format {table.metadata.format_version}, {_snapshots(table)}")
        ahead = table.metadata.last_updated_ms / 1_000 - time.time()
        if ahead > AHEAD_SECONDS_MAX:
            text = f"its newest commit is {duration(ahead)} ahead of this machine's clock; synchronize the clocks"
            yield warning(f"{check} clock", text)
    yield from _ledger(found, resumed)


def _snapshots(table: Table) -> str:
    snapshot = table.current_snapshot()
    if snapshot is None:
        return "no commit yet"
    time_ = datetime.fromtimestamp(snapshot.timestamp_ms / 1_000, UTC)
    return f"newest commit {time_:%Y-%m-%d %H:%M:%S} UTC"


def _ledger(found: Found, resumed: Shared[bool]) -> Iterator[Finding]:
    trades, ledger = found[TableName.TRADES], found[TableName.SEQUENCE_EVENTS]
    if trades is None:
        return
    check, has_events = "ledger", ledger is not None and bool(progress_of(ledger).partitions())
    try:
        if is_bound(trades, ledger, has_events=has_events, is_resumed=False):
            yield ok(check, "the ledger belongs to the trades")
        elif LEDGER_ID.read(trades.metadata.properties) is None:
            yield ok(check, "the ledger is new; the next start binds it to the trades")
        else:
            is_bound(trades, ledger, has_events=has_events, is_resumed=resumed.get())
            yield warning(check, "the ledger was dropped; start the job, which rebuilds it from the trades")
    except K2Error as error:
        yield failed(check, str(error))
    except NotCheckedError as error:
        text = f"the ledger was dropped, and a recovery store may count its events as written ({error})"
        yield unknown(check, f"{text}; name the store by -r, or mend it first")


def check_checkpoints(settings: Settings, shared: Shared[Found]) -> Iterator[Finding]:
    """Check that the newest checkpoints can be read, and say what a start without a recovery store reads.

    Raises:
        UnreachableError: the warehouse does not answer.
    """
    trades = shared.get()[TableName.TRADES]
    if trades is None:
        yield ok("checkpoints", "there is no table yet, so none is needed")
        return
    found = find_checkpoints(trades, progress_of(trades), settings.writers)
    text = f"a start without a recovery store {found.start_without_store}{_age(trades, found.committed_after)}"
    if found.unreadable:
        damage = f"{found.unreadable[0]} ({format_count(len(found.unreadable), 'file')} in all)"
        yield warning("checkpoints", f"{damage}; {text}; the job writes new checkpoints by itself")
    else:
        yield ok("checkpoints", text)


def _age(trades: Table, sequence_number: int) -> str:
    """Return how old the oldest checkpoint in use is; empty if there is none, or its commit's snapshot has expired."""
    times = [one.timestamp_ms for one in trades.metadata.snapshots if one.sequence_number == sequence_number]
    return f"; they were written {duration(time.time() - min(times) / 1_000)} ago" if times and sequence_number else ""

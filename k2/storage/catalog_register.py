"""Bring the job's tables back into a catalog from the metadata files of their warehouse."""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from pyiceberg.exceptions import ValidationError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadata

from k2.model.errors import CatalogError, SettingsError
from k2.ops.settings import Settings
from k2.storage.catalog import catalog_properties, check_not_moving, database_file, open_catalog
from k2.storage.catalog_lock import exclusive_catalog
from k2.storage.table_properties import CHECKPOINTS, LEDGER_ID
from k2.storage.warehouse import TABLES, local_path, metadata_files, table_location

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.catalog.sql import SqlCatalog

__all__ = ["Registered", "find_tables", "register_tables"]

_NAME: Final = re.compile(r"/(\d+)-[\w-]{36}(?:\.\w+)?\.metadata\.json$")
"""The name of a metadata file; group 1 is its version, which each commit raises by one."""
_SQL: Final = ("sqlite", "postgresql")
"""What the URI of an SQL catalog begins with, as PyIceberg infers the type."""
_TRADES, _LEDGER, *_OTHERS = TABLES


class Registered(NamedTuple):
    """The metadata file from which a table was brought back."""

    name: str
    location: str
    metadata: TableMetadata
    others: Sequence[str]
    """Intact files of the same version, which are not registered: at most one of them all was committed."""


class _Header(msgspec.Struct, rename="kebab"):
    """The entries of a metadata file by which versions are compared."""

    table_uuid: str
    last_updated_ms: int
    last_sequence_number: int = 0


class _File(NamedTuple):
    location: str
    version: int
    header: _Header | None
    """None for a file that cannot be read."""

    @property
    def age(self) -> tuple[int, int, int]:
        """Sorts the versions of one table; of two that a race made, the one that has more commits is later."""
        assert self.header is not None
        return self.version, self.header.last_sequence_number, self.header.last_updated_ms


def register_tables(settings: Settings, *, skip_damaged: bool = False) -> list[Registered]:
    """Register the newest metadata of each of the job's tables in the warehouse, all of them at once or none.

    `skip_damaged` goes back to an older version of a table whose newest one is torn or lacks files.

    Raises:
        SettingsError: the catalog has one of the tables, or is not in an SQL database.
        StateError: the job runs.
        CatalogError: the warehouse has no such tables, one is damaged, they do not belong together, or they are being
            moved there.
        UnreachableError: the catalog does not answer.
    """
    database = database_file(settings)
    if database is not None:
        check_not_moving(database)
    # Looked up before the catalog is opened, which creates it: nothing is left in a wrong folder.
    if database is None or not database.exists():
        find_tables(settings, skip_damaged=skip_damaged)
    with nullcontext() if database is None else exclusive_catalog(database):
        catalog = _sql_catalog(settings)
        _refuse_registered(settings, catalog)
        found = find_tables(settings, skip_damaged=skip_damaged)
        _insert(settings, catalog, found)
        if skip_damaged:
            _forget_checkpoints(settings, catalog)
    return found


def _forget_checkpoints(settings: Settings, catalog: "Catalog") -> None:
    """Have the next start read all rows: an older ledger lacks events that checkpoints count as written."""
    with catalog.load_table((settings.namespace, _TRADES)).transaction() as transaction:
        named = [key for key in transaction.table_metadata.properties if key.startswith(CHECKPOINTS.key)]
        transaction.remove_properties(*named)


def find_tables(settings: Settings, *, skip_damaged: bool = False) -> list[Registered]:
    """Return the newest metadata of each of the job's tables that the warehouse has; see `register_tables`.

    Raises:
        SettingsError: the catalog's configuration names no warehouse.
        CatalogError: the warehouse has no such tables, one is damaged, or they do not belong together.
    """
    properties = catalog_properties(settings)
    # A catalog on a server is refused without a connection to it.
    if properties.get("type", "sql") != "sql" or not properties.get("uri", "sqlite").startswith(_SQL):
        raise _not_sql_error(settings)
    if "warehouse" not in properties:
        raise SettingsError(f"catalog {settings.catalog!r} has no property `warehouse`; set it to the tables' folder")
    trades = _newest(settings, properties, _TRADES, None, skip_damaged=skip_damaged)
    if trades is None:
        raise CatalogError(
            f"no metadata file of table {settings.namespace}.{_TRADES} is in {properties['warehouse']}; set "
            "K2_DATA_DIR or K2_NAMESPACE to those of the table, or restore the warehouse from a backup"
        )
    ledger_id = LEDGER_ID.read(trades.metadata.properties)
    ledger = _newest(settings, properties, _LEDGER, ledger_id, skip_damaged=skip_damaged)
    others = [_newest(settings, properties, name, None, skip_damaged=skip_damaged) for name in _OTHERS]
    return [one for one in (trades, ledger, *others) if one is not None]


def _newest(
    settings: Settings, properties: Mapping[str, str], name: str, table_id: str | None, *, skip_damaged: bool
) -> Registered | None:
    """Return the newest metadata of a table in the warehouse; None if there is none.

    Files of a table of the same name that was dropped are left aside: they have another UUID. `table_id` is the UUID
    that the table must have; otherwise it is that of the metadata that was updated last.

    Raises:
        CatalogError: the newest version is torn or lacks files, or the table with that UUID is not there.
    """
    location = table_location(properties["warehouse"], settings, name)
    io = load_file_io(dict(properties), location)
    files = [_read_header(io, one) for one in metadata_files(location, properties)]
    headers = [file.header for file in files if file.header is not None]
    if table_id is None and headers:
        table_id = max(headers, key=lambda header: header.last_updated_ms).table_uuid
    own = [file for file in files if file.header is not None and file.header.table_uuid == table_id]
    if not own and (files or table_id is not None):
        _raise_none(settings, name, location, files, table_id)
    torn = [file for file in files if file.header is None and file.version > max(one.version for one in own)]
    if torn and not skip_damaged:
        raise _damaged_error(max(torn, key=lambda file: file.version).location, "cannot be read to its end")
    for file in sorted(own, key=lambda one: one.age, reverse=True):
        metadata, problem = _read_whole(io, file.location, location)
        if metadata is not None and problem is None:
            others = [one.location for one in own if one.version == file.version and one is not file]
            return Registered(name, file.location, metadata, others)
        if not skip_damaged:
            raise _damaged_error(file.location, problem)
    if own:
        raise CatalogError(f"no version of table {settings.namespace}.{name} in {location} is whole; restore a backup")
    return None


def _sql_catalog(settings: Settings) -> "SqlCatalog":
    # Imported here because it reads PyIceberg's configuration at import, and would raise a bare error.
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415

    catalog = open_catalog(settings, is_replacement=True)
    if not isinstance(catalog, SqlCatalog):
        raise _not_sql_error(settings)
    return catalog


def _not_sql_error(settings: Settings) -> SettingsError:
    return SettingsError(
        f"catalog {settings.catalog!r} is not in an SQL database: its server keeps the list of tables; restore or "
        "register them there"
    )


def _refuse_registered(settings: Settings, catalog: "Catalog") -> None:
    for name in TABLES:
        if catalog.table_exists((*settings.namespace.split("."), name)):
            raise _registered_error(settings, name)


def _registered_error(settings: Settings, name: str) -> SettingsError:
    return SettingsError(
        f"table {settings.namespace}.{name} is already registered in catalog {settings.catalog!r}; to register the "
        "tables again, rename the catalog's database first"
    )


def _read_header(io: FileIO, location: str) -> _File:
    match = _NAME.search(location)
    version = int(match[1]) if match else -1
    try:
        with io.new_input(location).open() as stream:
            content = stream.read()
        if location.endswith(".gz.metadata.json"):
            content = gzip.decompress(content)
        return _File(location, version, msgspec.json.decode(content, type=_Header) if match else None)
    except (msgspec.DecodeError, EOFError, gzip.BadGzipFile, FileNotFoundError):
        return _File(location, version, None)


def _raise_none(settings: Settings, name: str, location: str, files: Sequence[_File], table_id: str | None) -> None:
    if table_id is None:
        raise _damaged_error(max(files, key=lambda file: file.version).location, "cannot be read to its end")
    raise CatalogError(
        f"the ledger {settings.namespace}.{name} of table {settings.namespace}.{_TRADES} (UUID {table_id}) is not in "
        f"{location}; restore it from a backup of the warehouse"
    )


def _damaged_error(location: str, problem: str | None) -> CatalogError:
    return CatalogError(
        f"the newest metadata file {location} {problem}; restore it from a backup of the warehouse, or register the "
        "newest version that is whole with --skip-damaged: what was committed after it is then read again from Kafka"
    )


def _read_whole(io: FileIO, location: str, table: str) -> tuple[TableMetadata | None, str | None]:
    """Return a version's metadata, and what is wrong with the version; None if nothing is."""
    try:
        metadata = FromInputFile.table_metadata(io.new_input(location))
    except (ValidationError, ValueError) as error:
        return None, f"is not valid: {' '.join(str(error).split())[:200]}"
    if (local_path(metadata.location) or metadata.location) != (local_path(table) or table):
        return metadata, f"has the paths of {metadata.location}: the warehouse was moved; move it back"
    return metadata, next(_missing_files(io, metadata), None)


def _missing_files(io: FileIO, metadata: TableMetadata) -> Iterator[str]:
    """Yield a problem for each file of the current snapshot that does not exist, or does not have its size."""
    snapshot = metadata.current_snapshot()
    if snapshot is None:
        return
    try:
        for manifest in snapshot.manifests(io):
            for entry in manifest.fetch_manifest_entry(io):
                path = local_path(entry.data_file.file_path)
                if entry.status == ManifestEntryStatus.DELETED or path is None:
                    continue
                if not path.is_file() or path.stat().st_size != entry.data_file.file_size_in_bytes:
                    yield f"lacks the data file {path}, or it was cut short"
    except (OSError, ValueError, AssertionError) as error:
        yield f"lacks a file of snapshot {snapshot.snapshot_id}: {' '.join(str(error).split())}"


def _insert(settings: Settings, catalog: "SqlCatalog", tables: Sequence[Registered]) -> None:
    """Add the namespace and all tables in one transaction."""
    from pyiceberg.catalog.sql import IcebergNamespaceProperties, IcebergTables  # noqa: PLC0415  as above
    from sqlalchemy import insert  # noqa: PLC0415
    from sqlalchemy.exc import IntegrityError  # noqa: PLC0415

    namespace: Mapping[str, Any] = {"catalog_name": catalog.name, "namespace": settings.namespace}
    has_namespace = catalog.namespace_exists(settings.namespace)
    try:
        with catalog.engine.begin() as connection:
            if not has_namespace:
                # The property by which PyIceberg records a namespace that has no other.
                row = {**namespace, "property_key": "exists", "property_value": "true"}
                connection.execute(insert(IcebergNamespaceProperties).values(**row))
            for table in tables:
                connection.execute(
                    insert(IcebergTables).values(
                        catalog_name=catalog.name,
                        table_namespace=settings.namespace,
                        table_name=table.name,
                        metadata_location=table.location,
                    )
                )
    except IntegrityError as error:
        raise _registered_error(settings, tables[0].name) from error

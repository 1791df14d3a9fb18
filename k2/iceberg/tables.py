"""Create the job's tables, and check that an existing table is one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import structlog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import NestedField
from sqlalchemy.exc import IntegrityError

from k2.iceberg import snapshot_retention
from k2.iceberg.snapshot_expiry import retention_in
from k2.model.columns import COMMITS, CORRECTIONS, SEQUENCE_EVENTS, TRADES, Column
from k2.model.errors import SettingsError, TableError
from k2.model.key_groups import GROUPS
from k2.ops.retry import CREATION_RACE, OnRetry, retried
from k2.ops.settings import Settings
from k2.storage.catalog import check_namespace, database_file, open_catalog
from k2.storage.catalog_errors import CATALOG_TRANSIENT, translate_permanent_errors
from k2.storage.schemas import iceberg_type, schema_of
from k2.storage.table_properties import FORMAT, KEY_GROUPS, KNOWN_FORMAT, WRITERS, check_format

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

__all__ = ["MANIFESTS_MERGED", "TableName", "check_table", "connect", "open_table"]

MANIFESTS_MERGED: Final = 20
"""Every 20th commit merges small manifests; the others only add theirs.

By default PyIceberg merges again and again into a manifest that is nearly full, in the end with every commit.
"""
_LOG = structlog.get_logger()


class TableName(StrEnum):
    """Names of the job's tables."""

    TRADES = "trades"
    SEQUENCE_EVENTS = "sequence_events"
    COMMITS = "commits"
    CORRECTIONS = "corrections"


_TRADES: Final = schema_of(TRADES)
_SEQUENCE_EVENTS: Final = schema_of(SEQUENCE_EVENTS)
_COMMITS: Final = schema_of(COMMITS)
_CORRECTIONS: Final = schema_of(CORRECTIONS)

_PROPERTIES: Final = {
    "format-version": "2",
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    # A commit reads and writes the list of all manifests; these keep the list short, and each merge small.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": str(MANIFESTS_MERGED),
    "commit.manifest.target-size-bytes": str(128 * 1024),
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
    # Spark's vectorized reader does not know the encoding of trade ids (DELTA_BYTE_ARRAY, in Iceberg 1.10).
    "read.parquet.vectorization.enabled": "false",
    **snapshot_retention.PROPERTIES,
}


@dataclass(frozen=True)
class _Design:
    """The schema, partitioning and sort order of a new table."""

    columns: tuple[Column, ...]
    schema: Schema
    spec: PartitionSpec
    sort_order: SortOrder


def _ascending(schema: Schema, *names: str) -> SortOrder:
    fields = [SortField(schema.find_field(name).field_id, transform=IdentityTransform()) for name in names]
    return SortOrder(*fields)


def _first_column_partition(field_id: int, name: str = "exchange") -> PartitionField:
    return PartitionField(1, field_id, IdentityTransform(), name)


_DESIGNS: Final = {
    TableName.TRADES: _Design(
        columns=TRADES,
        schema=_TRADES,
        spec=PartitionSpec(PartitionField(9, 1000, DayTransform(), "timestamp_day"), _first_column_partition(1001)),
        sort_order=_ascending(_TRADES, "symbol", "timestamp"),
    ),
    # The ledger has few rows, so partitioning by day would make one tiny file per day and exchange without any benefit:
    # reports read all events of an exchange, because a gap stays open until it is filled.
    TableName.SEQUENCE_EVENTS: _Design(
        columns=SEQUENCE_EVENTS,
        schema=_SEQUENCE_EVENTS,
        spec=PartitionSpec(_first_column_partition(1000)),
        sort_order=_ascending(_SEQUENCE_EVENTS, "symbol", "timestamp"),
    ),
    # Also has the commits of dropped trades tables, as an audit log.
    TableName.COMMITS: _Design(
        columns=COMMITS,
        schema=_COMMITS,
        spec=PartitionSpec(_first_column_partition(1000, "table_uuid")),
        sort_order=_ascending(_COMMITS, "sequence_number"),
    ),
    # Few rows, as the ledger has.
    TableName.CORRECTIONS: _Design(
        columns=CORRECTIONS,
        schema=_CORRECTIONS,
        spec=PartitionSpec(_first_column_partition(1000)),
        sort_order=_ascending(_CORRECTIONS, "symbol", "timestamp"),
    ),
}


def open_table(catalog: "Catalog", settings: Settings, which: TableName) -> Table:
    """Open one of the job's tables; create it and its namespace if absent. Several processes may do so at once.

    Raises:
        TableError: a table of that name has another shape, or an invalid property.
        SettingsError: `K2_WRITERS` differs from the number that the table was created with.
    """
    identifier = (*settings.namespace.split("."), which.value)
    table = _load_or_create(catalog, identifier, _DESIGNS[which], settings)
    check_table(table, settings, which)
    _add_later_columns(table, _DESIGNS[which])
    return table


def check_table(table: Table, settings: Settings, which: TableName) -> None:
    """Check that an existing table is the job's, and change nothing.

    Raises:
        TableError: it has another shape, or an invalid property.
        SettingsError: `K2_WRITERS` differs from the number that the table was created with.
    """
    _check_shape(table, _DESIGNS[which])
    retention_in(table.metadata)
    if which is TableName.TRADES:
        check_format(table.metadata.properties, ".".join(table.name()))
        _check_writers(table, settings)


def connect(settings: Settings, which: TableName, on_retry: OnRetry | None = None) -> Table:
    """Open the catalog and one of the job's tables; transient faults are retried.

    Raises:
        SettingsError: the catalog refuses the credentials.
        CatalogError: the catalog is lost or corrupt, or the table's metadata file is missing.
        UnreachableError: the catalog does not answer, after retries.
    """

    def open_both() -> Table:
        with translate_permanent_errors(settings.catalog, database_file(settings)):
            return open_table(open_catalog(settings), settings, which)

    return retried(f"opening table {settings.namespace}.{which}", open_both, also=CATALOG_TRANSIENT, on_retry=on_retry)


def _load_or_create(catalog: "Catalog", identifier: tuple[str, ...], design: _Design, settings: Settings) -> Table:
    for _ in range(CREATION_RACE.attempts_max):
        try:
            return catalog.load_table(identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            check_namespace(settings, catalog)
        try:
            return _create(catalog, identifier, design, settings)
        except (TableAlreadyExistsError, NamespaceAlreadyExistsError, IntegrityError):
            # Another process created it in between, so it can be loaded.
            continue
    raise TableError(f"table {'.'.join(identifier)} keeps being dropped while the job creates it; stop what drops it")


def _create(catalog: "Catalog", identifier: tuple[str, ...], design: _Design, settings: Settings) -> Table:
    catalog.create_namespace_if_not_exists(identifier[:-1])
    return catalog.create_table(
        identifier,
        schema=design.schema,
        partition_spec=design.spec,
        sort_order=design.sort_order,
        properties={**_PROPERTIES, **(_fixed_numbers(settings) if identifier[-1] == TableName.TRADES else {})},
    )


def _fixed_numbers(settings: Settings) -> dict[str, str]:
    return WRITERS.set_to(settings.writers) | KEY_GROUPS.set_to(GROUPS) | FORMAT.set_to(KNOWN_FORMAT)


def _check_shape(table: Table, design: _Design) -> None:
    for what, found, wanted in _differences(table, design):
        raise TableError(
            f"table {'.'.join(table.name())} is not the job's: {what} is {found}, not {wanted}; "
            f"set K2_NAMESPACE to another namespace, or rename that table"
        )


def _differences(table: Table, design: _Design) -> Iterator[tuple[str, str, str]]:
    if table.metadata.format_version != 2:
        yield "its format version", str(table.metadata.format_version), "2"
    found = {field.name: field for field in table.schema().fields}
    for column, field in zip(design.columns, design.schema.fields, strict=True):
        existing = found.pop(field.name, None)
        if existing is None and column.is_later:
            continue
        if existing is not None and column.is_later:
            # The id that the column has in a new table may belong to a column that others added.
            field = field.model_copy(update={"field_id": existing.field_id})  # noqa: PLW2901
        if existing is None or _shape(existing) != _shape(field):
            yield f"column {field.name!r}", "absent" if existing is None else _shape(existing), _shape(field)
    for name, field in found.items():
        if field.required:
            yield f"column {name!r}, which the job does not know,", "required", "optional"
    yield from _unequal("the partitioning", table, table.spec().fields, design.spec.fields)
    yield from _unequal("the sort order", table, table.sort_order().fields, design.sort_order.fields)


def _add_later_columns(table: Table, design: _Design) -> None:
    """Add the columns of later versions that the table lacks; several processes may do so at once."""
    for _ in range(CREATION_RACE.attempts_max):
        missing = [column for column in design.columns if column.name not in table.schema().column_names]
        if not missing:
            return
        try:
            with table.update_schema() as update:
                for column in missing:
                    update.add_column(column.name, iceberg_type(column.type))
        except CommitFailedException:
            table.refresh()
            continue
        _LOG.info("columns_added", table=".".join(table.name()), columns=[column.name for column in missing])
    raise TableError(f"table {'.'.join(table.name())}: its columns keep changing while the job adds its own; try again")


def _shape(field: NestedField) -> str:
    return f"{'required' if field.required else 'optional'} {field.field_type} with id {field.field_id}"


def _unequal(what: str, table: Table, found: Any, wanted: Any) -> Iterator[tuple[str, str, str]]:
    texts = [
        ", ".join(f"{field.transform}({table.schema().find_column_name(field.source_id)})" for field in fields)
        for fields in (found, wanted)
    ]
    if texts[0] != texts[1]:
        yield what, texts[0] or "none", texts[1]


def _check_writers(table: Table, settings: Settings) -> None:
    created_with = WRITERS.read(table.metadata.properties)
    if created_with != settings.writers:
        raise SettingsError(
            f"K2_WRITERS={settings.writers}, but table {'.'.join(table.name())} was created for "
            f"{created_with or 'no'} writers; set K2_WRITERS={created_with or 'as before'}"
            f"{'' if created_with else f' and the table property {WRITERS.key} to it'}"
        )

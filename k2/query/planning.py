"""Scan planning: skip data files that cannot hold a matching row, by partition values and column statistics.

It skips the files that PyIceberg's own planning skips, but tests all files at once instead of one by one.
"""

from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyiceberg.expressions import (
    AlwaysFalse,
    And,
    BooleanExpression,
    BoundEqualTo,
    BoundGreaterThan,
    BoundGreaterThanOrEqual,
    BoundIn,
    BoundIsNull,
    BoundLessThan,
    BoundLessThanOrEqual,
    BoundLiteralPredicate,
    BoundNotNull,
    BoundPredicate,
    Or,
)
from pyiceberg.expressions.visitors import bind, inclusive_projection, rewrite_not
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, Table

from k2.model.errors import TableError
from k2.query.manifests import Column, ManifestCache, SpecFiles, lower, no_nulls, nulls_only, partition, upper

__all__ = ["added_files", "planned_files"]

Mask = NDArray[np.bool_]
Test = Callable[[Any, Any, Any], list[Any]]
Leaf = Callable[[BoundPredicate], Mask | None]
"""Returns the files in which a predicate may match; None if it cannot say."""
_HOLDS: Final[Mapping[type[BoundLiteralPredicate], Test]] = {
    BoundEqualTo: lambda low, high, value: [pc.less_equal(low, value), pc.greater_equal(high, value)],
    BoundGreaterThan: lambda _, high, value: [pc.greater(high, value)],
    BoundGreaterThanOrEqual: lambda _, high, value: [pc.greater_equal(high, value)],
    BoundLessThan: lambda low, _, value: [pc.less(low, value)],
    BoundLessThanOrEqual: lambda low, _, value: [pc.less_equal(low, value)],
}
"""The conditions under which a value between two bounds, which may be null, can match."""


def planned_files(manifests: ManifestCache, table: Table, scan: DataScan, committed_after: int = 0) -> list[str]:
    """Return the locations of the data files that a scan of the table reads.

    Manifests up to the Iceberg sequence number `committed_after` may be skipped.

    Raises:
        TableError: the table has delete files, which are not applied here.
    """
    snapshot = scan.snapshot()
    if snapshot is None:
        return []
    if table.catalog.supports_server_side_planning():
        return _planned_by_pyiceberg(table, scan)
    specs = manifests.files(table, snapshot, committed_after)
    if not all(pc.all(_known(files, "is_data"), min_count=0).as_py() for files in specs):
        return _planned_by_pyiceberg(table, scan)
    return [path for files in specs for path in _paths(files, table, scan)]


def added_files(table: Table, snapshot_ids: Collection[int]) -> list[str]:
    """Return the locations of the data files that some existing snapshots of a table added."""
    return [
        entry.data_file.file_path
        for snapshot in table.metadata.snapshots
        if snapshot.snapshot_id in snapshot_ids
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id
    ]


def _planned_by_pyiceberg(table: Table, scan: DataScan) -> list[str]:
    tasks = list(scan.plan_files())
    if any(task.delete_files for task in tasks):
        raise TableError(f"unsupported delete files in table {'.'.join(table.name())}; rewrite its data files")
    return [task.file.file_path for task in tasks]


def _paths(files: SpecFiles, table: Table, scan: DataScan) -> list[str]:
    schema, spec = table.schema(), table.specs()[files.spec_id]
    rows = _known(files, "rows").to_numpy()
    projected = inclusive_projection(schema, spec)(scan.row_filter)
    in_partitions = bind(Schema(*spec.partition_type(schema).fields), projected, case_sensitive=True)
    in_bounds = bind(schema, rewrite_not(scan.row_filter), case_sensitive=True)
    chosen = (
        _mask(in_partitions, len(rows), lambda predicate: _of_partition(files, predicate))
        & _mask(in_bounds, len(rows), lambda predicate: _of_bounds(files, predicate))
        & (rows != 0)
    )
    return [str(path) for path in _known(files, "path").filter(pa.array(chosen)).to_pylist()]


def _mask(expression: BooleanExpression, count: int, leaf: Leaf) -> Mask:
    """Return the files in which a bound expression without negation may match."""
    if isinstance(expression, And):
        return _mask(expression.left, count, leaf) & _mask(expression.right, count, leaf)
    if isinstance(expression, Or):
        return _mask(expression.left, count, leaf) | _mask(expression.right, count, leaf)
    found = leaf(expression) if isinstance(expression, BoundPredicate) else None
    # An expression that is not supported here skips no file.
    return np.full(count, not isinstance(expression, AlwaysFalse)) if found is None else found


def _of_partition(files: SpecFiles, predicate: BoundPredicate) -> Mask | None:
    values = files.column(partition(_field_id(predicate)))
    return None if values is None else _holds(predicate, values, values, where_unknown=False)


def _of_bounds(files: SpecFiles, predicate: BoundPredicate) -> Mask | None:
    field_id = _field_id(predicate)
    low, high = files.column(lower(field_id)), files.column(upper(field_id))
    if low is None or high is None:
        return None
    if isinstance(predicate, BoundIsNull):
        return ~_known(files, no_nulls(field_id)).to_numpy()
    has_values: Mask = ~_known(files, nulls_only(field_id)).to_numpy()
    if isinstance(predicate, BoundNotNull):
        return has_values
    found = _holds(predicate, low, high, where_unknown=True)
    return None if found is None else found & has_values


def _holds(predicate: BoundPredicate, low: "Column", high: "Column", *, where_unknown: bool) -> Mask | None:
    """Return the files of which a value between two bounds can match; None for a predicate that is not on values."""
    if isinstance(predicate, BoundIn):
        tests, literals = _HOLDS[BoundEqualTo], predicate.literals
    elif isinstance(predicate, BoundLiteralPredicate) and type(predicate) in _HOLDS:
        tests, literals = _HOLDS[type(predicate)], {predicate.literal}
    else:
        return None
    found = np.zeros(len(low), dtype=np.bool_)
    for literal in literals:
        conditions = tests(low, high, pa.scalar(literal.value, low.type))
        masks: list[Mask] = [one.fill_null(where_unknown).to_numpy() for one in conditions]
        found |= reduce(np.logical_and, masks)
    return found


def _field_id(predicate: BoundPredicate) -> int:
    return predicate.term.ref().field.field_id


def _known(files: SpecFiles, name: str) -> "Column":
    column = files.column(name)
    assert column is not None, "of every file"
    return column

"""What a contender has landed, read from its table's own metadata and files, without its catalog."""

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
from pyiceberg.table import StaticTable

from benchmarks.peers.contender import TABLE
from benchmarks.peers.expected import Expected, Sums

__all__ = ["StoredTable", "differences", "newest_metadata", "read_table", "rows_committed"]

NUMBER: Final = re.compile(r"v?(\d+)(-[0-9a-f-]+)?\.metadata\.json")


class StoredTable(NamedTuple):
    """A table, as its newest metadata has it."""

    sums: Sums
    data_files: int
    data_mb: float
    """Millions of bytes."""
    commits: int
    """Snapshots with rows."""


def newest_metadata(warehouse: Path) -> Path | None:
    """Return the newest metadata file of the table, or None if there is no table yet."""
    found = [
        (int(match[1]), path)
        for path in warehouse.glob(f"**/{TABLE}/metadata/*.metadata.json")
        if (match := NUMBER.fullmatch(path.name))
    ]
    return max(found)[1] if found else None


def rows_committed(warehouse: Path) -> int:
    """Return the number of rows that the newest snapshot says the table has."""
    path = newest_metadata(warehouse)
    if path is None:
        return 0
    try:
        metadata: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0  # being written, or just removed: the next look finds its successor
    current = metadata.get("current-snapshot-id")
    summaries = (one["summary"] for one in metadata.get("snapshots", ()) if one["snapshot-id"] == current)
    return sum(int(summary.get("total-records", 0)) for summary in summaries)


def read_table(warehouse: Path) -> StoredTable:
    """Read the table.

    Raises:
        FileNotFoundError: there is none.
    """
    path = newest_metadata(warehouse)
    if path is None:
        raise FileNotFoundError(f"no table named {TABLE} in {warehouse}; the contender wrote none")
    table = StaticTable.from_metadata(str(path))
    files = [task.file for task in table.scan().plan_files()]
    sums = Sums()
    if files:
        paths = [file.file_path.removeprefix("file://").removeprefix("file:") for file in files]
        # A sum of decimals of 18 places keeps 20 digits before the point: enough for these prices.
        found = duckdb.execute(
            "SELECT count(*), count(DISTINCT (symbol, sequence)), sum(price), sum(quantity), "
            "sum(epoch_us(timestamp))::HUGEINT FROM read_parquet(?, hive_partitioning = false)",
            [paths],
        ).fetchone()
        assert found is not None
        sums = Sums(*found)
    commits = sum(
        snapshot.summary is not None and int(snapshot.summary["added-records"] or 0) > 0
        for snapshot in table.metadata.snapshots
    )
    return StoredTable(sums, len(files), sum(file.file_size_in_bytes for file in files) / 1e6, commits)


def differences(sums: Sums, expected: Expected, *, deduplicates: bool) -> list[str]:
    """Compare what has landed with what the topic holds; return a sentence for each difference."""
    sums_expected = expected.trades if deduplicates else expected.copies
    return [
        f"{name} {found}, expected {wanted}"
        for name, found, wanted in zip(Sums._fields, sums, sums_expected, strict=True)
        if found != wanted
    ]

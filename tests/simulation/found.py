"""What the job left on disk, read without any of its code: the tables' rows and properties, and the dead letters."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

from tests.simulation.oracle import Place

__all__ = ["Found", "Letter", "look"]


@dataclass(frozen=True)
class Letter:
    """One whole line of the dead letters."""

    place: Place
    key: bytes | None
    value: bytes | None


@dataclass
class Found:
    """The state of the disk between two lives, or at the end."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    progress: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)


def look(data: Path, files: dict[str, list[dict[str, Any]]]) -> Found:
    """Read everything; `files` keeps what was read of data files, which never change."""
    found = Found(letters=list(_letters(data / "dlq")))
    for name, location in _locations(data / "catalog.db"):
        table = StaticTable.from_metadata(location)
        rows = _rows(table, files)
        if name == "trades":
            found.rows = rows
            writers = json.loads(table.properties.get("k2.progress", '{"writers": {}}'))["writers"]
            # One that has committed nothing is there with nothing.
            found.progress = {str(n): writers.pop(str(n), {}) for n in range(int(table.properties["k2.writers"]))}
            assert not writers, f"writers beyond those the table was made for: {writers}"
        else:
            found.events = rows
    return found


def _locations(database: Path) -> list[tuple[str, str]]:
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone()
        query = "SELECT table_name, metadata_location FROM iceberg_tables"
        return connection.execute(query).fetchall() if made else []


def _rows(table: StaticTable, files: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    snapshot = table.current_snapshot()
    if snapshot is None:
        return []
    paths = [
        entry.data_file.file_path
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]
    for path in paths:
        if path not in files:
            files[path] = _read(path.removeprefix("file://"))
    return [row for path in paths for row in files[path]]


def _read(path: str) -> list[dict[str, Any]]:
    # No thread may be left behind: this process forks.
    with pa.OSFile(path) as stream:
        table = pq.ParquetFile(stream).read(use_threads=False)
    timestamp = table["timestamp"].cast(pa.int64())
    table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", timestamp)
    wanted = [name for name in table.column_names if name not in {"kafka_timestamp", "received", "detected_at"}]
    rows: list[dict[str, Any]] = table.select(wanted).to_pylist()
    return rows


def _letters(folder: Path) -> Iterator[Letter]:
    for path in sorted(folder.glob("dlq-*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            letter = json.loads(line)
            place = Place(letter["topic"], letter["partition"], letter["offset"])
            yield Letter(place, _bytes(letter, "key"), _bytes(letter, "value"))


def _bytes(letter: dict[str, Any], name: str) -> bytes | None:
    text = letter[name]
    if text is None:
        return None
    return base64.b64decode(text) if f"{name}_encoding" in letter else text.encode()

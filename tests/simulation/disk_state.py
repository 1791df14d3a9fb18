"""What the job left on disk, read without any of its code: the tables' rows and properties, and the dead letters."""

import base64
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

from tests.simulation.market import PartitionKey
from tests.simulation.oracle import Coordinates
from tests.simulation.other_writer import TOPIC as FOREIGN

__all__ = ["DeadLetter", "DiskState", "read_disk"]


@dataclass(frozen=True)
class DeadLetter:
    """One complete line of the dead letters."""

    coordinates: Coordinates
    key: bytes | None
    value: bytes | None
    reason: str


@dataclass
class DiskState:
    """The state of the disk between two lives, or at the end."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """Those that commits have counted, on all machines."""
    progress: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """By writer and `topic:partition`; empty for a writer that has committed nothing."""
    foreign: list[int] = field(default_factory=list)
    """The offsets of rows that others appended."""
    commit_summaries: list[dict[str, str]] = field(default_factory=list)
    """The summaries of the job's own snapshots of `trades` that have not expired."""
    commit_rows: list[dict[str, Any]] = field(default_factory=list)
    """The rows of the table `commits`."""
    commit_notes: list[dict[str, Any]] = field(default_factory=list)
    """The commit notes in the property of `trades`."""
    files: list[str] = field(default_factory=list)
    """The paths of all files of `trades`, its metadata first."""
    pending_dead_letters: int = 0
    """How many uncommitted dead letters the machine that ran last has."""
    corrections: list[dict[str, Any]] = field(default_factory=list)
    """The rows of the table `corrections`, and those that a property of `trades` has as pending for it."""
    corrections_twice: list[Any] = field(default_factory=list)
    """Coordinates that the table has more than once."""

    def reached(self) -> dict[PartitionKey, int]:
        """Return for each topic partition the offset below which every writer has committed."""
        writers = self.progress.values()
        names = {name for entries in writers for name in entries}
        offsets = {
            name: min(entries[name]["offset"] if name in entries else 0 for entries in writers) for name in names
        }
        return {(name.rpartition(":")[0], int(name.rpartition(":")[2])): offset for name, offset in offsets.items()}

    def is_ahead_of(self, other: "DiskState") -> bool:
        """Return whether another state of the table contains less."""
        return bool(other.files) and any(
            entry["offset"] > other.progress[writer].get(name, {"offset": 0})["offset"]
            for writer, entries in self.progress.items()
            for name, entry in entries.items()
        )


def read_disk(data: Path, dead_letters: list[Path], known: dict[str, list[dict[str, Any]]]) -> DiskState:
    """Read everything; `known` caches what was read of data files, which never change.

    `dead_letters` are the machines' folders of dead letters, that of the one that ran last at the end.
    """
    state = DiskState()
    corrections: list[dict[str, Any]] = []
    pending: list[dict[str, Any]] = []
    positions: dict[str, tuple[int, int]] = {}
    for name, location in _locations(data / "catalog.db"):
        table = StaticTable.from_metadata(location)
        files, manifests = _files(table)
        if name == "commits":
            state.commit_rows = _rows(files, known, _read_commit_rows)
            continue
        rows = _rows(files, known, _read)
        if name == "corrections":
            corrections = rows
            continue
        if name == "trades":
            state.rows = [row for row in rows if row["topic"] != FOREIGN]
            state.foreign = sorted(row["offset"] for row in rows if row["topic"] == FOREIGN)
            state.files = [_path(file) for file in (location, *manifests, *files)]
            state.commit_summaries = [summary for summary in _summaries(table) if "k2.writer" in summary]
            writers = json.loads(table.properties.get("k2.progress", '{"writers": {}}'))["writers"]
            state.commit_notes = json.loads(table.properties.get("k2.trail", '{"commits": []}'))["commits"]
            state.progress = {str(n): writers.pop(str(n), {}) for n in range(int(table.properties["k2.writers"]))}
            positions = _positions(table.properties)
            pending = _pending_corrections(table.properties)
            assert not writers, f"writers beyond those the table was made for: {writers}"
        else:
            state.events = rows
    there = Counter(map(_place, corrections))
    state.corrections_twice = [place for place, count in there.items() if count > 1]
    state.corrections = [*corrections, *(row for row in pending if _place(row) not in there)]
    for folder in dead_letters:
        counted, state.pending_dead_letters = _letters(folder, positions)
        state.dead_letters += counted
    return state


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["topic"], row["partition"], row["offset"], row["index"]


def _pending_corrections(properties: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the corrections that each writer's last commit has as pending, with the names of the table's columns."""
    texts = (json.loads(text) for name, text in properties.items() if name.startswith("k2.corrections."))
    said = ("what", "exchange", "symbol", "trade_id", "new_trade_id", "old_price", "old_quantity", "new_price")
    said = (*said, "new_quantity", "old_conditions", "new_conditions", "timestamp")
    rows = [row for text in texts for row in text["rows"]]
    placed = [dict(zip(("topic", "partition", "offset", "index"), row[1:5], strict=True)) for row in rows]
    values = [dict(zip(said, row[0][:12], strict=True)) for row in rows]
    return [one | place for one, place in zip(values, placed, strict=True)]


def _locations(database: Path) -> list[tuple[str, str]]:
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone()
        query = "SELECT table_name, metadata_location FROM iceberg_tables"
        return connection.execute(query).fetchall() if made else []


def _files(table: StaticTable) -> tuple[list[str], list[str]]:
    """Return a table's data files, and the metadata files that lead to them."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return [], []
    manifests = snapshot.manifests(table.io)
    entries = (entry for one in manifests for entry in one.fetch_manifest_entry(table.io, discard_deleted=True))
    return [entry.data_file.file_path for entry in entries], [
        snapshot.manifest_list,
        *(manifest.manifest_path for manifest in manifests),
    ]


def _path(location: str) -> str:
    return location.removeprefix("file://")


def _rows(
    files: list[str], known: dict[str, list[dict[str, Any]]], read: Callable[[str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    for file in files:
        if file not in known:
            known[file] = read(_path(file))
    return [row for file in files for row in known[file]]


def _summaries(table: StaticTable) -> list[dict[str, str]]:
    summaries = (snapshot.summary for snapshot in table.snapshots())
    return [summary.additional_properties for summary in summaries if summary is not None]


def _read(path: str) -> list[dict[str, Any]]:
    # No thread may remain: this process forks.
    with pa.OSFile(path) as stream:
        table = pq.ParquetFile(stream).read(use_threads=False)
    timestamp = table["timestamp"].cast(pa.int64())
    table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", timestamp)
    wanted = [name for name in table.column_names if name not in {"kafka_timestamp", "received", "detected_at"}]
    rows: list[dict[str, Any]] = table.select(wanted).to_pylist()
    return rows


def _read_commit_rows(path: str) -> list[dict[str, Any]]:
    with pa.OSFile(path) as stream:
        table = pq.ParquetFile(stream).read(use_threads=False)
    rows: list[dict[str, Any]] = table.select(["snapshot_id", "previous_id", "writer", "partitions"]).to_pylist()
    return rows


def _positions(properties: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return for each dead-letter series the number of its last file, and how many bytes of it count."""
    recorded = (json.loads(text) for name, text in properties.items() if name.startswith("k2.letters."))
    return {
        series: (int(position.split(":")[0]), int(position.split(":")[1]))
        for positions in recorded
        for series, position in positions.items()
    }


def _letters(folder: Path, positions: Mapping[str, tuple[int, int]]) -> tuple[list[DeadLetter], int]:
    """Return a folder's dead letters that count, and the number of lines that do not.

    Of objects that begin with the same number, `FIRST_LAST`, the longest repeats the lines of the others.
    """
    counted, others = [], 0
    longest: dict[tuple[str, str], tuple[str, Path]] = {}
    for path in sorted(folder.glob("dlq-*.jsonl")):
        series, _, numbers = path.stem.removeprefix("dlq-").rpartition("-")
        first, _, last = numbers.partition("_")
        longest[series, first] = max((last or first, path), longest.get((series, first), ("", path)))
    for (series, first), (last, path) in longest.items():
        end = positions.get(series, (0, 0))
        # A position in an object that a longer one repeats is one in the longer one.
        number = min(int(last), end[0]) if int(first) <= end[0] else int(last)
        start = 0
        for line in path.read_bytes().split(b"\n")[:-1]:
            if (int(number), start) < end:
                counted.append(_letter(line))
            else:
                others += 1
            start += len(line) + 1
    return counted, others


def _letter(line: bytes) -> DeadLetter:
    letter = json.loads(line)
    coordinates = Coordinates(letter["topic"], letter["partition"], letter["offset"])
    return DeadLetter(coordinates, _bytes(letter, "key"), _bytes(letter, "value"), letter["reason"])


def _bytes(letter: dict[str, Any], name: str) -> bytes | None:
    text = letter[name]
    if text is None:
        return None
    return base64.b64decode(text) if f"{name}_encoding" in letter else text.encode()

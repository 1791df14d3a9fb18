"""Other writers of the tables: a foreign append, a compaction, an expiry down to one snapshot."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from tests.simulation.market import Trade

__all__ = ["ACTS", "TOPIC", "Journal", "OtherWriter"]

TOPIC: Final = "foreign"
"""The topic of foreign rows, which is not one of the job's."""
ACTS: Final = ("append", "compact", "expire")
ROWS_MAX: Final = 3
TABLES: Final = ("trades", "sequence_events")


class Journal:
    """Which foreign rows were started and which are surely written; survives a kill for the checkers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, kind: str, rows: Iterable[int]) -> None:
        """Record rows, by their offsets, as `begun` or `done`."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([kind, list(rows)]) + "\n")

    def rows(self, kind: str) -> set[int]:
        """Return the rows with this record."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        return {row for noted, rows in map(json.loads, lines) if noted == kind for row in rows}


class OtherWriter:
    """Writes to the tables with only PyIceberg, as another team's job would; does nothing before they exist."""

    def __init__(self, data: Path, trades: Iterable[Trade], journal: Journal, rng: Random) -> None:
        self._lock = threading.Lock()
        self._data, self._journal, self._rng = data, journal, rng
        self._trades = sorted(trades, key=str)
        self._acts: Mapping[str, Callable[[Table], None]] = {
            "append": self._append,
            "compact": _compact,
            "expire": _expire,
        }

    def do(self, act: str) -> None:
        """Perform one of `ACTS`, on both tables where possible."""
        with self._lock:
            for name in ("trades",) if act == "append" else TABLES:
                table = self._find(name)
                if table is not None:
                    self._acts[act](table)

    def _find(self, name: str) -> Table | None:
        database = self._data / "catalog.db"
        if not database.exists():
            return None
        uri, warehouse = f"sqlite:///{database}?timeout=30", f"file://{self._data / 'warehouse'}"
        try:
            return SqlCatalog("k2", uri=uri, warehouse=warehouse).load_table(("market_data", name))
        except NoSuchTableError:
            return None

    def _append(self, table: Table) -> None:
        """Add rows with the job's symbols, and with numbers that the job has yet to see or has seen."""
        first = len(self._journal.rows("begun"))
        offsets = range(first, first + self._rng.randint(1, ROWS_MAX))
        rows = [_row(self._rng.choice(self._trades), offset) for offset in offsets]
        self._journal.note("begun", offsets)
        table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
        self._journal.note("done", offsets)


def _row(trade: Trade, offset: int) -> dict[str, Any]:
    row = {**trade._asdict(), "topic": TOPIC, "partition": 0, "offset": offset, "index": 0}
    return row | {"price": Decimal(trade.price), "quantity": Decimal(trade.quantity)}


def _compact(table: Table) -> None:
    """Replace all files by new ones with the same rows."""
    if table.current_snapshot() is not None:
        table.overwrite(table.scan().to_arrow())


def _expire(table: Table) -> None:
    """Expire all but the current snapshot, and delete the files that no snapshot uses any more."""
    current = table.current_snapshot()
    old = [snapshot for snapshot in table.snapshots() if snapshot != current]
    if current is None or not old:
        return
    table.maintenance.expire_snapshots().by_ids([snapshot.snapshot_id for snapshot in old]).commit()
    used = _files(table, current)
    for path in _files_left(table, old) - used:
        table.io.delete(path)


def _files_left(table: Table, snapshots: Iterable[Snapshot]) -> set[str]:
    """Return the files of snapshots; none of a snapshot whose files were deleted before a rollback."""
    paths: set[str] = set()
    for snapshot in snapshots:
        with contextlib.suppress(FileNotFoundError):
            paths |= _files(table, snapshot)
    return paths


def _files(table: Table, snapshot: Snapshot) -> set[str]:
    manifests = snapshot.manifests(table.io)
    entries = (entry for one in manifests for entry in one.fetch_manifest_entry(table.io, discard_deleted=True))
    lists = {snapshot.manifest_list} | {manifest.manifest_path for manifest in manifests}
    return lists | {entry.data_file.file_path for entry in entries}

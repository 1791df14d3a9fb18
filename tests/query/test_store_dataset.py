"""Datasets on file systems that are written in Python: a query never hangs, and reads what it is to read."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from k2.query.store_dataset import StoreDataset

ROOT = Path(__file__).parents[2]
FILES = 60
ROWS = 200
SCHEMA = pa.schema({"number": pa.int64(), "name": pa.string()})
HANGS_WITHOUT = """
import sys, threading
import duckdb
from pyarrow.fs import LocalFileSystem, PyFileSystem
from k2.query.store_dataset import StoreDataset
from k2.storage.vended_credentials import _RenewedFiles
from tests.query.test_store_dataset import FILES, ROWS, SCHEMA, paths_in

class Valid:
    def use(self, scheme, host, access):
        return access(LocalFileSystem())

def hold_the_lock():
    while True:
        sum(range(2_000))

sys.setswitchinterval(0.00001)
threading.Thread(target=hold_the_lock, daemon=True).start()
files = PyFileSystem(_RenewedFiles(Valid(), "s3", None))
connection = duckdb.connect()
for _ in range(300):
    connection.register("trades", StoreDataset(paths_in(sys.argv[1]), SCHEMA, files))
    assert connection.execute("SELECT count(number), count(name) FROM trades").fetchone() == (ROWS * FILES,) * 2
print("done")
"""


def paths_in(folder: str) -> list[str]:
    """Return the files of a folder."""
    return sorted(map(str, Path(folder).iterdir()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of small files."""
    for number in range(FILES):
        numbers = range(number * ROWS, (number + 1) * ROWS)
        pq.write_table(pa.table([numbers, ["name"] * ROWS], schema=SCHEMA), tmp_path / f"{number}")
    return tmp_path


@pytest.mark.slow
def test_queries_do_not_hang(folder: Path) -> None:
    """Files are opened by Arrow's threads, which need Python's lock, while the scan begins in a thread of DuckDB's."""
    command = [sys.executable, "-c", HANGS_WITHOUT, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout == "done\n", done.stderr


def test_columns_and_filters_are_pushed_down(folder: Path) -> None:
    """A scan reads the columns and rows that a query selects."""
    asked: list[dict[str, object]] = []

    class Watched(StoreDataset):
        def scanner(self, **options: object) -> object:  # type: ignore[override]
            asked.append(options)
            return super().scanner(**options)

    with duckdb.connect() as connection:
        connection.register("trades", Watched(paths_in(str(folder)), SCHEMA, LocalFileSystem()))
        assert connection.execute("SELECT number FROM trades WHERE number > 11997").fetchall() == [(11998,), (11999,)]
    (options,) = asked
    assert options["columns"] == ["number"]
    assert "number > 11997" in str(options["filter"])

"""Queries while the table is written, compacted and expired."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pyiceberg.table import Table

from k2.iceberg.tables import TableName, open_table
from k2.query.completeness import by_day
from k2.query.market import Market
from k2.query.pool import Pool
from k2.query.query_builders import symbols, trades
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

ROWS = 7
"""Of each commit."""
QUERIES = 200


@contextmanager
def repeated(act: Callable[[], None]) -> Iterator[None]:
    """Repeat the call on another thread until the block ends; raise its exceptions here."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            act()

    with ThreadPoolExecutor(1) as thread:
        repeating = thread.submit(repeat)
        try:
            yield
        finally:
            ended.set()
        repeating.result()


def compact(table: Table) -> None:
    """Rewrite all rows into one file, expire the older snapshots, and delete their files."""
    table.refresh()
    files = {task.file.file_path for task in table.scan().plan_files()}
    past = [snapshot.snapshot_id for snapshot in table.snapshots()]
    table.overwrite(table.scan().to_arrow())
    table.maintenance.expire_snapshots().by_ids(past).commit()
    for file in files:
        Path(file.removeprefix("file://")).unlink()


def is_whole(pool: Pool, way: int) -> bool:
    """Read the table in one of four ways."""
    market = Market(pool)
    if way == 0:
        return all(row["trades"] % ROWS == 0 for row in market.table(symbols()).to_pylist())
    if way == 1:
        return market.table(trades()).num_rows % ROWS == 0
    if way == 2:
        return sum(day.stored for day in by_day(pool.settings, pool=pool)) % ROWS == 0
    with market.sql(f'SELECT count(*) AS n FROM trades GROUP BY "offset" // {ROWS} HAVING n <> {ROWS}') as rows:
        return not list(rows.batches)


def test_each_query_sees_whole_commits_and_no_deleted_file(tmp_path: Path) -> None:
    """Whatever is committed, compacted, expired and deleted in the meantime."""
    settings = settings_in(tmp_path)
    writer, numbers = writer_of(settings), iter(range(1_000_000))
    table = open_table(open_catalog(settings), settings, TableName.TRADES)

    def commit() -> None:
        number = next(numbers)
        rows = [row_at(offset) for offset in range(number * ROWS, (number + 1) * ROWS)]
        writer.write_batch([slice_of(rows), read_to((number + 1) * ROWS)])
        writer.snapshot()
        if number % 5 == 4:
            compact(table)

    commit()
    with Pool(settings) as pool, repeated(commit), ThreadPoolExecutor(4) as clients:
        assert all(clients.map(lambda number: is_whole(pool, number % 4), range(QUERIES)))
    assert next(numbers) > 10

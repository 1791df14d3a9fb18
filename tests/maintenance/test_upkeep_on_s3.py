"""`k2 maintain` with a warehouse on S3, in a catalog of each kind: the same work as on a local disk."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from typer.testing import CliRunner

from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.maintenance.expiry import expire
from k2.ops.settings import Settings, read_settings
from k2.query.audit import audit
from k2.query.reconcile import reconcile
from tests.catalogs.vending import vending
from tests.iceberg.running import assert_whole, table_of
from tests.iceberg.trades_table import DAY, read_to, row_at, rows_of, writer_of
from tests.model.trade_slices import slice_of
from tests.s3 import S3

DAYS = 3
COMMITS_A_DAY = 4


@pytest.fixture(params=["sqlite", "rest"])
def settings(
    request: pytest.FixtureRequest, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Yield settings of a catalog with a warehouse on S3; REST vends the keys."""
    with ExitStack() as stack:
        if request.param == "rest":
            variables = stack.enter_context(vending(s3, tmp_path)).variables()
        else:
            variables = s3.variables(s3.bucket(), tmp_path / "catalog.db")
        for name, value in {"K2_DATA_DIR": str(tmp_path / "data"), **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("K2_DEDUP_WINDOW_SECONDS", "60")
        yield read_settings()


def maintain(*arguments: str) -> Any:
    """Run a command of the upkeep, and return its document."""
    done = CliRunner().invoke(app, ["maintain", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def write(settings: Settings) -> None:
    """Commit a row at a time, on three days that are over."""
    writer = writer_of(settings)
    first = (datetime.now(UTC).date() - date(1970, 1, 1)).days - DAYS - 1
    for offset in range(DAYS * COMMITS_A_DAY):
        time_us = (first + offset // COMMITS_A_DAY) * DAY + offset
        row = row_at(offset, timestamp=time_us, kafka_timestamp=time_us, sequence=offset + 1)
        writer.write_batch([slice_of([row]), read_to(offset + 1)])
        writer.snapshot()


def data_files(table: Table) -> list[str]:
    """Return the locations of the table's data files."""
    return [task.file.file_path for task in table.refresh().scan().plan_files()]


def is_stored(table: Table, location: str) -> bool:
    """Return whether S3 has a file."""
    assert isinstance(table.io, PyArrowFileIO)
    scheme, host, path = PyArrowFileIO.parse_location(location, table.io.properties)
    return table.io.fs_by_scheme(scheme, host).get_file_info(path).type == pafs.FileType.File


@pytest.mark.slow
def test_each_command_works_on_s3(settings: Settings) -> None:
    """Files are joined, a day is removed, snapshots expire, what nothing names is deleted, and nothing else changes."""
    write(settings)
    table = table_of(settings)
    before, small = rows_of(table), data_files(table)
    (group, *others) = maintain("compact", "--table", "trades")
    assert (group["files"], group["new_files"], len(others)) == (COMMITS_A_DAY, 1, DAYS - 1)
    assert (rows_of(table), len(data_files(table))) == (before, DAYS)
    removal = maintain("retain", "--days", str(DAYS))
    assert removal["rows"] == {"trades:0": COMMITS_A_DAY}
    assert rows_of(table) == before[COMMITS_A_DAY:]
    assert maintain("expire", "--table", "trades")[0]["expired"] == 0
    expired = expire(settings, TableName.TRADES, timedelta(hours=1), now_ms=_tomorrow_ms())
    assert expired.expired == DAYS * COMMITS_A_DAY + DAYS
    deleted = maintain("orphans", "--older-than-hours", "0", "--force")
    assert {*small}.isdisjoint(one["file"] for one in deleted), "versions of the metadata log name them"
    assert maintain("orphans", "--older-than-hours", "0", "--force") == []
    left_behind = f"{table.location()}/data/x.parquet"
    with table.io.new_output(left_behind).create() as file:
        file.write(b"1234")
    (orphan,) = maintain("orphans", "--older-than-hours", "0", "--force")
    assert (orphan["file"], orphan["bytes"]) == (left_behind, 4)
    assert not is_stored(table, left_behind)
    assert_whole(table.refresh())
    assert rows_of(table) == before[COMMITS_A_DAY:]
    (row,) = reconcile(settings)
    assert (row.holds, row.removed) == (True, COMMITS_A_DAY)
    assert audit(settings).adds_up


def _tomorrow_ms() -> int:
    return int((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000)

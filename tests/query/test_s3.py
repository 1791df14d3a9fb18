"""A warehouse on S3: the same results, and named faults."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from typer.testing import CliRunner

from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.model.errors import UnreachableError
from k2.ops.child_process import free_port
from k2.ops.retry import RetryPolicy
from k2.ops.settings import Settings
from k2.query.engine import QueryTimeoutError, _dataset
from k2.query.market import open_market
from k2.query.pool import Pool
from k2.query.query_builders import ohlcv, symbols, trades
from tests.query.tables import append, made, trade
from tests.s3 import S3

COUNT = "SELECT count(price) AS n FROM trades"


@pytest.fixture
def table(on_s3: Settings) -> Table:
    """Return the table with ten trades."""
    table = made(on_s3, TableName.TRADES)
    append(table, [trade(offset) for offset in range(10)])
    return table


def count(pool: Pool, table: Table, files: list[str]) -> None:
    """Count the rows of files that were planned earlier."""
    paths = [PyArrowFileIO.parse_location(file)[2] for file in files]
    with pool.engine() as engine:
        engine.register_arrow("trades", _dataset(table, table.scan(), files, paths))
        engine.query(COUNT)


def bucket_of(table: Table) -> str:
    """Return the bucket of a table."""
    return urlsplit(table.location()).netloc


def test_results_are_those_of_a_local_table(on_s3: Settings, tmp_path: Path) -> None:
    """Query builders and free SQL, for several files, one or none."""
    local = Settings(data_dir=tmp_path / "local", catalog="local")
    asked = [symbols(), trades(symbol="BTCUSDT", limit=3), ohlcv(exchange="kraken"), trades(symbol="none")]
    answers = []
    for options in (on_s3, local):
        table = made(options, TableName.TRADES)
        append(table, [trade(offset) for offset in range(10)])
        append(table, [trade(10, "kraken", "XBT"), trade(11, "kraken", "XBT")])
        with open_market(options) as market:
            found = [market.table(question).to_pylist() for question in asked]
            with market.sql("SELECT sum(price * 2) AS s FROM trades WHERE symbol = 'XBT'") as rows:
                found.append([row for batch in rows.batches for row in batch.to_pylist()])
        answers.append(found)
    assert answers[0] == answers[1]
    assert len(answers[0][1]) == 3


def test_the_time_limit_applies_on_s3(on_s3: Settings, table: Table) -> None:
    """A query is stopped while it works on rows read from S3."""
    append(table, [trade(offset) for offset in range(1_000)])
    hurried = on_s3.model_copy(update={"query_timeout_seconds": 0.5})
    sql = "SELECT count(*) FROM trades a, trades b, trades c WHERE a.price + b.price = c.price * 7"
    with open_market(hurried) as market, pytest.raises(QueryTimeoutError), market.sql(sql):
        pass


def test_faults_during_a_query_name_the_file(s3: S3, on_s3: Settings, table: Table) -> None:
    """Rejected keys or a missing file are reported with the file's name, and the connection is usable."""
    bucket, files = bucket_of(table), [task.file.file_path for task in table.scan().plan_files()]
    with Pool(on_s3, connections=1) as pool:
        reported = rf"a file of the table cannot be read: .*{bucket}.*"
        with s3.refusing(), pytest.raises(UnreachableError, match=reported + "ACCESS_DENIED"):
            count(pool, table, files)
        for file in files:
            table.io.delete(file)
        with pytest.raises(UnreachableError, match=reported + "No such file"):
            count(pool, table, files)
        with pool.engine() as engine:
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize("fault", ["keys refused", "no such bucket", "nobody there"])
def test_faults_before_a_query_are_one_sentence(
    s3: S3, on_s3: Settings, table: Table, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends a command with exit code 3, and names the bucket and what is wrong."""
    bucket = bucket_of(table)
    monkeypatch.setattr(RetryPolicy, "wait_seconds", lambda *_: 0)
    command = ["trades", "--json"]
    if fault == "keys refused":
        with s3.refusing():
            result = CliRunner().invoke(app, command)
    else:
        if fault == "no such bucket":
            s3.remove(bucket)
        else:
            monkeypatch.setenv("PYICEBERG_CATALOG__K2__S3__ENDPOINT", f"http://127.0.0.1:{free_port()}")
        result = CliRunner().invoke(app, command)
    words = {"keys refused": "ACCESS_DENIED", "no such bucket": "does not exist", "nobody there": "NETWORK_CONNECTION"}
    assert (result.exit_code, result.stdout) == (3, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("k2: opening table market_data.trades failed 4 times")
    assert bucket in last
    assert words[fault] in last

"""A warehouse on S3: the same answers, of the columns and row groups that a query needs."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from connectors.iceberg.tables import TableName
from query.engine import QueryTimeoutError
from query.market import open_market
from query.questions import ohlcv, symbols, trades
from runtime.child import free_port
from runtime.settings import Settings, read_settings
from tests.query.tables import append, made, trade

REGION = "us-east-1"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the address of an S3 server on loopback."""
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


@pytest.fixture
def settings(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Give settings whose warehouse is a bucket of the test's own."""
    bucket = f"b{uuid4().hex}"
    keys = {"aws_access_key_id": "k2", "aws_secret_access_key": "secret", "region_name": REGION}
    boto3.client("s3", endpoint_url=server, **keys).create_bucket(Bucket=bucket)
    properties = {
        "URI": f"sqlite:///{tmp_path}/catalog.db",
        "WAREHOUSE": f"s3://{bucket}/warehouse",
        "S3__ENDPOINT": server,
        "S3__ACCESS_KEY_ID": "k2",
        "S3__SECRET_ACCESS_KEY": "secret",
        "S3__REGION": REGION,
    }
    for name, value in properties.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__K2__{name}", value)
    return read_settings({"K2_DATA_DIR": str(tmp_path)})


def test_answers_are_those_of_a_local_table(settings: Settings, tmp_path: Path) -> None:
    """Questions and free SQL, in whatever files the rows are, with and without any."""
    local = Settings(data_dir=tmp_path / "local", catalog="local")
    asked = [symbols(), trades(symbol="BTCUSDT", limit=3), ohlcv(exchange="kraken"), trades(symbol="none")]
    answers = []
    for options in (settings, local):
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


def test_a_query_has_its_time_there_as_well(settings: Settings) -> None:
    """It is stopped while it works on what came from elsewhere."""
    append(made(settings, TableName.TRADES), [trade(offset) for offset in range(1_000)])
    hurried = settings.model_copy(update={"query_timeout_seconds": 0.5})
    sql = "SELECT count(*) FROM trades a, trades b, trades c WHERE a.price + b.price = c.price * 7"
    with open_market(hurried) as market, pytest.raises(QueryTimeoutError), market.sql(sql):
        pass

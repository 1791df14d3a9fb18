"""`k2 produce --table`: a job with another table, which reads what was published, stores the same trades."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner

from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.brokers import Broker, read_topic
from tests.flows.job import Job
from tests.flows.market import assert_reconciled
from tests.query.tables import EPOCH, append, made, trade

ARCHIVE: Final = f"archive sha256:{'0' * 64} day.zip"
SAME: Final = ["exchange", "symbol", "trade_id", "sequence", "first_sequence", "price", "quantity", "side", "timestamp"]


def _stored() -> list[dict[str, Any]]:
    """Return trades with a gap, out of order, filled, without a number, and with ranges of numbers."""
    late = {"origin": ARCHIVE, "timestamp": EPOCH + timedelta(seconds=2.5)}
    return [
        *(trade(number, received=EPOCH + timedelta(seconds=number, microseconds=7)) for number in (1, 2, 4, 6, 5)),
        trade(3, **late),
        trade(
            9,
            symbol="ÄB",
            sequence=None,
            trade_id='a"\\',
            side=None,
            price=Decimal("0.000000000000000001"),
            partition=1,
        ),
        trade(30, exchange="ranged", first_sequence=21, received=None),
        trade(40, exchange="ranged", first_sequence=31),
        trade(100_000, exchange="ranged", sequence=41),
    ]


def _content(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = [*SAME, "received", "origin"]
    return sorted((tuple(row[name] for name in names) for row in rows), key=str)


def test_another_job_stores_the_same_trades(broker: Broker, tmp_path: Path) -> None:
    """Each with its origin and range, at the venue's times; those of the day that was selected."""
    topic = broker.topic(partitions=2, name="again")
    source = Settings(data_dir=tmp_path / "source")
    append(made(source, TableName.TRADES), _stored())
    options = ["--topic", topic, "--day", f"{EPOCH:%Y-%m-%d}", "--timestamps", "trade", "--json"]
    environment = {"K2_DATA_DIR": str(source.data_dir), "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    result = CliRunner().invoke(app, ["produce", "--table", *options], env=environment)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["published"] == 9
    times = {message.timestamp()[1] for message in read_topic(broker, topic)}
    expected = [row for row in _stored() if row["offset"] != 100_000]
    assert times == {int(row["timestamp"].timestamp() * 1_000) for row in expected}
    again = Job(broker.bootstrap_servers, tmp_path, topic, {"K2_NAMESPACE": "again"})
    again.run(recovery=False)
    assert _content(again.table().to_pylist()) == _content(expected)
    assert_reconciled(again)

"""The API with a warehouse and dead letters on S3: faults are reported in time, and without the address."""

import time
from collections.abc import Callable
from typing import Any

from k2.iceberg.sink import TradesSink
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.iceberg.trades_table import read_to
from tests.query.tables import append, made, trade
from tests.s3 import S3

LIMIT_SECONDS = 2


def test_a_store_that_hangs_blocks_no_client(s3: S3, on_s3: Settings, serve_at: Callable[[Settings], Any]) -> None:
    """A client gets an error within a second of the limit, and once the store answers again so does the server."""
    append(made(on_s3, TableName.TRADES), [trade(1)])
    client = serve_at(on_s3.model_copy(update={"query_connections": 1, "query_timeout_seconds": LIMIT_SECONDS}))
    assert client.get("/v1/symbols").status == 200
    with s3.frozen():
        begun = time.monotonic()
        assert client.get("/v1/symbols").status == 504
        assert time.monotonic() - begun < LIMIT_SECONDS + 1
    assert client.get("/v1/symbols").status == 200


def test_dead_letters_in_an_object_store(s3: S3, on_s3: Settings, serve_at: Callable[[Settings], Any]) -> None:
    """Those that commits count are served; a refusal is a problem that names neither address nor key."""
    bucket = s3.bucket()
    settings = on_s3.model_copy(update={"dlq_dir": f"s3://{bucket}/dlq"})
    client = serve_at(settings)
    assert client.get("/v1/dead-letters").status == 404
    sink = TradesSink(settings)
    sink.list_parts()
    writer = sink.build_part("out", "00", None)
    writer.write_batch([read_to(3, rejected=[0, 2])])
    writer.snapshot()
    writer.write_batch([read_to(4, rejected=[3])])
    writer._dead_letters.sync()
    assert client.get("/v1/dead-letters").json["dead_letters"] == 2
    assert [one["offset"] for one in client.get("/v1/dead-letters/list").json] == [2, 0]
    s3.remove(bucket)
    refused = client.get("/v1/dead-letters")
    assert refused.status == 503
    assert refused.json["detail"] == "the store of the dead letters refuses to be read; the server's log says why"

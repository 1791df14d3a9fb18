"""The API with a warehouse on S3: faults are reported in time."""

import time
from collections.abc import Callable
from typing import Any

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
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

"""The metrics of `k2 serve`: the verdict on the capture, and the counts of queries even if the pool is exhausted."""

import asyncio
from typing import BinaryIO, Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.types import Send

from k2.http.executor import QueryExecutor
from k2.http.responses import QueryResponse
from k2.query.pool import CancellableSession
from k2.status.metrics import status_metrics
from k2.status.reader import StatusReader

__all__ = ["MetricsResponse"]

VERDICT_SECONDS_MAX: Final = 8.0
"""Prometheus gives a scrape up after 10 seconds by default."""
_NAMES: Final = ("k2_queries_total",)


class MetricsResponse(QueryResponse):
    """The verdict and the counts of queries; the counts alone if no verdict is found in time.

    A verdict needs a connection of the pool. The counts must be there when none is free, because they show just that.
    """

    def __init__(self, executor: QueryExecutor, reader: StatusReader) -> None:
        """Create a response that reads the status in a thread of the executor."""

        def write(session: CancellableSession, stream: BinaryIO) -> None:
            verdict = status_metrics(reader.read(session))
            stream.write(verdict + _query_metrics())

        super().__init__(executor, write, CONTENT_TYPE_LATEST)

    async def _send(self, send: Send) -> None:
        try:
            async with asyncio.timeout(VERDICT_SECONDS_MAX):
                await super()._send(send)
        except TimeoutError:
            if self._is_begun:
                raise
            await self._begin(send)
            await send({"type": "http.response.body", "body": _query_metrics(), "more_body": False})


def _query_metrics() -> bytes:
    return generate_latest(REGISTRY.restricted_registry(_NAMES))

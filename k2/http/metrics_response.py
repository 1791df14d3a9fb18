"""The metrics of `k2 serve`: the verdict on the capture, and the counts of queries even if the pool is exhausted."""

import asyncio
from typing import BinaryIO, Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.types import Send

from k2.http.executor import QueryExecutor
from k2.http.responses import QueryResponse
from k2.model.errors import K2Error
from k2.query.engine import QueryCancelledError, QueryTimeoutError
from k2.query.pool import CancellableSession, QueryBusyError
from k2.status.deadlines import DeadlineReader
from k2.status.metrics import status_metrics
from k2.status.reader import StatusReader

__all__ = ["MetricsResponse"]

VERDICT_SECONDS_MAX: Final = 8.0
"""Prometheus gives a scrape up after 10 seconds by default."""
_NAMES: Final = ("k2_queries_total",)


class MetricsResponse(QueryResponse):
    """The verdict and the counts of queries; the counts alone if no verdict is found in time.

    A verdict needs a connection of the pool. The counts must be there when none is free, because they show just that.
    A scrape without a verdict is counted as busy if it got no connection, else as a timeout.
    """

    def __init__(self, executor: QueryExecutor, reader: StatusReader, deadlines: DeadlineReader) -> None:
        """Create a response that reads the status, and the deadlines of gaps, in a thread of the executor."""

        def write(session: CancellableSession, stream: BinaryIO) -> None:
            self._has_connection = True
            verdict = status_metrics(reader.read(session))
            stream.write(verdict + _deadline_metrics(deadlines, session) + _query_metrics())

        super().__init__(executor, write, CONTENT_TYPE_LATEST)
        self._has_connection = False

    async def _send(self, send: Send) -> None:
        try:
            async with asyncio.timeout(VERDICT_SECONDS_MAX):
                await super()._send(send)
        except TimeoutError as error:
            if self._is_begun:
                raise
            # The errors of a query that is busy or takes too long are timeouts as well, and say which.
            self._failure = error if isinstance(error, K2Error) else self._late()
            await self._begin(send)
            await send({"type": "http.response.body", "body": _query_metrics(), "more_body": False})

    def _late(self) -> K2Error:
        kind = QueryTimeoutError if self._has_connection else QueryBusyError
        return kind(f"no verdict within {VERDICT_SECONDS_MAX:g} s")


def _deadline_metrics(deadlines: DeadlineReader, session: CancellableSession) -> bytes:
    """Return the deadlines of gaps; nothing if they cannot be read, which the verdict says as well."""
    try:
        return deadlines.metrics(session)
    except (QueryTimeoutError, QueryCancelledError):
        raise
    except K2Error:
        return b""


def _query_metrics() -> bytes:
    return generate_latest(REGISTRY.restricted_registry(_NAMES))

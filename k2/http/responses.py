"""Query responses: streamed as they are written, in the format that the client accepts, cancelled if it disconnects."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from k2.http.executor import QueryExecutor, QueryRun, WriteResult
from k2.model.errors import K2Error, UnreachableError
from k2.ops.metrics import QUERIES
from k2.query.engine import QueryCancelledError, QueryMemoryError, QueryTimeoutError
from k2.query.output_formats import Format
from k2.query.pool import QueryBusyError

__all__ = ["MEDIA_TYPES", "QueryResponse", "create_query_series", "negotiate_format"]

GRACE_SECONDS: Final = 0.5
"""Time after its limit when a response is abandoned, whatever its thread waits for, such as an unresponsive store."""
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_RESULTS: Final[Mapping[type[BaseException], str]] = {
    QueryTimeoutError: "timeout",
    QueryBusyError: "busy",
    QueryMemoryError: "memory",
    QueryCancelledError: "cancelled",
    UnreachableError: "unreachable",
    K2Error: "invalid",
    HTTPException: "invalid",
    BaseException: "failed",
}
"""Label of the metric of queries by the error that ended one; the first type that matches."""
log = structlog.get_logger()


def create_query_series() -> None:
    """Create the series of the metric of queries at 0: Prometheus does not count the first increment of a new one."""
    for result in ("ok", *_RESULTS.values()):
        QUERIES.labels(result)


def negotiate_format(request: Request, formats: Iterable[Format] = tuple(Format)) -> Format:
    """Return the format that a request's `Accept` header prefers; of equal ones the first of `MEDIA_TYPES`.

    Raises:
        HTTPException: 406 if it accepts none of them.
    """
    ranges = dict(_ranges(",".join(request.headers.getlist("accept"))))
    ours = [form for form in MEDIA_TYPES if form in formats]
    best = max(ours, key=lambda form: _quality(MEDIA_TYPES[form], ranges))
    if ranges and _quality(MEDIA_TYPES[best], ranges) <= 0:
        available = ", ".join(MEDIA_TYPES[form] for form in ours)
        raise HTTPException(406, f"none of the formats in Accept is available; accept one of {available}")
    return best


def _ranges(accept: str) -> Iterable[tuple[str, float]]:
    """Yield the media ranges, each with its quality; a range that cannot be parsed has quality 0."""
    for part in filter(str.strip, accept.split(",")):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        yield name, min((_weight(text) for text in parameters if text.startswith("q=")), default=1.0)


def _weight(text: str) -> float:
    number = text.removeprefix("q=")
    is_number = len(number) <= 5 and number.replace(".", "", 1).isdecimal() and number.isascii()
    return min(float(number), 1.0) if is_number else 0.0


def _quality(media_type: str, ranges: Mapping[str, float]) -> float:
    """Return the quality of a media type by the most specific range that matches (RFC 9110, 12.5.1)."""
    kind = media_type.partition("/")[0]
    return next((ranges[name] for name in (media_type, f"{kind}/*", "*/*") if name in ranges), 0.0)


class QueryResponse(Response):
    """A response that a thread writes and the event loop streams.

    The status is sent with the first chunk, so an earlier error has its own status; a later error closes the connection
    before the end of the response.
    """

    def __init__(
        self, executor: QueryExecutor, write: WriteResult, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Create a response that `write` writes in a thread of the executor."""
        super().__init__(None, headers={**(headers or {}), "Vary": "Accept"}, media_type=media_type)
        del self.headers["Content-Length"]
        self._executor = executor
        self._write = write
        self._is_begun = False
        self._failure: BaseException | None = None
        """The error of a query that another body was sent for, with a status of success."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response while the client is connected."""
        gone = asyncio.create_task(_gone(receive))
        work = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.wait({gone, work})
            QUERIES.labels(_result(work, self._failure)).inc()
        for task in (work, gone):
            if not task.cancelled():
                self._report(task.exception(), scope)

    def _report(self, error: BaseException | None, scope: Scope) -> None:
        if isinstance(error, K2Error | HTTPException) and self._is_begun:
            log.warning("response_aborted", path=scope["path"], why=str(error))
        elif error is not None:
            raise error

    async def _send(self, send: Send) -> None:
        run = await self._executor.submit(self._write)
        try:
            async with asyncio.timeout(self._executor.seconds_max + GRACE_SECONDS):
                await self._pass_on(run, send)
        except TimeoutError as error:
            # Some K2 errors are timeouts as well.
            if isinstance(error, K2Error):
                raise
            raise QueryTimeoutError(
                f"the response took longer than {self._executor.seconds_max:g} s; "
                "narrow the query, or raise K2_QUERY_TIMEOUT_SECONDS"
            ) from error
        finally:
            self._executor.cancel(run)

    async def _pass_on(self, run: QueryRun, send: Send) -> None:
        async for chunk in run.chunks.read_all():
            await self._begin(send)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await run.wait()
        await self._begin(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send) -> None:
        if not self._is_begun:
            self._is_begun = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def _result(work: asyncio.Task[None], failure: BaseException | None) -> str:
    """Return how a query ended; one whose client has left, or whose server ends, is cancelled."""
    if work.cancelled():
        return "cancelled"
    error = work.exception() or failure
    if error is None:
        return "ok"
    return next(result for kind, result in _RESULTS.items() if isinstance(error, kind))


async def _gone(receive: Receive) -> None:
    """Wait until the client disconnects; a body that no route reads is discarded."""
    while (await receive())["type"] != "http.disconnect":
        pass

"""Answers: sent as they are written, in the format that the client accepts, and stopped when it goes away."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from k2.http.executor import QueryExecutor, QueryRun, WriteResult
from k2.model.errors import K2Error
from k2.query.engine import QueryTimeoutError
from k2.query.output_formats import Format

__all__ = ["MEDIA_TYPES", "QueryResponse", "negotiate_format"]

GRACE_SECONDS: Final = 0.5
"""So long after its limit an answer is given up, whatever its thread waits for: a store that hangs, for one."""
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}
log = structlog.get_logger()


def negotiate_format(request: Request, formats: Iterable[Format] = tuple(Format)) -> Format:
    """Return the format that a request's `Accept` likes best; of several that it likes alike the first of ours.

    Raises:
        HTTPException: 406, it takes none of them.
    """
    ranges = dict(_ranges(",".join(request.headers.getlist("accept"))))
    ours = [form for form in MEDIA_TYPES if form in formats]
    best = max(ours, key=lambda form: _liking(MEDIA_TYPES[form], ranges))
    if ranges and _liking(MEDIA_TYPES[best], ranges) <= 0:
        raise HTTPException(406, f"Accept takes none of {', '.join(MEDIA_TYPES[form] for form in ours)}")
    return best


def _ranges(accept: str) -> Iterable[tuple[str, float]]:
    """Read the ranges of types, each with how much it is liked; what cannot be read is not liked."""
    for part in filter(str.strip, accept.split(",")):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        yield name, min((_weight(text) for text in parameters if text.startswith("q=")), default=1.0)


def _weight(text: str) -> float:
    number = text.removeprefix("q=")
    is_number = len(number) <= 5 and number.replace(".", "", 1).isdecimal() and number.isascii()
    return min(float(number), 1.0) if is_number else 0.0


def _liking(media_type: str, ranges: Mapping[str, float]) -> float:
    """The most exact range that fits counts (RFC 9110, 12.5.1)."""
    kind = media_type.partition("/")[0]
    fitting = [ranges[name] for name in (media_type, f"{kind}/*", "*/*") if name in ranges]
    return fitting[0] if fitting else 0.0


class QueryResponse(Response):
    """What a thread writes, sent as it comes.

    The status goes out with the first chunk, so what goes wrong before has a status of its own; what goes wrong later
    ends the connection before the answer's end.
    """

    def __init__(
        self, executor: QueryExecutor, write: WriteResult, form: Format, headers: Mapping[str, str] | None = None
    ) -> None:
        """Have it written at a executor."""
        super().__init__(None, headers={**(headers or {}), "Vary": "Accept"}, media_type=MEDIA_TYPES[form])
        del self.headers["Content-Length"]
        self._executor = executor
        self._write = write
        self._is_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as long as the client is there."""
        gone = asyncio.create_task(_gone(receive))
        work = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.wait({gone, work})
        for task in (work, gone):
            if not task.cancelled():
                self._tell(task.exception(), scope)

    def _tell(self, error: BaseException | None, scope: Scope) -> None:
        if isinstance(error, K2Error | HTTPException) and self._is_begun:
            log.warning("an answer was cut off", path=scope["path"], why=str(error))
        elif error is not None:
            raise error

    async def _send(self, send: Send) -> None:
        run = await self._executor.begin(self._write)
        try:
            async with asyncio.timeout(self._executor.seconds_max + GRACE_SECONDS):
                await self._pass_on(run, send)
        except TimeoutError as error:
            # Ours are of this kind as well.
            if isinstance(error, K2Error):
                raise
            raise QueryTimeoutError(f"the answer took longer than {self._executor.seconds_max:g} s") from error
        finally:
            self._executor.leave(run)

    async def _pass_on(self, run: QueryRun, send: Send) -> None:
        async for chunk in run.chunks.read_all():
            await self._begin(send)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await run.end()
        await self._begin(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send) -> None:
        if not self._is_begun:
            self._is_begun = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


async def _gone(receive: Receive) -> None:
    """Wait until the client is gone; a body that nobody asked for is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass

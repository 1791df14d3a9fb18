"""Limits on request bodies (size and time) and on the number of concurrent queries."""

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2.http.problems import problem
from k2.query.pool import QueryBusyError

__all__ = ["BodyLimitMiddleware", "FifoSemaphore"]

WAITING_MAX: Final = 1_000
"""Requests that may wait for a slot; more are rejected immediately."""
BODY_SECONDS_MAX: Final = 30.0


class BodyLimitMiddleware:
    """Rejects a body that is too large, by its Content-Length or by the bytes received, or that arrives too slowly."""

    def __init__(self, app: ASGIApp, bytes_max: int) -> None:
        """Wrap an application."""
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 413 or 408, or pass the request on and count its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _content_length(scope) > self._bytes_max:
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._detail)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    @property
    def _detail(self) -> str:
        return f"the request body is larger than {self._bytes_max:,} bytes; send a smaller one"

    def _counted(self, receive: Receive) -> Receive:
        seen, is_whole = 0, False
        until = asyncio.get_running_loop().time() + BODY_SECONDS_MAX

        async def counting() -> Message:
            nonlocal seen, is_whole
            try:
                # After the body comes only the message that the client has disconnected, at any time.
                async with asyncio.timeout_at(None if is_whole else until):
                    message = await receive()
            except TimeoutError:
                why = f"the request body was not received within {BODY_SECONDS_MAX:g} s; send it without pauses"
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, why) from None
            is_whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self._bytes_max:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._detail)
            return message

        return counting


def _content_length(scope: Scope) -> int:
    texts = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(text) for text in texts if text.isdigit()), default=0)


class FifoSemaphore:
    """FIFO concurrency limit: `count` holders at a time, and a time limit on waiting."""

    def __init__(self, count: int, wait_seconds_max: float) -> None:
        """Create a semaphore with all `count` slots free."""
        self._free = asyncio.Semaphore(count)
        self._wait_seconds_max = wait_seconds_max
        self._waiting = 0

    async def acquire(self) -> None:
        """Wait for a slot; `release` frees it.

        Raises:
            QueryBusyError: no slot was free within `wait_seconds_max`, or too many requests wait.
        """
        if self._waiting >= WAITING_MAX:
            raise QueryBusyError(f"too many queries: {WAITING_MAX:,} are waiting; retry later")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                await self._free.acquire()
        except TimeoutError:
            raise QueryBusyError(
                f"too many queries: no slot was free within {self._wait_seconds_max:g} s; retry later"
            ) from None
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Free a slot for the next waiter."""
        self._free.release()

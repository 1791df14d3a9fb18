"""Limits: how long a body may be and may take, and how many queries run at a time."""

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2.http.problems import problem
from k2.query.pool import QueryBusyError

__all__ = ["BodyLimitMiddleware", "FifoSemaphore"]

WAITING_MAX: Final = 1_000
"""So many requests wait for their turn; more are refused at once."""
BODY_SECONDS_MAX: Final = 30.0


class BodyLimitMiddleware:
    """Refuses a body that is longer than it may be, by what is said of it and by what comes, or too slow to come."""

    def __init__(self, app: ASGIApp, bytes_max: int) -> None:
        """Stand before an application."""
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 or 408, or go on and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _said(scope) > self._bytes_max:
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._sentence)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    @property
    def _sentence(self) -> str:
        return f"a body has {self._bytes_max:,} bytes at the most"

    def _counted(self, receive: Receive) -> Receive:
        seen, is_whole = 0, False
        until = asyncio.get_running_loop().time() + BODY_SECONDS_MAX

        async def counting() -> Message:
            nonlocal seen, is_whole
            try:
                # What comes behind the body is that the client has gone, whenever that is.
                async with asyncio.timeout_at(None if is_whole else until):
                    message = await receive()
            except TimeoutError:
                why = f"the body did not come within {BODY_SECONDS_MAX:g} s"
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, why) from None
            is_whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self._bytes_max:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._sentence)
            return message

        return counting


def _said(scope: Scope) -> int:
    texts = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(text) for text in texts if text.isdigit()), default=0)


class FifoSemaphore:
    """So many at a time, in the order in which they came; who waits too long is sent away."""

    def __init__(self, count: int, wait_seconds_max: float) -> None:
        """Begin with all of them free."""
        self._free = asyncio.Semaphore(count)
        self._wait_seconds_max = wait_seconds_max
        self._waiting = 0

    async def acquire(self) -> None:
        """Wait for a turn, which `give_back` ends.

        Raises:
            QueryBusyError: none came in time, or too many wait.
        """
        if self._waiting >= WAITING_MAX:
            raise QueryBusyError(f"{WAITING_MAX:,} queries wait already; try again")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                await self._free.acquire()
        except TimeoutError:
            raise QueryBusyError(
                f"as many queries ran as may at a time, for {self._wait_seconds_max:g} s; try again"
            ) from None
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Let the next one begin."""
        self._free.release()

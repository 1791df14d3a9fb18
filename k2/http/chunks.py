"""A bounded pipe of chunks from the thread that writes a response to the event loop that sends it."""

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from k2.query.engine import QueryCancelledError, QueryTimeoutError

__all__ = ["Chunks"]

CHUNK_BYTES: Final = 65_536
AHEAD_MAX: Final = 4
"""Chunks that may wait to be sent; the writer blocks when there are more."""


class Chunks(io.RawIOBase):
    """A stream that one thread writes, and the event loop in which it was created reads chunk by chunk."""

    def __init__(self, seconds_max: float) -> None:
        """Create a pipe that must be read completely within `seconds_max`."""
        self._loop = asyncio.get_running_loop()
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._slots = threading.Semaphore(AHEAD_MAX)
        self._buffer = bytearray()
        self._seconds_max = seconds_max
        self._deadline = time.monotonic() + seconds_max
        self._is_abandoned = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes; block while the reader is slow.

        Raises:
            QueryTimeoutError: the response was not read in time.
            QueryCancelledError: the reader is gone.
        """
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            self._hand_over()
        return len(data)

    def finish(self) -> None:
        """Flush the rest of the buffer."""
        if self._buffer:
            self._hand_over()

    def end(self) -> None:
        """Mark the end of the chunks, whether the response is complete or not."""
        self._loop.call_soon_threadsafe(self._sent.put_nowait, None)

    def _hand_over(self) -> None:
        if not self._slots.acquire(timeout=max(0.0, self._deadline - time.monotonic())):
            raise QueryTimeoutError(
                f"the response was not read within {self._seconds_max:g} s; "
                "read it faster, or raise K2_QUERY_TIMEOUT_SECONDS"
            )
        if self._is_abandoned:
            raise QueryCancelledError("query cancelled: the client disconnected")
        chunk, self._buffer = bytes(self._buffer), bytearray()
        self._loop.call_soon_threadsafe(self._sent.put_nowait, chunk)

    async def read_all(self) -> AsyncIterator[bytes]:
        """Yield the chunks in order, until `end` is called."""
        while (chunk := await self._sent.get()) is not None:
            yield chunk
            self._slots.release()

    def abandon(self) -> None:
        """Make the writer's next write raise `QueryCancelledError`."""
        self._is_abandoned = True
        self._slots.release()

"""From the thread that writes an answer to the loop that sends it, a few chunks ahead."""

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
"""So many chunks wait to be sent; who writes more waits for who reads."""


class Chunks(io.RawIOBase):
    """A stream written in one thread and read, chunk by chunk, in the event loop in which it was made."""

    def __init__(self, seconds_max: float) -> None:
        """Allow so much time for all of it."""
        self._loop = asyncio.get_running_loop()
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD_MAX)
        self._buffer = bytearray()
        self._seconds_max = seconds_max
        self._deadline = time.monotonic() + seconds_max
        self._is_abandoned = False

    def writable(self) -> bool:
        """Say so."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes; it waits where the reader is slow.

        Raises:
            QueryTimeoutError: the answer was not read in time.
            QueryCancelledError: nobody reads it any more.
        """
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            self._hand_over()
        return len(data)

    def finish(self) -> None:
        """Hand over what is left."""
        if self._buffer:
            self._hand_over()

    def end(self) -> None:
        """Say that nothing more comes, be it finished or not."""
        self._loop.call_soon_threadsafe(self._sent.put_nowait, None)

    def _hand_over(self) -> None:
        if not self._room.acquire(timeout=max(0.0, self._deadline - time.monotonic())):
            raise QueryTimeoutError(f"the answer was not read within {self._seconds_max:g} s, and was stopped")
        if self._is_abandoned:
            raise QueryCancelledError("nobody reads the answer any more")
        chunk, self._buffer = bytes(self._buffer), bytearray()
        self._loop.call_soon_threadsafe(self._sent.put_nowait, chunk)

    async def read_all(self) -> AsyncIterator[bytes]:
        """Yield the chunks as they come."""
        while (chunk := await self._sent.get()) is not None:
            yield chunk
            self._room.release()

    def abandon(self) -> None:
        """Have the writer stop at its next word."""
        self._is_abandoned = True
        self._room.release()

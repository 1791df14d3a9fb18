"""Runs queries in threads, one per pool connection."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, Final, cast

from k2.http.chunks import Chunks
from k2.http.concurrency_limit import FifoSemaphore
from k2.query.pool import CancellableSession, Pool

__all__ = ["QueryExecutor", "QueryRun", "WriteResult"]

WAIT_SECONDS_MAX: Final = 30.0
LEAVE_SECONDS: Final = 0.05
"""Interval of repeated interrupts; one that comes between two statements has no effect."""

WriteResult = Callable[[CancellableSession, BinaryIO], object]
"""Runs the query of a session and writes its result to the stream; called in a thread."""


class QueryExecutor:
    """Runs queries on a pool in FIFO order."""

    def __init__(self, pool: Pool) -> None:
        """Use a pool, which the executor does not close."""
        self.pool = pool
        count, self.seconds_max = pool.settings.query_connections, pool.settings.query_timeout_seconds
        self._slots = FifoSemaphore(count, min(WAIT_SECONDS_MAX, self.seconds_max))
        self._threads = ThreadPoolExecutor(count, "query")
        self._running: set[QueryRun] = set()
        self._stopping: set[asyncio.Task[None]] = set()

    async def submit(self, write: WriteResult) -> "QueryRun":
        """Wait for a slot, then start the query in a thread.

        Raises:
            QueryBusyError: no slot was free in time.
        """
        await self._slots.acquire()
        run = QueryRun(CancellableSession(self.pool), Chunks(self.seconds_max))
        self._running.add(run)
        run.start(self._threads, write, lambda: self._release(run))
        return run

    def _release(self, run: "QueryRun") -> None:
        self._running.discard(run)
        self._slots.release()

    def cancel(self, run: "QueryRun") -> None:
        """Stop a run without waiting for its end; a run that has ended is left as it is."""
        if not run.is_done:
            task = asyncio.create_task(run.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """Stop all runs and wait until they have ended; on shutdown the server leaves some of them running."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await asyncio.gather(*self._stopping, *(run.stop() for run in self._running))
        self._threads.shutdown(wait=False, cancel_futures=True)


class QueryRun:
    """One query in progress."""

    def __init__(self, session: CancellableSession, chunks: Chunks) -> None:
        """Create a run for a session; its result goes to `chunks`."""
        self._session = session
        self.chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_done(self) -> bool:
        """Whether its thread has finished."""
        return self._ended.done()

    def start(self, threads: ThreadPoolExecutor, write: WriteResult, ended: Callable[[], object]) -> None:
        """Call `write` in a thread; `ended` is called in the event loop once the connection is returned."""

        def run() -> None:
            failure: BaseException | None = None
            try:
                write(self._session, cast("BinaryIO", self.chunks))
                self.chunks.finish()
            except BaseException as error:  # noqa: BLE001  raised again where the result is awaited
                failure = error
            self.chunks.end()
            self._loop.call_soon_threadsafe(self._end, failure)
            self._loop.call_soon_threadsafe(ended)

        threads.submit(run)

    def _end(self, failure: BaseException | None) -> None:
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)
            # Marks the exception as retrieved: if nobody awaits the result, asyncio must not log it.
            self._ended.exception()

    async def wait(self) -> None:
        """Wait until the query has ended.

        Raises:
            K2Error: the query failed.
        """
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Stop the query, and wait until it has ended."""
        while not self.is_done:
            self._session.cancel()
            self.chunks.abandon()
            await asyncio.wait({self._ended}, timeout=LEAVE_SECONDS)

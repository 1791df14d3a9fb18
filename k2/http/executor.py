"""Where queries are run: in threads, as many at a time as there are connections."""

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
"""An interrupt that comes between two statements is lost, so it is given again and again."""

WriteResult = Callable[[CancellableSession, BinaryIO], object]
"""Asks on behalf of a session, and writes the answer; called in a thread."""


class QueryExecutor:
    """Runs queries on a pool, in the order in which they come."""

    def __init__(self, pool: Pool) -> None:
        """Take a pool, which the executor does not close."""
        self.pool = pool
        count, self.seconds_max = pool.settings.query_connections, pool.settings.query_timeout_seconds
        self._slots = FifoSemaphore(count, min(WAIT_SECONDS_MAX, self.seconds_max))
        self._threads = ThreadPoolExecutor(count, "query")
        self._running: set[QueryRun] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def begin(self, write: WriteResult) -> "QueryRun":
        """Wait for a turn, and begin to write.

        Raises:
            QueryBusyError: no turn came in time.
        """
        await self._slots.acquire()
        run = QueryRun(CancellableSession(self.pool), Chunks(self.seconds_max))
        self._running.add(run)
        run.begin(self._threads, write, lambda: self._end(run))
        return run

    def _end(self, run: "QueryRun") -> None:
        self._running.discard(run)
        self._slots.release()

    def leave(self, run: "QueryRun") -> None:
        """Have a run stopped, without waiting for its end; one that has ended stays as it is."""
        if not run.is_done:
            task = asyncio.create_task(run.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Stop all runs, and wait until they have ended; the server leaves some when it ends itself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await asyncio.gather(*self._leaving, *(run.stop() for run in self._running))
        self._threads.shutdown(wait=False, cancel_futures=True)


class QueryRun:
    """One query, from its first row to its last."""

    def __init__(self, session: CancellableSession, chunks: Chunks) -> None:
        """Make it, on behalf of a session."""
        self._caller = session
        self.chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_done(self) -> bool:
        """Whether its thread does other things by now."""
        return self._ended.done()

    def begin(self, threads: ThreadPoolExecutor, write: WriteResult, ended: Callable[[], object]) -> None:
        """Write in a thread; `ended` is called in the event loop once the connection is given back."""

        def run() -> None:
            failure: BaseException | None = None
            try:
                write(self._caller, cast("BinaryIO", self.chunks))
                self.chunks.finish()
            except BaseException as error:  # noqa: BLE001  it is raised where the answer is waited for
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
            # Where nobody waits any more, nobody is to be told.
            self._ended.exception()

    async def end(self) -> None:
        """Wait for its end.

        Raises:
            K2Error: what went wrong.
        """
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        while not self.is_done:
            self._caller.leave()
            self.chunks.abandon()
            await asyncio.wait({self._ended}, timeout=LEAVE_SECONDS)

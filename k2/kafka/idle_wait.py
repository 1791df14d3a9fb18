"""Waits of an idle job: a worker sleeps until librdkafka has messages for one of its partitions."""

import contextlib
import os
import select
import threading
from typing import Final, Protocol

__all__ = ["IdleWait", "WakingReader"]

EMPTY_POLLS: Final = 50
"""Polls of each partition in a row without messages, a second of them, after which a process is idle. Between two polls
a worker passes on what it has, so no batch is left in the dataflow then."""
WAIT_MS: Final = 250
"""Between polls Bytewax ends epochs and calls timers, which are late by this at most."""
_DRAINED_BYTES: Final = 4_096


class WakingReader(Protocol):
    """A reader that can say when messages arrive."""

    def wake(self, descriptor: int) -> bool:
        """Write a byte to `descriptor` when messages arrive after a poll without any; False if that cannot be done."""


class IdleWait:
    """The waits of the workers of one process; shared by its source partitions.

    Bytewax wakes a worker without work 900 times a second, which takes 2 % of a core, and each partition is polled 50
    times a second. A source that does not return at once prevents both. One partition of each worker waits, for all of
    them; messages for any partition of the process end all waits.
    """

    def __init__(self, *, is_enabled: bool = True) -> None:
        """Wait only if `is_enabled`: a worker that has peers in other processes must not, because it works for them."""
        self._is_enabled = is_enabled
        self._workers: dict[int, _WorkerWait] = {}
        self._partition_count = 0
        self._empty_polls = 0

    def join(self, reader: WakingReader) -> None:
        """Add a partition; call this in the thread of the worker that polls it."""
        if not self._is_enabled:
            return
        self._partition_count += 1
        worker = self._worker()
        if worker is None:
            worker = self._workers[threading.get_ident()] = _WorkerWait()
        worker.can_wait &= reader.wake(worker.write_end)
        if worker.waiting is None:
            worker.waiting = reader

    def leave(self, reader: WakingReader) -> None:
        """Remove a partition that is read no longer; the others of its worker pause between polls from then on."""
        worker = self._worker()
        if worker is not None:
            self._partition_count -= 1
            if worker.waiting is reader:
                worker.can_wait = False

    def sleep(self, reader: WakingReader) -> bool:
        """Count a poll without messages. If the process is idle and `reader` is the one that waits, wait.

        Return whether it has waited, so that messages may have arrived.
        """
        self._empty_polls += 1
        worker = self._worker()
        if worker is None or worker.waiting is not reader or not self.is_waiting():
            return False
        return worker.wait()

    def is_waiting(self) -> bool:
        """Return whether this worker waits in place of the pauses of its partitions."""
        worker = self._worker()
        return worker is not None and worker.can_wait and self._is_idle()

    def end(self) -> None:
        """End all waits: messages have arrived."""
        if self._is_idle():
            for worker in [*self._workers.values()]:
                worker.wake()
        self._empty_polls = 0

    def _is_idle(self) -> bool:
        return self._empty_polls >= EMPTY_POLLS * self._partition_count

    def _worker(self) -> "_WorkerWait | None":
        return self._workers.get(threading.get_ident())


class _WorkerWait:
    """A pipe from librdkafka to a worker; it stays open, because librdkafka may write to it as long as it lives."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self.write_end, False)
        self._poll = select.poll()
        self._poll.register(self._read_end, select.POLLIN)
        self.waiting: WakingReader | None = None
        """The partition that waits."""
        self.can_wait = True
        self._was_woken = False

    def wait(self) -> bool:
        """Wait until messages arrive, or for `WAIT_MS`; not if the wait before was ended: all are polled first."""
        if self._was_woken:
            self._was_woken = False
            return False
        self._was_woken = bool(self._poll.poll(WAIT_MS))
        if self._was_woken:
            os.read(self._read_end, _DRAINED_BYTES)
        return True

    def wake(self) -> None:
        """End a wait."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.write_end, b"\0")

"""The dead letters of one Iceberg writer: counted, buffered, and durable before the commit that counts them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from k2.model.dead_letter import DeadLetter
from k2.model.reasons import Reason
from k2.model.rejected_messages import by_reason, lines_of
from k2.ops.metrics import CONFLICTS, DEAD_LETTERS
from k2.storage.dead_letters.files import Position
from k2.storage.dead_letters.rejections import Rejections

__all__ = ["DeadLetterLog", "DeadLetterQueue"]

Clock = Callable[[], datetime]

PENDING_BYTES_MAX: Final = 8 * 2**20
"""Bytes buffered until the epoch ends: what is not in the files needs no removal after a crash."""


class DeadLetterLog(Protocol):
    """Where the lines of one writer go: files on a local disk, or objects in an object store.

    Each commit records the positions. What lies before them is counted; what lies behind them was written by an epoch
    that was never committed, and no reader of committed lines sees it.
    """

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines.

        Raises:
            UnreachableError: disk or store refused the write, also after retries.
        """
        ...

    def sync(self) -> Mapping[str, Position]:
        """Make all lines durable; return the position of each series of this writer. A commit follows each call.

        Raises:
            UnreachableError: disk or store refused the write.
        """
        ...

    def close(self) -> None:
        """Release what the log holds."""
        ...


class DeadLetterQueue:
    """The dead letters of one writer; each commit records their position."""

    def __init__(self, log: DeadLetterLog, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._log = log
        self._clock = clock
        self._rejections = Rejections()
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def append(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Add dead letters; they are written by `sync`, or earlier if many are pending.

        Raises:
            UnreachableError: disk or store refused the write, also after retries.
        """
        if not dead_letters:
            return
        self._rejections.add(dead_letters)
        for reason, group in by_reason(dead_letters).items():
            DEAD_LETTERS.labels(str(reason)).inc(group.size)
            if reason is Reason.CONFLICT:
                _count_conflicts(dead_letters)
        for line in lines_of(dead_letters, self._clock()):
            self._pending.append(line)
            self._pending_bytes += len(line)
            if self._pending_bytes > PENDING_BYTES_MAX:
                self._write()

    def take_rejections(self) -> Rejections:
        """Return the counts of the dead letters added since the last call."""
        rejections, self._rejections = self._rejections, Rejections()
        return rejections

    def sync(self) -> Mapping[str, Position]:
        """Make all added dead letters durable; return the position of each series of this writer.

        Raises:
            UnreachableError: disk or store refused the write.
        """
        self._write()
        return self._log.sync()

    def close(self) -> None:
        """Close the log; pending dead letters belong to no commit, and are dropped."""
        self._log.close()

    def _write(self) -> None:
        self._log.append(self._pending)
        self._pending, self._pending_bytes = [], 0


def _count_conflicts(dead_letters: Sequence[DeadLetter]) -> None:
    conflicts = Counter(letter.exchange or "" for letter in dead_letters if letter.reason is Reason.CONFLICT)
    for exchange, count in conflicts.items():
        CONFLICTS.labels(exchange).inc(count)

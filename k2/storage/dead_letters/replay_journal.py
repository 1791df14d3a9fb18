"""Journal of the replays of dead letters, next to the dead letters: what was to be published, and what was.

Each batch is a file of one line. It is written as an intent before the first message is sent, and once more, with the
offsets of the messages, when they are committed; the intent is removed after that. An intent that is left belongs to a
replay that was stopped, whose outcome only the topics know. Files have names of their own, so that no instance ever
overwrites what another one wrote.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import BinaryIO, Final, NamedTuple, Protocol

from k2.model.dead_letter import Coordinates
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.replay import ReplayBatch
from k2.ops.failpoints import failpoint
from k2.ops.retry import retried

__all__ = ["JournalEntry", "JournalFolder", "ReplayJournal", "replayed_letters", "taken_trades"]

_BATCH: Final = r"\d{8}T\d{12}-[0-9a-f]{8}"


class JournalFolder(Protocol):
    """The folder of the dead letters, or their address in an object store."""

    def names(self, prefix: str) -> list[str]:
        """Return the names of the files that start with `prefix`, sorted; an empty list if there is no folder."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file to read it; raise FileNotFoundError if there is none."""
        ...

    def location(self, name: str) -> str:
        """Return the whole path of a file, for messages."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file; it is durable when this returns."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...


class JournalEntry(NamedTuple):
    """A batch of the journal."""

    batch: ReplayBatch
    is_settled: bool
    """Whether its outcome is recorded: all its letters have the offsets of their messages."""
    location: str
    """Path of its file, for messages."""


class ReplayJournal:
    """The journal of one namespace's replays."""

    def __init__(self, folder: JournalFolder, namespace: str) -> None:
        self._folder = folder
        self._prefix = f"replays-{namespace}-"
        self._name = re.compile(rf"{re.escape(self._prefix)}({_BATCH})(?:\.intent)?\.jsonl")

    def entries(self, unreadable: Callable[[str], None] | None = None) -> list[JournalEntry]:
        """Return all batches, in the order in which they were begun.

        `unreadable` is called with each file that is not a batch; without it, one is an error.

        Raises:
            StateError: a file is not a batch.
            SettingsError: the folder or store refuses to be read.
            UnreachableError: the object store does not answer.
        """
        batches = {match[1] for name in self._folder.names(self._prefix) if (match := self._name.fullmatch(name))}
        return [*self._readable(sorted(batches), unreadable)]

    def version(self) -> str:
        """Return a text that is another one after each intent and each outcome, without reading a batch.

        Raises:
            SettingsError: the folder or store refuses to be read.
            UnreachableError: the object store does not answer.
        """
        return " ".join(name for name in self._folder.names(self._prefix) if self._name.fullmatch(name))

    def _readable(self, batches: list[str], unreadable: Callable[[str], None] | None) -> Iterator[JournalEntry]:
        for batch in batches:
            try:
                entry = self._entry(batch)
            except ValueError as error:
                text = f"{self._folder.location(_file(self._prefix, batch))}: {error}"
                if unreadable is None:
                    raise StateError(
                        f"the journal of replays cannot be read: {text}; restore the file from a copy, or remove it, "
                        "and its dead letters count as waiting"
                    ) from None
                unreadable(text)
            else:
                if entry is not None:
                    yield entry

    def _entry(self, batch: str) -> JournalEntry | None:
        """Return a batch; None if its intent was removed since it was listed."""
        # Between the two reads another process may have recorded the outcome and removed the intent.
        for is_settled in (True, False, True):
            name = _file(self._prefix, batch, is_settled=is_settled)
            try:
                with self._folder.open(name) as stream:
                    text = stream.read()
            except FileNotFoundError:
                continue
            found = ReplayBatch.parse(text)
            if is_settled and not all(one.offsets for one in found.partitions):
                raise ValueError("it has no offsets")
            return JournalEntry(found, is_settled, self._folder.location(name))
        return None

    def new_batch(self, begun_at: datetime) -> str:
        """Return the name of a batch that begins now (UTC); no other process has it."""
        return f"{begun_at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"

    def intend(self, batch: ReplayBatch) -> None:
        """Record that a batch is about to be published.

        Raises:
            UnreachableError: it cannot be written, also after retries; nothing may be sent.
        """
        self._write(_file(self._prefix, batch.batch, is_settled=False), batch.line())

    def settle(self, batch: ReplayBatch) -> None:
        """Record the outcome of a batch, and remove its intent.

        Raises:
            UnreachableError: it cannot be written, also after retries; the intent stays.
        """
        self._write(_file(self._prefix, batch.batch), batch.line())
        failpoint("replay.recorded")
        self.drop(batch)

    def drop(self, batch: ReplayBatch) -> None:
        """Remove the intent of a batch; without an outcome, its letters wait again."""
        self._folder.remove(_file(self._prefix, batch.batch, is_settled=False))

    def _write(self, name: str, data: bytes) -> None:
        retried(
            f"writing the journal of replays, {self._folder.location(name)},", lambda: self._folder.write(name, data)
        )


def _file(prefix: str, batch: str, *, is_settled: bool = True) -> str:
    return f"{prefix}{batch}{'' if is_settled else '.intent'}.jsonl"


def replayed_letters(entries: Iterable[JournalEntry]) -> dict[Coordinates, int]:
    """Return the offset of the message that each replayed letter became, of the batches whose outcome is recorded."""
    return {
        letter: offset
        for entry in entries
        if entry.is_settled
        for letter, offset in zip(
            entry.batch.letters(), (offset for one in entry.batch.partitions for offset in one.offsets), strict=True
        )
    }


def taken_trades(entries: Iterable[JournalEntry]) -> dict[tuple[TopicPartition, int], int]:
    """Return the only trade to take of each replayed message that is marked with one."""
    return {place: taken for entry in entries if entry.is_settled for place, taken in entry.batch.taken().items()}

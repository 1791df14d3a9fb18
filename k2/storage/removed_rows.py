"""What `k2 maintain retain` removed from the table `trades`: counts for the sums, and sequence numbers for the rules.

The counts are in a table property, set in the commit that removes the rows. The numbers are in a file that the property
names, next to the table's metadata. Without them, a rule that reads the rows would take the numbers of removed rows for
missing.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

import msgspec
import structlog
from pyiceberg.table import Table

from k2.model.documents import read_document
from k2.model.packed import digest, pack, unpack
from k2.model.progress import TopicPartition
from k2.model.state_source import SessionKey, StoredSession
from k2.storage.checkpoints import checkpoint_location

__all__ = [
    "RemovedRows",
    "parse_removed_rows",
    "read_removed_numbers",
    "removed_rows_text",
    "write_removed_numbers",
]

_FORMAT: Final = 1
_log: Final = structlog.get_logger()


class RemovedRows(msgspec.Struct, frozen=True):
    """What was removed from a table, all in all."""

    rows: Mapping[str, int] = msgspec.field(default_factory=dict)
    """The number of removed rows, by `topic:partition`."""
    before: date | None = None
    """The venue day before which days were removed last."""
    file: str | None = None
    """Name of the file with the removed numbers, in the folder of the table's metadata; None if there are none."""
    digest: str = ""
    """BLAKE2b of that file (RFC 7693), 16 bytes in hexadecimal digits."""
    format: int = _FORMAT

    @property
    def total(self) -> int:
        """The number of removed rows of all topic partitions."""
        return sum(self.rows.values())

    def of(self, topic_partition: TopicPartition) -> int:
        """Return the number of removed rows of a topic partition."""
        return self.rows.get(str(topic_partition), 0)


class _Session(msgspec.Struct, frozen=True, array_like=True):
    exchange: str
    symbol: str
    session: int
    ranges: list[tuple[int, int]]
    latest: int
    earliest: int
    topic: str
    partition: int
    offset: int


def parse_removed_rows(text: str) -> RemovedRows:
    """Parse the text of the property.

    Raises:
        ValueError: the text does not have the documented shape, or has another format version.
    """
    return read_document(text, RemovedRows, _FORMAT)


def removed_rows_text(removed: RemovedRows) -> str:
    """Return the text of the property."""
    return msgspec.json.encode(removed).decode()


def write_removed_numbers(table: Table, sessions: Iterable[StoredSession]) -> tuple[str, str]:
    """Write removed numbers to a new file; return its name and digest. It counts once a commit names it."""
    plain = msgspec.msgpack.encode(
        [
            _Session(
                *one.key,
                list(one.ranges),
                one.latest,
                one.earliest,
                one.topic_partition.topic,
                one.topic_partition.partition,
                one.offset,
            )
            for one in sessions
        ]
    )
    data, file = pack(plain), f"removed-{uuid.uuid4().hex}.bin"
    with table.io.new_output(checkpoint_location(table, file)).create() as stream:
        stream.write(data)
    return file, digest(data)


def read_removed_numbers(table: Table, removed: RemovedRows) -> list[StoredSession]:
    """Return the removed numbers by session; none, with a warning, if their file is gone or damaged."""
    if removed.file is None:
        return []
    try:
        with table.io.new_input(checkpoint_location(table, removed.file)).open() as stream:
            data = stream.read()
        return _decoded(data, removed.digest)
    except (FileNotFoundError, ValueError) as error:
        effect = "removed numbers may count as missing"
        _log.warning("removed_numbers_unreadable", file=removed.file, error=str(error), effect=effect)
        return []


def _decoded(data: bytes, expected: str) -> list[StoredSession]:
    if digest(data) != expected:
        raise ValueError("it is torn or was changed")
    return [
        StoredSession(
            SessionKey(one.exchange, one.symbol, one.session),
            tuple(one.ranges),
            one.latest,
            one.earliest,
            TopicPartition(one.topic, one.partition),
            one.offset,
        )
        for one in msgspec.msgpack.decode(unpack(data), type=list[_Session])
    ]

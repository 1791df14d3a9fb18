"""The `k2.*` properties of the job's tables: what each is called, what it means, and how its value is written as text.

Every reader and writer of a property goes through its declaration here. `docs/tables.md` lists them from `PROPERTIES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from k2.model.documents import UnknownFormatError
from k2.model.errors import TableError
from k2.model.key_groups import GROUPS
from k2.model.partition_starts import PartitionStarts, parse_partition_starts, partition_starts_text
from k2.model.progress import Progress
from k2.sequencing.announced import AnnouncedNumbers
from k2.sequencing.connection_states import ConnectionStates
from k2.sequencing.doubts import Doubts
from k2.sequencing.feed_states import FeedStates
from k2.sequencing.non_market import NonMarketNumbers
from k2.storage.checkpoints import NamedCheckpoints, named_checkpoints_text, parse_named_checkpoints
from k2.storage.commit_log import Commit, commit_notes_text, parse_commit_notes
from k2.storage.dead_letters.files import Position
from k2.storage.pending_corrections import (
    PendingCorrections,
    parse_pending_corrections,
    pending_corrections_text,
)
from k2.storage.removed_rows import RemovedRows, parse_removed_rows, removed_rows_text

__all__ = [
    "ANNOUNCED_NUMBERS",
    "CHECKPOINTS",
    "COMMIT_ID",
    "COMMIT_LOG_BATCH",
    "COMMIT_NOTES",
    "CONNECTIONS",
    "DEAD_LETTER_POSITIONS",
    "DECODING",
    "DOUBTS",
    "FEEDS",
    "FENCING_TOKEN",
    "FORMAT",
    "KEY_GROUPS",
    "KNOWN_FORMAT",
    "LAST_SNAPSHOT",
    "LEDGER_ID",
    "NON_MARKET_NUMBERS",
    "PARTITION_STARTS",
    "PENDING_CORRECTIONS",
    "PROGRESS",
    "PROPERTIES",
    "REMOVED_ROWS",
    "TOPIC_IDS",
    "WRITERS",
    "CommitLogBatch",
    "LastSnapshot",
    "TableProperty",
    "check_format",
]

T = TypeVar("T")
KNOWN_FORMAT: Final = 1
"""A version that writes what older ones would misread has the next number."""


@dataclass(frozen=True)
class TableProperty(Generic[T]):
    """A table property; one whose key ends with a dot exists once per writer, whose name follows the dot."""

    key: str
    table: str
    meaning: str
    """One table cell of Markdown."""
    parse: Callable[[str], T]
    """Raises ValueError if the text does not have the documented shape."""
    text: Callable[[T], str]
    default: Callable[[], T]
    """Makes the value for a table without the property."""

    @property
    def is_per_writer(self) -> bool:
        """Whether each writer has its own."""
        return self.key.endswith(".")

    def read(self, properties: Mapping[str, str], writer: str = "") -> T:
        """Return the value among the properties of a table, or in the summary of a snapshot.

        Raises:
            TableError: the text does not have the documented shape, or has another format version.
        """
        text = properties.get(self.key + writer)
        return self.default() if text is None else self._parse(self.key + writer, text)

    def read_all(self, properties: Mapping[str, str]) -> list[T]:
        """Return the values of all writers, in the order of the properties; see `read`."""
        assert self.is_per_writer, "only such a property has several values"
        return [self._parse(key, text) for key, text in properties.items() if key.startswith(self.key)]

    def set_to(self, value: T, writer: str = "") -> dict[str, str]:
        """Return the property to set, by its key."""
        return {self.key + writer: self.text(value)}

    def _parse(self, key: str, text: str) -> T:
        try:
            return self.parse(text)
        except UnknownFormatError as error:
            raise TableError(f"table property {key} {error}") from error
        except ValueError as error:
            raise TableError(f"table property {key} cannot be read: {error}") from error


class LastSnapshot(NamedTuple):
    """A snapshot of the job; its text form is `snapshot_id:sequence_number`."""

    snapshot_id: int
    sequence_number: int

    def __str__(self) -> str:
        return f"{self.snapshot_id}:{self.sequence_number}"

    @classmethod
    def parse(cls, text: str) -> "LastSnapshot":
        """Parse the text form."""
        snapshot_id, _, number = text.partition(":")
        return cls(int(snapshot_id), int(number))


class CommitLogBatch(msgspec.Struct, frozen=True):
    """The commit notes that were appended to the table `commits` last."""

    table: str = ""
    """UUID of the table that they are commits to."""
    snapshots: frozenset[int] = frozenset()


def _parse_positions(text: str) -> dict[str, Position]:
    recorded = msgspec.json.decode(text, type=dict[str, str])
    return {series: Position.parse(one) for series, one in recorded.items()}


def _positions_text(positions: Mapping[str, Position]) -> str:
    return _json_text({series: str(position) for series, position in sorted(positions.items())})


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


PROGRESS: Final = TableProperty[Progress](
    "k2.progress",
    "every table",
    "Committed offsets, partition counts and last messages of each writer ([progress](#progress))",
    Progress.parse,
    Progress.text,
    Progress,
)
COMMIT_ID: Final = TableProperty[str](
    "k2.commit.",
    "every table",
    "The id of each writer's last commit, by which a commit whose response is lost is looked up",
    str,
    str,
    str,
)
LAST_SNAPSHOT: Final = TableProperty[LastSnapshot | None](
    "k2.snapshot",
    "every table",
    "The job's last snapshot and its sequence number, so that a rollback past it is detected",
    LastSnapshot.parse,
    str,
    lambda: None,
)
FENCING_TOKEN: Final = TableProperty[str | None](
    "k2.claim",
    "trades",
    "Fencing token. A start that rolls back events of the ledger sets it in a snapshot without rows, so that an "
    "instance that started earlier and was only frozen can no longer commit",
    str,
    str,
    lambda: None,
)
LEDGER_ID: Final = TableProperty[str | None]("k2.ledger", "trades", "The ledger's UUID", str, str, lambda: None)
DEAD_LETTER_POSITIONS: Final = TableProperty[Mapping[str, Position]](
    "k2.letters.",
    "trades",
    "Where each series of a writer's dead letters ends, as `file number:bytes` by the series' name",
    _parse_positions,
    _positions_text,
    dict,
)
NON_MARKET_NUMBERS: Final = TableProperty[NonMarketNumbers](
    "k2.off_book.",
    "trades",
    "Ranges of numbers that each writer skipped because they are non-market trades. They are in no row, and a start "
    "that rebuilds its state from the tables would take them for missing. A range takes about 5 bytes. Beyond 50,000 "
    "ranges per writer the lowest are removed, and would show up as gaps after the store is lost",
    NonMarketNumbers,
    NonMarketNumbers.text,
    NonMarketNumbers,
)
REMOVED_ROWS: Final = TableProperty[RemovedRows](
    "k2.removed",
    "trades",
    "What `k2 maintain retain` removed: rows by topic partition, the day before which it removed last, and the file "
    "with their sequence numbers ([removed days](#removed-days))",
    parse_removed_rows,
    removed_rows_text,
    RemovedRows,
)
DOUBTS: Final = TableProperty[Doubts](
    "k2.doubts.",
    "trades",
    "Conflicts of each writer's symbols that are not settled yet, as exchange, symbol, number and time "
    "([details](numbering.md#what-is-remembered-and-for-how-long))",
    Doubts,
    Doubts.text,
    Doubts,
)
ANNOUNCED_NUMBERS: Final = TableProperty[AnnouncedNumbers](
    "k2.announced.",
    "trades",
    "Numbers above the newest trade of each writer's symbols that the venue has named and that are missing, with the "
    "time and the message ([details](venues.md#head-numbers-and-second-views))",
    AnnouncedNumbers,
    AnnouncedNumbers.text,
    AnnouncedNumbers,
)
CHECKPOINTS: Final = TableProperty[NamedCheckpoints](
    "k2.checkpoints.",
    "trades",
    "The newest two checkpoints of each of a writer's key groups: file, place in it, and digest; and the offset up to "
    "which those of idle groups are complete ([checkpoints](#checkpoints))",
    parse_named_checkpoints,
    named_checkpoints_text,
    NamedCheckpoints,
)
CONNECTIONS: Final = TableProperty[ConnectionStates](
    "k2.connections.",
    "trades",
    "Ranges of the numbers seen of each connection of a writer's key groups, and the offsets up to which they are "
    "complete ([connections](numbering.md#numbers-of-a-connection)). A range takes about 5 bytes. Beyond 50,000 ranges "
    "per writer the lowest of a connection are left out; a start no longer judges them",
    ConnectionStates,
    ConnectionStates.text,
    ConnectionStates,
)
FEEDS: Final = TableProperty[FeedStates](
    "k2.feeds.",
    "trades",
    "What each feed has reached of the symbols of a writer's key groups, the offsets up to which that is complete, the "
    "events of its last three commits, and the lags of the last 40 days ([feeds](feeds.md)). JSON, compressed with "
    "zlib, in base64: about 20 bytes for each symbol and feed",
    FeedStates,
    FeedStates.text,
    FeedStates,
)
PENDING_CORRECTIONS: Final = TableProperty[PendingCorrections](
    "k2.corrections.",
    "trades",
    "The corrections of each writer's last commit, until the table `corrections` has them "
    "([corrections](#corrections)). One takes about 200 bytes",
    parse_pending_corrections,
    pending_corrections_text,
    PendingCorrections,
)
COMMIT_NOTES: Final = TableProperty[list[Commit]](
    "k2.trail",
    "trades",
    "The newest commits ([the commit log](#commits-the-commit-log))",
    parse_commit_notes,
    commit_notes_text,
    list,
)
DECODING: Final = TableProperty[dict[str, str]](
    "k2.decoding",
    "trades",
    "Settings, and the digest of the venue's table, by which the job that wrote last decoded each topic",
    partial(msgspec.json.decode, type=dict[str, str]),
    _json_text,
    dict,
)
TOPIC_IDS: Final = TableProperty[dict[str, str]](
    "k2.topics",
    "trades",
    "Kafka's id of each topic when it was first read, so that a topic that is created again is detected",
    partial(msgspec.json.decode, type=dict[str, str]),
    _json_text,
    dict,
)
PARTITION_STARTS: Final = TableProperty[PartitionStarts](
    "k2.starts",
    "trades",
    "Where `K2_START` began the partitions of topics that were new, and the first offset that Kafka had then "
    "([where a new topic begins](operations.md#where-a-new-topic-begins))",
    parse_partition_starts,
    partition_starts_text,
    dict,
)
WRITERS: Final = TableProperty[int | None](
    "k2.writers",
    "trades",
    "The number of writers with which the table was created",
    int,
    str,
    lambda: None,
)
KEY_GROUPS: Final = TableProperty[int](
    "k2.key_groups",
    "trades",
    "The number of key groups with which the table was created; 16 if absent",
    int,
    str,
    lambda: 16,
)
FORMAT: Final = TableProperty[int](
    "k2.format",
    "trades",
    "The format of these properties and of the rows; 1 if absent. A version of the job that does not know the format "
    "refuses to start",
    int,
    str,
    lambda: 1,
)
COMMIT_LOG_BATCH: Final = TableProperty[CommitLogBatch](
    "k2.kept",
    "commits",
    "The snapshot ids of the commits that were appended last ([the commit log](#commits-the-commit-log))",
    partial(msgspec.json.decode, type=CommitLogBatch),
    _json_text,
    CommitLogBatch,
)
PROPERTIES: Final[tuple[TableProperty[Any], ...]] = (
    PROGRESS,
    COMMIT_ID,
    LAST_SNAPSHOT,
    FENCING_TOKEN,
    LEDGER_ID,
    DEAD_LETTER_POSITIONS,
    NON_MARKET_NUMBERS,
    REMOVED_ROWS,
    DOUBTS,
    ANNOUNCED_NUMBERS,
    CHECKPOINTS,
    CONNECTIONS,
    FEEDS,
    PENDING_CORRECTIONS,
    COMMIT_NOTES,
    TOPIC_IDS,
    DECODING,
    PARTITION_STARTS,
    WRITERS,
    KEY_GROUPS,
    FORMAT,
    COMMIT_LOG_BATCH,
)
"""All of them, in the order in which the documentation lists them."""


def check_format(properties: Mapping[str, str], table: str) -> None:
    """Compare the format and the number of key groups of a table `trades` with those of this version.

    Raises:
        TableError: they differ.
    """
    found, groups = FORMAT.read(properties), KEY_GROUPS.read(properties)
    if found != KNOWN_FORMAT:
        raise TableError(
            f"table {table} has {FORMAT.key}={found}, this version reads {KNOWN_FORMAT}; run a later version of the "
            "job, or set K2_NAMESPACE to another namespace"
        )
    if groups != GROUPS:
        raise TableError(
            f"table {table} was created for {groups} key groups, this version has {GROUPS}; "
            "run the version that created it, or set K2_NAMESPACE to another namespace"
        )

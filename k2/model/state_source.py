"""State source: the state of the rules, rebuilt from the tables if their own state is lost or older than the tables."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from k2.model.progress import TopicPartition
from k2.model.symbol_names import SymbolNames

__all__ = [
    "ID_BLOCKS_FORMAT",
    "NO_CONTENTS",
    "NO_STATE_SOURCE",
    "AnnouncedNumber",
    "GroupState",
    "IdBlock",
    "Ledger",
    "NumberDoubt",
    "Positions",
    "Ranges",
    "Reach",
    "SealedIds",
    "SessionKey",
    "StateSource",
    "StoredContents",
    "StoredIds",
    "StoredSession",
    "WantedContents",
]

Positions = Mapping[TopicPartition, int]
"""Position of a key group's state in each topic partition: the first offset that it has not seen."""

ID_BLOCKS_FORMAT: Final = 1
"""Format of the bytes of id blocks."""

Ranges = tuple[tuple[int, int], ...]
"""Ascending, disjoint ranges of sequence numbers, both bounds inclusive."""


class SessionKey(NamedTuple):
    """Identifies one session of the numbering of one symbol."""

    exchange: str
    symbol: str
    session: int


class StoredSession(NamedTuple):
    """Sequence numbers of a session that are in the table."""

    key: SessionKey
    ranges: Ranges
    latest: int
    """Latest effective time among them (`k2.sequencing.effective_time`), microseconds."""
    earliest: int
    """Earliest effective time among them, microseconds."""
    topic_partition: TopicPartition
    offset: int
    """Offset of the newest of them in `topic_partition`."""


class Reach(NamedTuple):
    """Kafka time reached in a topic partition, microseconds since the epoch."""

    reached: int
    """The confirmed time (`k2.dedup.window.Clock`)."""
    newest: int
    """The latest time seen, confirmed or not."""


class StoredIds(NamedTuple):
    """n trades without a sequence number that are in the table, from one topic partition, in any order."""

    topic_partition: TopicPartition
    reached: int
    """Kafka time that the partition has certainly reached, microseconds since the epoch."""
    symbols: NDArray[np.int32]
    """int32[n], symbol ids; their names are in `names`."""
    names: SymbolNames
    """The registry of the symbol ids."""
    id_keys: NDArray[np.int64]
    """int64[n, 3]: the trade-id hash (`k2.dedup.trade_id_hash`), low word first, and 32 bits of the content."""
    times: NDArray[np.int64]
    """int64[n], Kafka time (venue time if there is none), microseconds since the epoch."""


class WantedContents(NamedTuple):
    """A range of sequence numbers of one session whose contents are requested; both bounds inclusive."""

    key: SessionKey
    first: int
    last: int
    since: int
    """No trade of the range has an earlier venue time, microseconds since the epoch."""
    is_any_age: bool
    """Whether contents are requested regardless of the age of the trades."""


class StoredContents(NamedTuple):
    """Contents of n stored trades with requested sequence numbers, in any order."""

    wanted: NDArray[np.int64]
    """int64[n], indices into the requested ranges."""
    sequences: NDArray[np.int64]
    """int64[n]"""
    contents: NDArray[np.int64]
    """int64[n], as from `k2.model.content.fingerprints`."""
    kafka_times: NDArray[np.int64]
    """int64[n], Kafka time (venue time if there is none), microseconds since the epoch."""
    lowest: Mapping[SessionKey, int]
    """Lowest sequence number that is young enough, for each requested session that has one."""


class NumberDoubt(NamedTuple):
    """The doubt of a symbol (`k2.sequencing.sequence.Doubt`), or the fact that it has none any longer."""

    exchange: str
    symbol: str
    sequence: int | None
    """None if the symbol has no doubt."""
    at: int = 0
    """Effective time of the conflict, microseconds since the epoch."""


class AnnouncedNumber(NamedTuple):
    """The highest number of a session that its venue has named, if it is missing; or that it is not any longer."""

    key: SessionKey
    number: int | None
    """None if a trade with this number, or a higher one, has arrived."""
    at: int
    """Kafka time of the message that named it, microseconds since the epoch."""
    topic_partition: TopicPartition
    offset: int
    """Of the message by which it was found missing."""


class Ledger(NamedTuple):
    """Sessions and missing ranges that the ledger records for the trades in the table."""

    started: frozenset[SessionKey]
    missing: Mapping[SessionKey, Ranges]


class IdBlock(msgspec.Struct, frozen=True):
    """Some of the trade ids that a key group holds, as bytes that are written once (`k2.dedup.id_blocks`)."""

    digest: str
    """BLAKE2b of the bytes (RFC 7693), 16 bytes in hexadecimal digits."""
    count: int
    """The number of ids."""
    size: int
    """The number of bytes."""
    file: str | None = None
    """Name of the file that has them; None if they have not been written yet."""
    start: int = 0
    """Where they start in the file."""


class SealedIds(msgspec.Struct, frozen=True):
    """The trade ids that a key group holds, as blocks."""

    window_us: int
    """The deduplication window, of which two are held."""
    key_check: str
    """Identifies the key of the ids' hashes."""
    blocks: tuple[IdBlock, ...]
    """The oldest first."""
    format: int = ID_BLOCKS_FORMAT


class GroupState(NamedTuple):
    """The state of the rules of one key group, as builtins."""

    sequence: dict[str, Any]
    """That of the sequence step."""
    deduplicate: dict[str, Any] | None = None
    """That of the deduplicate step; None until the state has passed that step."""
    ids: SealedIds | None = None
    """The trade ids, likewise."""
    new_ids: bytes | None = None
    """The bytes of the newest block, if they have not been written yet."""


class StateSource(Protocol):
    """Reads the tables as they were when the process started."""

    @property
    def id_hash_key(self) -> bytes:
        """16 bytes, by which trade ids are hashed (`k2.dedup.trade_id_hash`)."""

    def checkpoint(self, group: int) -> GroupState | None:
        """Return the state of a group from its newest checkpoint; None if there is none, or a store was resumed."""

    def report_positions(self, positions: Positions) -> None:
        """Report the positions of a group's recovered state; called for all groups before the first read.

        All states of a recovery store are from the same moment, so no group misses a row below the highest position.
        """

    def report_clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Report the clocks of a group's recovered state; called for all groups before the first read."""

    def sessions(self, group: int) -> Iterable[StoredSession]:
        """Return the numbers in the table that recovered state may lack; the sessions of a symbol are ascending."""

    def contents(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:
        """Read the contents of stored trades from the current table.

        `floor` is a Kafka time, microseconds since the epoch. Trades below it are returned only for ranges with
        `is_any_age`.
        """

    def committed(self, group: int) -> Positions:
        """Return the committed offset of each topic partition for the rows of a group."""

    def announced(self, group: int) -> Iterable[AnnouncedNumber]:
        """Return the announced numbers of a group's symbols as of the trades in the table."""

    def doubts(self, group: int) -> Iterable[NumberDoubt]:
        """Return the doubts of a group's symbols as of the trades in the table."""

    def id_blocks(self, group: int, window_us: int, key_check: str) -> Sequence[tuple[IdBlock, bytes]]:
        """Return the blocks of a group's ids in its newest checkpoint; none if they do not fit, or cannot be read."""

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[StoredIds]:
        """Return the ids in the table that can still fall into a deduplication window; call `id_blocks` before.

        Ids in returned blocks may be left out. For a resumed group the ids depend on the reported clocks, else on the
        clocks of the table.
        """

    def ledger(self) -> Ledger:
        """Return what the ledger records for the trades in the table, without events of later trades."""


_NONE: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)
NO_CONTENTS: Final = StoredContents(_NONE, _NONE, _NONE, _NONE, {})


class _EmptyStateSource:
    """State source without stored trades."""

    id_hash_key: Final = secrets.token_bytes(16)

    def checkpoint(self, group: int) -> GroupState | None:  # noqa: ARG002
        return None

    def report_positions(self, positions: Positions) -> None:
        """Ignore the call."""

    def report_clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Ignore the call."""

    def sessions(self, group: int) -> Iterable[StoredSession]:  # noqa: ARG002
        return ()

    def contents(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:  # noqa: ARG002
        return NO_CONTENTS

    def committed(self, group: int) -> Positions:  # noqa: ARG002
        return {}

    def announced(self, group: int) -> Iterable[AnnouncedNumber]:  # noqa: ARG002
        return ()

    def doubts(self, group: int) -> Iterable[NumberDoubt]:  # noqa: ARG002
        return ()

    def id_blocks(self, group: int, window_us: int, key_check: str) -> Sequence[tuple[IdBlock, bytes]]:  # noqa: ARG002
        return ()

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[StoredIds]:  # noqa: ARG002
        return ()

    def ledger(self) -> Ledger:
        return Ledger(frozenset(), {})


NO_STATE_SOURCE: StateSource = _EmptyStateSource()
"""State source of a flow without tables."""

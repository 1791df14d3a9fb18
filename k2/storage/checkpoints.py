"""Checkpoints: the state of the rules in the warehouse, so that a start reads only the rows committed since.

A checkpoint holds the state of one key group. Each lies in a file next to the table's metadata. A table property of the
group's writer names it, and is set in the same commit as the rows that the state has seen. So a checkpoint that is
named never knows more than the table has. It is never changed; the property names the newest two of each group. The
trade ids of a group are in blocks, to which later checkpoints refer as well.
"""

from typing import Any, Final

import msgspec
from pyiceberg.table import Table

from k2.model.documents import read_document
from k2.model.errors import first_line
from k2.model.key_groups import GROUPS
from k2.model.packed import digest, pack, unpack
from k2.model.progress import TopicPartition
from k2.model.state_source import IdBlock, Positions, SealedIds

__all__ = [
    "CHECKPOINTS_KEPT",
    "Checkpoint",
    "CheckpointError",
    "CheckpointPlace",
    "NamedCheckpoints",
    "checkpoint_location",
    "decode_checkpoint",
    "encode_checkpoint",
    "named_checkpoints_text",
    "parse_named_checkpoints",
    "place_of",
    "read_checkpoint",
    "read_id_block",
]

CHECKPOINTS_KEPT: Final = 2
"""Checkpoints of a group that are kept: if the newest cannot be read, a start uses the one before."""
_FORMAT: Final = 1


class CheckpointError(ValueError):
    """A checkpoint is not what was written, or is not one of this table and version."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The state of the rules of one key group."""

    table: str
    """UUID of the table that it belongs to."""
    ledger: str | None
    """UUID of the ledger that has the events of all rows below `positions`."""
    group: int
    positions: list[tuple[str, int, int]]
    """Topic, partition, and the first offset of which the state may lack rows of this group."""
    sequence_number: int
    """The rows from `positions` on were committed with a higher Iceberg sequence number."""
    sequence: dict[str, Any]
    """The state of the numberings (`k2.sequencing.tracker`, `k2.sequencing.monotonic`)."""
    deduplicate: dict[str, Any]
    """The state of the deduplicator (`k2.dedup.deduplicator`)."""
    ids: SealedIds | None = None
    """The trade ids of the deduplicator, in blocks of this and earlier files; None if an earlier version wrote it."""
    groups: int = GROUPS
    """The number of key groups by which symbols were assigned to this one."""
    format: int = _FORMAT

    @property
    def offsets(self) -> Positions:
        """The positions, by topic partition."""
        return {TopicPartition(topic, partition): offset for topic, partition, offset in self.positions}


class CheckpointPlace(msgspec.Struct, frozen=True):
    """Where a checkpoint lies."""

    file: str
    """Name of the file in the folder of the table's metadata."""
    start: int
    size: int
    digest: str
    """BLAKE2b of these bytes (RFC 7693), 16 bytes in hexadecimal digits."""
    id_files: tuple[str, ...] = ()
    """Names of the files with the blocks of its trade ids."""


class NamedCheckpoints(msgspec.Struct, frozen=True):
    """The checkpoints of one writer's key groups that its last commit names."""

    groups: dict[int, list[CheckpointPlace]] = msgspec.field(default_factory=dict)
    """By key group, the newest first."""
    idle: list[int] = msgspec.field(default_factory=list)
    """Groups without rows between their newest checkpoint and `positions`: their state is complete up to there."""
    positions: list[tuple[str, int, int]] = msgspec.field(default_factory=list)
    """Those of the idle groups, in place of the ones in their checkpoints."""
    sequence_number: int = 0
    """That of the idle groups, likewise."""
    format: int = _FORMAT

    @property
    def has_ids(self) -> bool:
        """Whether any of them has trade ids."""
        return any(place.id_files for places in self.groups.values() for place in places)

    @property
    def files(self) -> frozenset[str]:
        """The names of their files."""
        every = (place for places in self.groups.values() for place in places)
        return frozenset(file for place in every for file in (place.file, *place.id_files))


def parse_named_checkpoints(text: str) -> NamedCheckpoints:
    """Parse the text form of `NamedCheckpoints`; one that cannot be read names none, because none is needed."""
    try:
        return read_document(text, NamedCheckpoints, _FORMAT)
    except ValueError:
        return NamedCheckpoints()


def named_checkpoints_text(named: NamedCheckpoints) -> str:
    """Return the text form."""
    return msgspec.json.encode(named).decode()


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as bytes: its MessagePack form, packed."""
    return pack(msgspec.msgpack.encode(checkpoint))


def place_of(file: str, start: int, data: bytes, ids: SealedIds | None = None) -> CheckpointPlace:
    """Return the place of an encoded checkpoint in a file; `ids` are its trade ids."""
    blocks = () if ids is None else ids.blocks
    id_files = tuple(sorted({block.file for block in blocks if block.file is not None}))
    return CheckpointPlace(file, start, len(data), digest(data), id_files)


def decode_checkpoint(data: bytes, place: CheckpointPlace) -> Checkpoint:
    """Decode the bytes at a place.

    Raises:
        CheckpointError: they are not the bytes that were written there, or have another format version.
    """
    if len(data) != place.size or digest(data) != place.digest:
        raise CheckpointError(f"{place.file} is torn or was changed")
    try:
        checkpoint = msgspec.msgpack.decode(unpack(data), type=Checkpoint)
    except (msgspec.MsgspecError, ValueError, OSError, MemoryError, OverflowError) as error:
        raise CheckpointError(f"{place.file} cannot be read: {error}") from error
    if checkpoint.format != _FORMAT:
        raise CheckpointError(f"{place.file} has format {checkpoint.format}; this version reads {_FORMAT}")
    return checkpoint


def checkpoint_location(table: Table, file: str) -> str:
    """Return the address of a file of checkpoints of a table."""
    return table.location_provider().new_metadata_location(file)


def read_checkpoint(table: Table, place: CheckpointPlace) -> Checkpoint:
    """Read the checkpoint of a table at a place.

    Raises:
        CheckpointError: it is gone, not what was written, or not of this table or number of key groups.
        OSError: the store did not answer.
    """
    checkpoint = decode_checkpoint(_read(table, place.file, place.start, place.size), place)
    if checkpoint.table != str(table.metadata.table_uuid):
        raise CheckpointError(f"{place.file} belongs to table {checkpoint.table}")
    if checkpoint.groups != GROUPS:
        raise CheckpointError(f"{place.file} was written for {checkpoint.groups} key groups")
    return checkpoint


def read_id_block(table: Table, block: IdBlock) -> bytes:
    """Read the bytes of a block of trade ids of a table.

    Raises:
        CheckpointError: they are gone, or not what was written.
        OSError: the store did not answer.
    """
    assert block.file is not None, "a checkpoint names blocks that were written"
    data = _read(table, block.file, block.start, block.size)
    if digest(data) != block.digest:
        raise CheckpointError(f"{block.file} is torn or was changed")
    return data


def _read(table: Table, file: str, start: int, size: int) -> bytes:
    try:
        with table.io.new_input(checkpoint_location(table, file)).open() as stream:
            stream.seek(start)
            return stream.read(size)
    except (FileNotFoundError, PermissionError) as error:
        raise CheckpointError(f"{file} cannot be opened: {first_line(error)}") from error

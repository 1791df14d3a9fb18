"""The writer of checkpoints: puts the states of a writer's key groups into a file before the commit that names them."""

import contextlib
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import structlog
from pyiceberg.table import Table

from k2.iceberg.pending_commit import WriterProgress
from k2.model.state_source import GroupState, IdBlock, SealedIds
from k2.ops.failpoints import failpoint
from k2.ops.metrics import CHECKPOINT_TIME
from k2.ops.retry import OnRetry, retried
from k2.storage.catalog_errors import CATALOG_TRANSIENT
from k2.storage.checkpoints import (
    CHECKPOINTS_KEPT,
    Checkpoint,
    CheckpointPlace,
    NamedCheckpoints,
    checkpoint_location,
    encode_checkpoint,
    place_of,
)
from k2.storage.table_properties import CHECKPOINTS, LEDGER_ID

__all__ = ["CheckpointWriter", "CommittedPoint"]

IDLE_SECONDS: Final = 120.0
"""Time after which a commit without a new state names the offset up to which idle groups are complete."""
_log: Final = structlog.get_logger()


class CommittedPoint(NamedTuple):
    """What the writer had committed at some moment: its offsets, and the version of the table."""

    positions: list[tuple[str, int, int]]
    """Topic, partition and next offset."""
    sequence_number: int
    """The table's Iceberg sequence number."""

    @classmethod
    def now(cls, table: Table, committed: WriterProgress) -> "CommittedPoint":
        """Return the point of the offsets `committed` in the table as it was last read."""
        positions = [(one.topic, one.partition, entry.offset) for one, entry in committed.items()]
        return cls(positions, table.metadata.next_sequence_number() - 1)


class CheckpointWriter:
    """The checkpoints of one writer's key groups.

    A state that arrives in an epoch has seen all rows of its group of the epochs before. But the ledger may still write
    the events of the last one of them: the last epoch of a run closes without the next one. So the positions of a
    checkpoint are those at which the epoch before began; by then, the ledger had all events of the rows below.
    """

    def __init__(self, writer: str, properties: Mapping[str, str], on_retry: OnRetry | None = None) -> None:
        """Continue from the checkpoints that the table names in its `properties`."""
        self._writer = writer
        self._named = CHECKPOINTS.read(properties, writer)
        self._on_retry = on_retry
        self._states: dict[int, Checkpoint] = {}
        self._new_ids: dict[str, bytes] = {}
        """Blocks of trade ids that have not been written yet, by digest."""
        self._written_ids: dict[str, IdBlock] = {}
        """Those that this run has written and that are in use, by digest."""
        self._with_rows_since = {*self._named.groups}
        """Groups that may have rows after their newest checkpoint."""
        self._written_at = time.monotonic()
        CHECKPOINT_TIME.labels(writer).set_to_current_time()
        self._files = self._named.files
        self._previous_start: CommittedPoint | None = None
        """What was committed when the previous epoch began; None in the first one."""

    def add(self, table: Table, group: int, state: GroupState, committed: WriterProgress) -> None:
        """Add a state that has seen all rows of its group below the offsets `committed`; it is in the next commit."""
        point = CommittedPoint.now(table, committed) if self._previous_start is None else self._previous_start
        assert state.deduplicate is not None, "the deduplicator has added its state"
        self._states[group] = Checkpoint(
            str(table.metadata.table_uuid),
            LEDGER_ID.read(table.metadata.properties),
            group,
            *point,
            # Their positions are those of this run; a recovery store that continues from here has its own.
            {**state.sequence, "positions": []},
            {**state.deduplicate, "positions": []},
            state.ids,
        )
        if state.ids is not None and state.new_ids is not None:
            self._new_ids[state.ids.blocks[-1].digest] = state.new_ids
        self._with_rows_since.discard(group)

    def end_epoch(self, began: CommittedPoint) -> None:
        """Note that an epoch has ended, and what was committed when it began."""
        self._previous_start = began

    def note_rows(self, group: int) -> None:
        """Note that a group has rows after the state that was added last."""
        self._with_rows_since.add(group)

    def write(self, table: Table, commit_id: str, committed: WriterProgress) -> dict[str, str]:
        """Write the added states to a file; return the property that names them, to be set by the commit `commit_id`.

        `committed` are the offsets before that commit. Without an added state, idle groups advance every
        `IDLE_SECONDS`; no file is written then.

        Raises:
            UnreachableError: the store did not answer, after retries.
        """
        idle = sorted({*self._named.groups, *self._states} - self._with_rows_since)
        if not self._states and (not idle or time.monotonic() - self._written_at < IDLE_SECONDS):
            return {}
        named = self._write_states(table, commit_id) if self._states else self._named.groups
        self._named = NamedCheckpoints(named, idle, *CommittedPoint.now(table, committed))
        self._written_at = time.monotonic()
        CHECKPOINT_TIME.labels(self._writer).set_to_current_time()
        return CHECKPOINTS.set_to(self._named, self._writer)

    def _write_states(self, table: Table, commit_id: str) -> dict[int, list[CheckpointPlace]]:
        """Write the added states to a file; return the places to be named."""
        file, data, named = f"checkpoints-{commit_id}.bin", bytearray(), dict(self._named.groups)
        for group, checkpoint in sorted(self._states.items()):
            ids = None if checkpoint.ids is None else self._placed(checkpoint.ids, file, data)
            encoded = encode_checkpoint(msgspec.structs.replace(checkpoint, ids=ids))
            named[group] = [place_of(file, len(data), encoded, ids), *named.get(group, ())][:CHECKPOINTS_KEPT]
            data += encoded
        retried(
            "writing a checkpoint",
            lambda: _create(table, checkpoint_location(table, file), bytes(data)),
            also=CATALOG_TRANSIENT,
            on_retry=self._on_retry,
        )
        failpoint("checkpoint.written")
        self._states, self._new_ids = {}, {}
        self._files |= {file}
        return named

    def _placed(self, ids: SealedIds, file: str, data: bytearray) -> SealedIds:
        """Return the ids with the file and start of each block; append the bytes of new blocks to `data`."""
        blocks = []
        for block in ids.blocks:
            found = block
            if block.file is None and block.digest not in self._written_ids:
                found = msgspec.structs.replace(block, file=file, start=len(data))
                self._written_ids[block.digest] = found
                data += self._new_ids[block.digest]
            elif block.file is None:
                found = self._written_ids[block.digest]
            blocks.append(found)
        return msgspec.structs.replace(ids, blocks=tuple(blocks))

    def remove_unnamed(self, table: Table) -> None:
        """Remove the files that the table no longer names; one that cannot be removed is left there."""
        named = self._named.files
        self._written_ids = {one: block for one, block in self._written_ids.items() if block.file in named}
        for file in self._files - named:
            with contextlib.suppress(Exception):
                table.io.delete(checkpoint_location(table, file))
                _log.debug("checkpoint_removed", file=file)
        self._files = named


def _create(table: Table, location: str, data: bytes) -> None:
    with table.io.new_output(location).create(overwrite=True) as stream:
        stream.write(data)

"""The newest readable checkpoint of each key group."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec
import structlog
from pyiceberg.table import Table

from k2.dedup.deduplicator import FORMAT as DEDUPLICATOR_FORMAT
from k2.model.key_groups import GROUPS
from k2.model.progress import Progress, TopicPartition
from k2.model.state_source import Positions
from k2.model.wording import format_count
from k2.ops.retry import retried
from k2.sequencing.tracker import FORMAT as TRACKER_FORMAT
from k2.storage.catalog_errors import CATALOG_TRANSIENT
from k2.storage.checkpoints import Checkpoint, CheckpointError, CheckpointPlace, NamedCheckpoints, read_checkpoint
from k2.storage.table_properties import CHECKPOINTS, LEDGER_ID

__all__ = ["Checkpoints", "find_checkpoints"]

_LOG: Final = structlog.get_logger()


class Checkpoints(NamedTuple):
    """What the checkpoints of a table provide to a start without a recovery store."""

    groups: Mapping[int, Checkpoint]
    """By key group; all that can have rows, or none."""
    missing: tuple[int, ...]
    """Key groups that can have rows, and have no checkpoint of use: the whole table is to be read."""
    positions: Positions
    """The offset in each topic partition from which rows are to be read."""
    committed_after: int
    """These rows were committed with a higher Iceberg sequence number."""
    offsets_after: int
    """The number of offsets from `positions` to the table's progress."""
    unreadable: tuple[str, ...] = ()
    """Why newer checkpoints could not be read, one sentence for each file."""

    @property
    def start_without_store(self) -> str:
        """What a start without a recovery store reads, in words."""
        if self.groups:
            return f"reads the checkpoints, and the rows of {format_count(self.offsets_after, 'offset')} since"
        if self.missing:
            return f"reads all rows of the table: {format_count(len(self.missing), 'key group')} without a checkpoint"
        return "continues from the table, which has no rows"

    def of_writer(self, writer: str, writers: int) -> Positions:
        """Return the offsets up to which the groups of a writer have seen all of their rows."""
        return _lowest(one for group, one in self.groups.items() if str(group % writers) == writer)


def find_checkpoints(table: Table, progress: Progress, writers: int) -> Checkpoints:
    """Return the newest checkpoint of each key group of a table with that progress.

    Raises:
        UnreachableError: the store did not answer, after retries.
    """
    found, unreadable = _read_newest(table) if CHECKPOINTS.read_all(table.metadata.properties) else ({}, ())
    # A writer that has not committed yet has no rows, and no checkpoint.
    needed = {group for group in range(GROUPS) if progress.of(str(group % writers))}
    missing = tuple(sorted(needed - {*found}))
    if missing or not found:
        return Checkpoints({}, missing, {}, 0, 0, unreadable)
    positions = _lowest(found.values())
    return Checkpoints(
        found,
        (),
        positions,
        min(one.sequence_number for one in found.values()),
        sum(_end(progress, one) - positions.get(one, progress.start(one) or 0) for one in progress.partitions()),
        unreadable,
    )


def _end(progress: Progress, topic_partition: TopicPartition) -> int:
    """Return the highest committed offset of a topic partition."""
    return max(entries[topic_partition].offset for entries in progress.writers.values() if topic_partition in entries)


def _read_newest(table: Table) -> tuple[Mapping[int, Checkpoint], tuple[str, ...]]:
    """Return the newest checkpoint of each key group that can be used, and why newer ones could not be read.

    One that cannot be read is logged, and the one before it is used. One of a ledger that was dropped since is of no
    use: the new ledger lacks the events of the rows that it has seen.
    """
    found: dict[int, Checkpoint] = {}
    errors: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for named in CHECKPOINTS.read_all(table.metadata.properties):
        for group, places in named.groups.items():
            for place in places:
                try:
                    checkpoint = _read(table, group, place)
                except CheckpointError as error:
                    errors[place.file, str(error)].append(group)
                else:
                    is_idle = group in named.idle and place is places[0]
                    found[group] = _complete_to(checkpoint, named) if is_idle else checkpoint
                    break
    for (file, text), groups in errors.items():
        effect = "the checkpoint before is used, or the rows of the table"
        _LOG.warning("checkpoint_unreadable", file=file, groups=groups, error=text, effect=effect)
    ledger = LEDGER_ID.read(table.metadata.properties)
    usable = {group: checkpoint for group, checkpoint in found.items() if checkpoint.ledger == ledger}
    return usable, tuple(text for _, text in errors)


def _lowest(checkpoints: Iterable[Checkpoint]) -> Positions:
    """Return the offset in each topic partition below which all checkpoints have seen their rows; 0 if absent."""
    lowest: dict[TopicPartition, int] | None = None
    for offsets in (one.offsets for one in checkpoints):
        known = offsets if lowest is None else lowest
        lowest = {one: min(offsets[one], known[one]) for one in offsets if one in known}
    return lowest or {}


def _complete_to(checkpoint: Checkpoint, named: NamedCheckpoints) -> Checkpoint:
    """Return the checkpoint of a group that had no rows since, at the position up to which that is known."""
    return msgspec.structs.replace(checkpoint, positions=named.positions, sequence_number=named.sequence_number)


def _read(table: Table, group: int, place: CheckpointPlace) -> Checkpoint:
    checkpoint = retried("reading a checkpoint", lambda: read_checkpoint(table, place), also=CATALOG_TRANSIENT)
    if checkpoint.group != group:
        raise CheckpointError(f"{place.file} has the state of group {checkpoint.group} in place of {group}")
    formats = checkpoint.sequence.get("format"), checkpoint.deduplicate.get("format")
    if formats != (TRACKER_FORMAT, DEDUPLICATOR_FORMAT):
        raise CheckpointError(f"{place.file} has states of formats {formats}, which this version does not read")
    return checkpoint

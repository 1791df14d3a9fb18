"""The newest readable checkpoint of each key group."""

from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from pyiceberg.table import Table

from k2.dedup.deduplicator import FORMAT as DEDUPLICATOR_FORMAT
from k2.sequencing.tracker import FORMAT as TRACKER_FORMAT
from k2.storage.checkpoints import Checkpoint, CheckpointError, CheckpointPlace, read_checkpoint
from k2.storage.table_properties import CHECKPOINTS

__all__ = ["named_groups", "read_checkpoints"]

_LOG: Final = structlog.get_logger()


def named_groups(table: Table) -> frozenset[int]:
    """Return the key groups of which the table names a checkpoint."""
    return frozenset(group for named in CHECKPOINTS.read_all(table.metadata.properties) for group in named.groups)


def read_checkpoints(table: Table) -> Mapping[int, Checkpoint]:
    """Return the newest checkpoint of each key group that can be read.

    One that cannot be read is logged, and the one before it is used.
    """
    found = {}
    for named in CHECKPOINTS.read_all(table.metadata.properties):
        for group, places in named.groups.items():
            checkpoint = _newest(table, group, places)
            if checkpoint is not None:
                found[group] = checkpoint
    return found


def _newest(table: Table, group: int, places: Iterable[CheckpointPlace]) -> Checkpoint | None:
    for place in places:
        try:
            checkpoint = read_checkpoint(table, place)
            _check(checkpoint, group, place)
        except (CheckpointError, OSError) as error:
            _LOG.warning(
                "checkpoint_unreadable",
                group=group,
                file=place.file,
                error=str(error),
                effect="the one before it is used, or the rows of the table",
            )
        else:
            return checkpoint
    return None


def _check(checkpoint: Checkpoint, group: int, place: CheckpointPlace) -> None:
    if checkpoint.group != group:
        raise CheckpointError(f"{place.file} has the state of group {checkpoint.group} in place of {group}")
    formats = checkpoint.sequence.get("format"), checkpoint.deduplicate.get("format")
    if formats != (TRACKER_FORMAT, DEDUPLICATOR_FORMAT):
        raise CheckpointError(f"{place.file} has states of formats {formats}, this version reads others")

"""The newest readable checkpoint of each key group."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog
from pyiceberg.table import Table

from k2.dedup.deduplicator import FORMAT as DEDUPLICATOR_FORMAT
from k2.sequencing.tracker import FORMAT as TRACKER_FORMAT
from k2.storage.checkpoints import Checkpoint, CheckpointError, CheckpointPlace, NamedCheckpoints, read_checkpoint
from k2.storage.table_properties import CHECKPOINTS, LEDGER_ID

__all__ = ["read_checkpoints"]

_LOG: Final = structlog.get_logger()


def read_checkpoints(table: Table) -> Mapping[int, Checkpoint]:
    """Return the newest checkpoint of each key group that can be used.

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
                except (CheckpointError, OSError) as error:
                    errors[place.file, str(error)].append(group)
                else:
                    is_idle = group in named.idle and place is places[0]
                    found[group] = _moved_to(checkpoint, named) if is_idle else checkpoint
                    break
    for (file, text), groups in errors.items():
        effect = "the checkpoint before is used, or the rows of the table"
        _LOG.warning("checkpoint_unreadable", file=file, groups=groups, error=text, effect=effect)
    ledger = LEDGER_ID.read(table.metadata.properties)
    return {group: checkpoint for group, checkpoint in found.items() if checkpoint.ledger == ledger}


def _moved_to(checkpoint: Checkpoint, named: NamedCheckpoints) -> Checkpoint:
    """Return the checkpoint of a group that had no rows since, at the position up to which that is known."""
    return msgspec.structs.replace(checkpoint, positions=named.positions, sequence_number=named.sequence_number)


def _read(table: Table, group: int, place: CheckpointPlace) -> Checkpoint:
    checkpoint = read_checkpoint(table, place)
    if checkpoint.group != group:
        raise CheckpointError(f"{place.file} has the state of group {checkpoint.group} in place of {group}")
    formats = checkpoint.sequence.get("format"), checkpoint.deduplicate.get("format")
    if formats != (TRACKER_FORMAT, DEDUPLICATOR_FORMAT):
        raise CheckpointError(f"{place.file} has states of formats {formats}, which this version does not read")
    return checkpoint

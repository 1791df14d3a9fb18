"""The state of a sink in the recovery store: the table that it writes, and the writer's offsets in it."""

from collections.abc import Mapping
from typing import Any, Final

from k2.iceberg.pending_commit import WriterProgress
from k2.model.errors import StateError
from k2.model.progress import TopicPartition

__all__ = ["check_recovered", "check_resume", "resume_state"]

STATE_FORMAT: Final = 1


def resume_state(committed: WriterProgress, table_id: str) -> dict[str, Any]:
    """Return the state of a sink's snapshot: the table that it writes, and the writer's offsets in it."""
    offsets = {str(topic_partition): entry.offset for topic_partition, entry in committed.items()}
    return {"format": STATE_FORMAT, "table": table_id, "offsets": offsets}


def check_resume(state: Mapping[str, Any] | None, committed: WriterProgress, table: str, table_id: str) -> None:
    """Reject a recovery store that is ahead of the table; an older one is accepted, because it is replayed.

    Raises:
        StateError: the store is ahead of the table, of another table, or of a later format.
    """
    if state is None:
        return
    if state.get("format") != STATE_FORMAT:
        raise StateError(f"the recovery store holds format {state.get('format')}; this version reads {STATE_FORMAT}")
    offsets = {TopicPartition.parse(name): offset for name, offset in state["offsets"].items()}
    check_recovered(offsets, state.get("table"), committed, table, table_id)


def check_recovered(
    offsets: Mapping[TopicPartition, int], recorded_id: str | None, committed: WriterProgress, table: str, table_id: str
) -> None:
    """Reject a writer's recorded offsets as `check_resume` does; `recorded_id` is None if it was not recorded.

    Raises:
        StateError: the store is ahead of the table, or of another table.
    """
    if recorded_id not in {None, table_id}:
        raise StateError(
            f"the recovery store is of another table than {table}: the table was dropped and recreated, or "
            "K2_NAMESPACE, K2_CATALOG or K2_DATA_DIR has changed; set them back, or create a new store with "
            "`k2 recovery init DIR`"
        )
    for topic_partition, offset in sorted(offsets.items()):
        committed_offset = committed[topic_partition].offset if topic_partition in committed else None
        if committed_offset is None or offset > committed_offset:
            raise StateError(
                f"the recovery store is ahead of table {table}: {topic_partition} at offset {offset}, the table at "
                f"{'none' if committed_offset is None else committed_offset}; run `k2 recovery status`, then "
                "`k2 recovery restore` or `init`"
            )

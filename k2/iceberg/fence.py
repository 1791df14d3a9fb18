"""Fences: an instance commits only on top of what it committed or read itself."""

from pyiceberg.table.metadata import TableMetadata

from k2.iceberg.pending_commit import PendingCommit, WriterProgress
from k2.model.errors import FencedError
from k2.model.progress import PartitionProgress
from k2.storage.table_properties import FENCING_TOKEN

__all__ = ["FencingTokenGuard", "check_fence"]


def check_fence(table: str, writer: str, found: WriterProgress, own: WriterProgress) -> None:
    """Compare a writer's progress in the table with the progress that this instance expects.

    Raises:
        FencedError: they differ, so another live instance has committed; the message has both sides.
    """
    for topic_partition in sorted({*found, *own}):
        if found.get(topic_partition) != own.get(topic_partition):
            raise FencedError(
                f"another instance writes to table {table} as writer {writer}: {topic_partition} is at offset "
                f"{_describe(found.get(topic_partition))}, this instance left it at "
                f"{_describe(own.get(topic_partition))}; stop one of the two and restart the other"
            )


def _describe(entry: PartitionProgress | None) -> str:
    return "none" if entry is None else f"{entry.offset} with {entry.received} received"


class FencingTokenGuard:
    """Rejects commits once another instance has set the table's fencing token."""

    def __init__(self, token: str | None) -> None:
        self.token = token
        """The token that this instance found when it started, or set itself."""

    def __call__(self, table: str, metadata: TableMetadata, _pending: PendingCommit) -> None:
        """Compare the tokens.

        Raises:
            FencedError: they differ, so another instance has started since, and rolled the ledger back.
        """
        found = FENCING_TOKEN.read(metadata.properties)
        if found != self.token:
            raise FencedError(
                f"another instance writes to table {table}: it started after this one, and rolled back events that "
                f"this one has in the ledger (fencing token {found}, expected {self.token}); stop one of the two and "
                "restart the other"
            )

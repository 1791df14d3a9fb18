"""Where partitions begin that nothing has read: on record in the table, before the first message is read."""

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.model.partition_starts import PartitionStarts, is_new_topic
from k2.storage.table_properties import PARTITION_STARTS

__all__ = ["remember_starts"]


def remember_starts(committer: Committer, decided: PartitionStarts) -> PartitionStarts:
    """Return the starts on record; record those `decided` of topics that have none, all partitions of a topic at once.

    The first record of a topic stays, also against another process of the cluster that starts at the same time.
    """

    def act(table: Table) -> PartitionStarts:
        known = PARTITION_STARTS.read(table.metadata.properties)
        new = {where: start for where, start in decided.items() if is_new_topic(where.topic, known)}
        if new:
            with table.transaction() as transaction:
                transaction.set_properties(PARTITION_STARTS.set_to({**known, **new}))
        return {**known, **new}

    return committer.change("recording where partitions begin", act, also=(CommitFailedException,))

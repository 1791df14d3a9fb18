"""What the table has on record of its topics: Kafka's id of each when it was first read, and how it is decoded."""

from collections.abc import Mapping

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.decoding import check_decoding
from k2.iceberg.table_progress import progress_of
from k2.storage.table_properties import DECODING, TOPIC_IDS

__all__ = ["remember_topics"]


def remember_topics(
    committer: Committer, ids: Mapping[str, str], decoding: Mapping[str, str], writers: int
) -> dict[str, str]:
    """Return the topic ids on record; record those of new topics, and how topics are decoded from now on, at once.

    Nothing is recorded if a topic has another id than the one on record: that is another topic, for the caller to
    reject.

    Raises:
        StateError: the decoding has changed for a topic of which one writer has committed more than another.
    """

    def act(table: Table) -> dict[str, str]:
        properties = table.metadata.properties
        known_ids, known = TOPIC_IDS.read(properties), DECODING.read(properties)
        if any(known_ids.get(topic, found) != found for topic, found in ids.items()):
            return known_ids
        check_decoding(progress_of(table), known, decoding, writers)
        changes: dict[str, str] = {}
        if not ids.keys() <= known_ids.keys():
            changes |= TOPIC_IDS.set_to({**ids, **known_ids})
        if {**known, **decoding} != known:
            changes |= DECODING.set_to({**known, **decoding})
        if changes:
            with table.transaction() as transaction:
                transaction.set_properties(changes)
        return {**ids, **known_ids}

    return committer.change("recording the topics", act, also=(CommitFailedException,))

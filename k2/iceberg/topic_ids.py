"""The Kafka ids of the topics, recorded in the table when each topic is first read."""

from collections.abc import Mapping

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.storage.table_properties import TOPIC_IDS

__all__ = ["remember_topics"]


def remember_topics(committer: Committer, ids: Mapping[str, str]) -> dict[str, str]:
    """Return the topic ids recorded in the table; record those of `ids` whose topic it does not have yet."""

    def act(table: Table) -> dict[str, str]:
        known = TOPIC_IDS.read(table.metadata.properties)
        if ids.keys() <= known.keys():
            return known
        with table.transaction() as transaction:
            transaction.set_properties(TOPIC_IDS.set_to({**ids, **known}))
        return {**ids, **known}

    return committer.change("recording topic ids", act, also=(CommitFailedException,))

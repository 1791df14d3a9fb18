"""What every life needs, imported and compiled once before the first is forked."""

import numpy as np
import pyiceberg.catalog.sql  # noqa: F401  imported late by the catalog
import pyiceberg_core.transform  # noqa: F401  imported late by day partitions
import sqlalchemy.dialects.sqlite  # noqa: F401  imported late by the catalog

from k2.dedup.deduplicator import GroupDeduplicator
from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.column_buffer import ColumnBuffer
from k2.iceberg.tables import _TRADES
from k2.kafka.reader import to_batch
from k2.model.progress import TopicPartition
from k2.sequencing.tracker import GroupTracker
from k2.venues.decode import decode
from k2.venues.slices import split
from tests.simulation.market import publish
from tests.simulation.source import fetched, row

__all__ = ["warm"]

SEEDS = 4


def warm() -> None:
    """Process some markets through the rules and into columns; start no thread."""
    buffer = ColumnBuffer(arrow_schema(_TRADES))
    for seed in range(SEEDS):
        for (topic, partition), log in publish(seed, multi_partition=False).logs.items():
            polled = fetched([row(message) for message in log.messages])
            batch = to_batch(TopicPartition(topic, partition), log.venue, 0, polled)
            for piece in split(decode(batch).trades):
                unique = GroupDeduplicator(1_000_000).deduplicate(GroupTracker().track(piece).trade_slice)
                buffer.add(unique, np.arange(len(unique)))
    assert [list(one.parts()) for one in buffer.drain()]

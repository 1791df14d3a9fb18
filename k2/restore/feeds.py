"""What the tables have of feeds, for a start."""

import threading
from collections.abc import Iterable, Mapping

from pyiceberg.table import Table

from k2.iceberg.table_progress import progress_of
from k2.model.feeds import FeedKey, FeedRange, FeedTopic
from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import Positions, Ranges
from k2.ops.settings import Settings
from k2.query.feed_gaps import missing_of_feeds, register_feed_events
from k2.query.pool import open_engine
from k2.storage.catalog import find_table
from k2.storage.table_properties import FEEDS

__all__ = ["TableFeedSource"]


class TableFeedSource:
    """The feeds in the table as it was when the process started; safe to use from several worker threads."""

    def __init__(self, settings: Settings, trades: Table) -> None:
        """Read the properties of `trades` now, before the job commits anything."""
        self._settings = settings
        self._lock = threading.Lock()
        progress, properties = progress_of(trades), trades.metadata.properties
        writers = range(settings.writers)
        self._states = [FEEDS.read(properties, str(writer)) for writer in writers]
        self._committed: list[Positions] = [
            {one: entry.offset for one, entry in progress.of(str(writer)).items()} for writer in writers
        ]
        self._missing: Mapping[FeedKey, Ranges] | None = None

    @property
    def topics(self) -> tuple[FeedTopic, ...]:
        """The feeds that are read."""
        return self._settings.feeds

    def ranges(self, group: int) -> Iterable[FeedRange]:
        """Return the ranges of a group as of its committed offsets."""
        return self._states[group % self._settings.writers].ranges(group, self.committed(group))

    def events(self, group: int) -> Iterable[SequenceEvent]:
        """Return the events of the last commits of a group's writer, which the ledger may lack."""
        return self._states[group % self._settings.writers].events(group)

    def committed(self, group: int) -> Positions:
        """Return the committed offset of each topic partition for a group."""
        return self._committed[group % self._settings.writers]

    def missing(self) -> Mapping[FeedKey, Ranges]:
        """Return the numbers that feeds did not bring, by the ledger; call this after the ledger is rolled back."""
        with self._lock:
            if self._missing is None:
                self._missing = self._read_missing()
            return self._missing

    def _read_missing(self) -> Mapping[FeedKey, Ranges]:
        table = find_table(self._settings, "sequence_events")
        if table is None:
            return {}
        with open_engine(self._settings) as engine:
            register_feed_events(engine, table)
            return missing_of_feeds(engine)

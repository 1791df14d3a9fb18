"""What the tables have of feeds, for a start."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from k2.model.feeds import FeedKey, FeedRange, FeedTopic
from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import Ranges
from k2.ops.settings import Settings
from k2.restore.writer_states import WriterStates
from k2.sequencing.feed_states import FeedStates
from k2.storage.table_properties import FEEDS

if TYPE_CHECKING:
    from k2.query.engine import Engine

__all__ = ["TableFeedSource"]


class TableFeedSource(WriterStates[FeedStates, FeedKey]):
    """The feeds in the table as it was when the process started; its missing numbers are those of feeds."""

    def __init__(self, settings: Settings, trades: Table) -> None:
        """Read the properties of `trades` now, before the job commits anything."""
        super().__init__(settings, trades, FEEDS, _missing)
        self.topics: tuple[FeedTopic, ...] = settings.feeds
        """The feeds that are read."""

    def ranges(self, group: int) -> Iterable[FeedRange]:
        """Return the ranges of a group as of its committed offsets."""
        return self.state(group).ranges(group, self.committed(group))

    def events(self, group: int) -> Iterable[SequenceEvent]:
        """Return the events of the last commits of a group's writer, which the ledger may lack."""
        return self.state(group).events(group)


def _missing(engine: "Engine", ledger: Table) -> Mapping[FeedKey, Ranges]:
    from k2.query.feed_gaps import missing_of_feeds, register_feed_events  # noqa: PLC0415  as in `k2.restore.queries`

    register_feed_events(engine, ledger)
    return missing_of_feeds(engine)

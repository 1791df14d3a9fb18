"""Numbers that feeds passed over and have not brought, by the ledger."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

from pyiceberg.table import Table

from k2.model.feeds import FeedKey
from k2.model.state_source import Ranges
from k2.query.engine import Engine
from k2.query.where_clauses import equal
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.ranges import difference

__all__ = ["missing_of_feeds", "register_feed_events"]


def register_feed_events(engine: Engine, ledger: Table, exchange: str | None = None, symbol: str | None = None) -> None:
    """Register at least the ledger's rows of an exchange and symbol as `sequence_events`."""
    engine.register("sequence_events", ledger, row_filter=equal(exchange=exchange, symbol=symbol))


def missing_of_feeds(engine: Engine) -> Mapping[FeedKey, Ranges]:
    """Return the numbers that each feed has not brought, by the events registered as `sequence_events`.

    An event that is there twice, as a crash may leave it, changes nothing.
    """
    return {key: _missing([*events]) for key, events in groupby(engine.query(_EVENTS), key=_key)}


def _missing(events: list[dict[str, Any]]) -> Ranges:
    opened, filled = IntervalSet(), IntervalSet()
    for event in events:
        kind = opened if event["event"] == _GAP else filled
        kind.add_range(event["first_sequence"], event["last_sequence"])
    return difference(tuple(opened.ranges()), tuple(filled.ranges()))


def _key(event: Mapping[str, Any]) -> FeedKey:
    return FeedKey(event["exchange"], event["symbol"], event["session"], event["topic"])


_GAP: Final = "feed_gap"
_FILLED: Final = "feed_gap_filled"
_EVENTS: Final = f"""
    SELECT exchange, symbol, session, topic, event, first_sequence, last_sequence
    FROM sequence_events WHERE event IN ('{_GAP}', '{_FILLED}')
    ORDER BY exchange, symbol, session, topic, first_sequence
"""

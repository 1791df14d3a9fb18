"""Gaps in the numbers of connections: messages that were lost between the venue and Kafka."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from pyiceberg.table import Table

from k2.model.connections import ConnectionKey
from k2.model.state_source import Ranges
from k2.model.times import time_of
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryError
from k2.query.parameters import AsOf
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import existing_table
from k2.query.where_clauses import equal
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.ranges import difference

__all__ = ["ConnectionGap", "ConnectionLoss", "connection_gaps", "losses", "missing_of_connections"]


@dataclass(frozen=True, slots=True)
class ConnectionGap:
    """Numbers of a connection that are missing: `first_number` to `last_number` inclusive."""

    exchange: str
    topic: str
    connection: str
    """The connection's id; without one `topic:partition`."""
    session: int
    """1; of connections without an id, which of them in the partition it was."""
    first_number: int
    last_number: int
    missing: int
    """Number of messages that are missing; what they said is not known."""
    timestamp: datetime
    """Kafka timestamp of the message after the gap."""
    partition: int
    offset: int
    """Offset of that message."""
    detected_at: datetime
    """When the job committed the event."""


@dataclass(frozen=True, slots=True)
class ConnectionLoss:
    """Messages of an exchange's connections that were lost between the venue and Kafka; their content is not known."""

    exchange: str
    messages: int
    ranges: int

    @property
    def sentence(self) -> str:
        """The same in words."""
        messages = format_count(self.messages, "message")
        return f"loss between venue and Kafka: {messages} of {self.exchange}, of unknown content"


def losses(found: Iterable[ConnectionGap]) -> list[ConnectionLoss]:
    """Return the sums of each exchange, in the order of their names."""
    by_exchange = groupby(sorted(found, key=_exchange), key=_exchange)
    grouped = [(exchange, [gap.missing for gap in gaps]) for exchange, gaps in by_exchange]
    return [ConnectionLoss(exchange, sum(missing), len(missing)) for exchange, missing in grouped]


def _exchange(gap: ConnectionGap) -> str:
    return gap.exchange


@retry_if_files_gone
def connection_gaps(
    settings: Settings,
    exchange: str | None = None,
    as_of: AsOf | None = None,
    *,
    pool: EnginePool | None = None,
) -> list[ConnectionGap]:
    """Return the messages of connections that are missing, by the events that the ledger has by `as_of`, or now.

    Raises:
        NoTableError: the ledger does not exist.
        QueryError: `as_of` is the id of a snapshot, not a time.
    """
    if isinstance(as_of, int):
        raise QueryError(f"as of snapshot {as_of}: messages of connections are only known as of a time; use a time")
    table: Table = existing_table(settings, "sequence_events", pool)
    with open_engine(settings, pool) as engine:
        engine.register("sequence_events", table, row_filter=equal(exchange=exchange))
        events = engine.query(_EVENTS, {"exchange": exchange, "as_of": as_of})
    filled: defaultdict[ConnectionKey, IntervalSet] = defaultdict(IntervalSet)
    for event in events:
        if event["event"] == _FILLED:
            filled[_key(event)].add_range(event["first_sequence"], event["last_sequence"])
    found = list[ConnectionGap]()
    for event in events:
        if event["event"] == _GAP:
            # A crash may have made the job write an event twice.
            known, (first, last) = filled[_key(event)], (event["first_sequence"], event["last_sequence"])
            found += [_gap(event, *one) for one in difference(((first, last),), tuple(known.overlap(first, last)))]
            known.add_range(first, last)
    return found


def missing_of_connections(engine: Engine) -> Mapping[ConnectionKey, Ranges]:
    """Return the missing numbers of each connection, by the events registered in the engine as `sequence_events`."""
    opened: defaultdict[ConnectionKey, IntervalSet] = defaultdict(IntervalSet)
    filled: defaultdict[ConnectionKey, IntervalSet] = defaultdict(IntervalSet)
    for event in engine.query(_EVENTS, {"exchange": None, "as_of": None}):
        kind = opened if event["event"] == _GAP else filled
        kind[_key(event)].add_range(event["first_sequence"], event["last_sequence"])
    return {key: difference(tuple(one.ranges()), tuple(filled[key].ranges())) for key, one in opened.items()}


def _key(event: Mapping[str, Any]) -> ConnectionKey:
    return ConnectionKey(event["exchange"], event["topic"], event["symbol"], event["session"])


def _gap(event: Mapping[str, Any], first: int, last: int) -> ConnectionGap:
    return ConnectionGap(
        *_key(event),
        first,
        last,
        last - first + 1,
        time_of(event["timestamp_us"]),
        event["partition"],
        event["offset"],
        time_of(event["detected_us"]),
    )


_GAP: Final = "connection_gap"
_FILLED: Final = "connection_gap_filled"
_EVENTS: Final = f"""
    SELECT exchange, topic, symbol, session, event, first_sequence, last_sequence, partition, "offset",
           epoch_us("timestamp") AS timestamp_us, epoch_us(detected_at) AS detected_us
    FROM sequence_events
    WHERE event IN ('{_GAP}', '{_FILLED}') AND exchange = coalesce($exchange, exchange)
      AND detected_at <= coalesce($as_of::TIMESTAMPTZ, detected_at)
    ORDER BY exchange, topic, symbol, session, first_sequence, detected_at
"""

"""Gaps in the sequence numbers: those open now or at an earlier time, those that were filled, and accepted ones."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from heapq import nlargest
from itertools import groupby
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.progress import Progress
from k2.model.state_source import Ranges, SessionKey
from k2.model.times import time_of
from k2.ops.settings import Settings
from k2.query.audit import progress_as_of
from k2.query.decisions import accepted_by_session, register_decisions
from k2.query.engine import Engine
from k2.query.offset_bounds import BELOW_OFFSET_BOUNDS, register_offset_bounds
from k2.query.parameters import AsOf
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table
from k2.query.where_clauses import between, equal
from k2.sequencing.acceptance import AcceptedRange, cut_by_acceptance
from k2.sequencing.gap_pieces import LedgerRange, Piece, pieces, still_open

__all__ = ["Gap", "GapFilter", "gaps", "has_ledger_events", "largest_gaps", "missing_of_span", "missing_ranges"]

_ALL_EVENTS: Final = "SELECT * FROM sequence_events"
_EVENTS_THEN: Final = f"{_ALL_EVENTS} {BELOW_OFFSET_BOUNDS}"


class GapFilter(StrEnum):
    """Which gaps to return."""

    OPEN = "open"
    FILLED = "filled"
    ACCEPTED = "accepted"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers that are or were missing: `first_sequence` to `last_sequence` inclusive.

    Times are the job's: the commit time of the ledger event (`detected_at`).
    """

    exchange: str
    symbol: str
    session: int
    first_sequence: int
    last_sequence: int
    missing: int
    """Number of missing sequence numbers."""
    opened_at: datetime
    filled_at: datetime | None
    """None if the gap is open."""
    open_seconds: float
    """Until it was filled or accepted, or until `as_of` or now."""
    accepted_at: datetime | None = None
    """When someone decided that the numbers will not come; None if the gap is open or filled."""
    reason: str | None = None
    """Of the decision."""
    decided_by: str | None = None
    timestamp: datetime | None = None
    """Venue time of the trade that showed the gap. This and what follows is None unless the gap was explained."""
    cause: str | None = None
    """A `GapCause`, by the evidence in the tables."""
    incident: str | None = None
    """Name of the incident: gaps of one cause and exchange, found within a minute."""
    fillable_until: datetime | None = None
    """Until when the venue has the trades; None if it is not known, or if the gap is not open."""
    fillable_numbers: int | None = None
    """How many newer numbers there may be until the venue no longer has the first; None if it keeps trades by time."""

    @property
    def is_open(self) -> bool:
        """Whether the numbers are missing, and not accepted."""
        return self.filled_at is None and self.accepted_at is None


@retry_if_files_gone
def gaps(
    settings: Settings,
    exchange: str | None = None,
    symbol: str | None = None,
    as_of: AsOf | None = None,
    which: GapFilter = GapFilter.OPEN,
    *,
    pool: EnginePool | None = None,
) -> list[Gap]:
    """Return gaps by the events of the ledger.

    An open gap is a maximal range of missing numbers; a filled gap is a maximal range that was opened at one time and
    filled at one time. A gap that is filled in the middle becomes two open ones and a filled one. An accepted gap is
    what one decision accepted of a missing range; it is not open. A number that comes after all is filled.
    With `as_of` as a time (with a time zone) only events detected by then count. With the id of a snapshot of the
    trades table, events of messages below the progress of that snapshot count, so that the result agrees with its
    trades; with the id of a snapshot of the ledger, the ledger is read as of that snapshot.

    Raises:
        NoTableError: the ledger does not exist.
        NoSnapshotError: neither table ever had the snapshot `as_of`.
        TableError: it was not created by the job.
    """
    now = datetime.now(UTC)
    with _ledger(settings, exchange, symbol, as_of, pool) as (engine, then):
        until = min(then.time or now, now)
        parameters = {
            "exchange": exchange,
            "symbol": symbol,
            "as_of": then.detected,
            "with_filled": which is not GapFilter.OPEN,
        }
        accepted = accepted_by_session(engine, exchange, symbol, then.decided)
        pieces_by_session = _pieces(engine, parameters, then.events)
        return [gap for key, cut in pieces_by_session for gap in _chosen(key, cut, accepted.get(key, ()), which, until)]


def largest_gaps(found: Iterable[Gap], limit: int) -> list[Gap]:
    """Return at most `limit` gaps: those of the most numbers, the largest first."""
    return nlargest(limit, found, key=lambda gap: gap.missing)


@retry_if_files_gone
def missing_of_span(
    settings: Settings, open_gaps: Sequence[Gap], start: datetime, end: datetime, *, pool: EnginePool | None = None
) -> int:
    """Return how many numbers of `open_gaps` were found missing by a trade with `start` <= venue time < `end`.

    Raises:
        NoTableError: the ledger does not exist.
    """
    if not open_gaps:
        return 0
    names = ["exchange", "symbol", "session", "first_sequence", "last_sequence"]
    ranges = pa.table({name: [getattr(gap, name) for gap in open_gaps] for name in names})
    ledger = existing_table(settings, "sequence_events", pool)
    with open_engine(settings, pool) as engine:
        engine.register("sequence_events", ledger, row_filter=between("timestamp", start, end))
        engine.register_arrow("open_gaps", ranges)
        (row,) = engine.query(_MISSING_OF_SPAN, {"start": start, "end": end})
        return int(row["missing"])


def missing_ranges(engine: Engine) -> Mapping[SessionKey, Ranges]:
    """Return the missing ranges of each session, by the events registered in the engine as `sequence_events`.

    They are the open and accepted ones of `gaps`, without times, which a start does not need and would wait for. For
    the rules a number that was accepted is missing, so that a late trade still fills its gap.
    """
    ranges: defaultdict[SessionKey, list[tuple[int, int]]] = defaultdict(list)
    for row in engine.query(_MISSING):
        of_session = ranges[SessionKey(row["exchange"], row["symbol"], row["session"])]
        if of_session and of_session[-1][1] + 1 == row["first"]:
            of_session[-1] = of_session[-1][0], row["last"]
        else:
            of_session.append((row["first"], row["last"]))
    return {key: tuple(found) for key, found in ranges.items()}


@retry_if_files_gone
def has_ledger_events(
    settings: Settings, exchange: str | None = None, symbol: str | None = None, as_of: AsOf | None = None
) -> bool:
    """Return whether the ledger has any event of an exchange or symbol; without one nothing can be missing."""
    with _ledger(settings, exchange, symbol, as_of) as (engine, then):
        parameters = {"exchange": exchange, "symbol": symbol, "as_of": then.detected}
        return bool(engine.query(f"WITH events AS ({then.events}) {_KNOWN}", parameters))


def _chosen(
    key: SessionKey, cut: list[Piece], accepted: Sequence[AcceptedRange], which: GapFilter, until: datetime
) -> list[Gap]:
    wants_all = which is GapFilter.ALL
    filled = (piece for piece in cut if piece.filled_at is not None and (wants_all or which is GapFilter.FILLED))
    missing = () if which is GapFilter.FILLED else cut_by_acceptance(still_open(cut), accepted)
    unfilled = ((piece, by) for piece, by in missing if wants_all or (by is not None) is (which is GapFilter.ACCEPTED))
    found = [*((piece, None) for piece in filled), *unfilled]
    return [_gap(key, piece, by, until) for piece, by in sorted(found, key=lambda one: one[0].first)]


def _pieces(
    engine: Engine, parameters: Mapping[str, object], events: str = _ALL_EVENTS
) -> Iterator[tuple[SessionKey, list[Piece]]]:
    rows = engine.query(f"WITH events AS ({events}) {_EVENTS}", parameters)
    for key, found in groupby(rows, key=lambda row: SessionKey(row["exchange"], row["symbol"], row["session"])):
        ranges = [*found]
        yield key, [*pieces(_ranges(ranges, "gap_opened"), _ranges(ranges, "gap_filled"))]


def _ranges(events: list[dict[str, Any]], kind: str) -> Iterator[LedgerRange]:
    return (LedgerRange(row["first"], row["last"], row["detected_us"]) for row in events if row["event"] == kind)


def _gap(key: SessionKey, piece: Piece, by: AcceptedRange | None, until: datetime) -> Gap:
    opened_at = time_of(piece.opened_at)
    filled_at = None if piece.filled_at is None else time_of(piece.filled_at)
    accepted_at = None if by is None else time_of(by.at)
    # The clocks of two hosts may differ, but nothing closes before it opens.
    seconds = max(0.0, ((filled_at or accepted_at or until) - opened_at).total_seconds())
    decision = (None, None, None) if by is None else (accepted_at, by.reason, by.decided_by)
    return Gap(*key, piece.first, piece.last, piece.last - piece.first + 1, opened_at, filled_at, seconds, *decision)


class _Then(NamedTuple):
    """How the ledger is restricted to an earlier state."""

    time: datetime | None
    detected: datetime | None = None
    """Only events detected by this time."""
    decided: datetime | None = None
    """Only decisions by this time."""
    snapshot_id: int | None = None
    """Snapshot of the ledger itself."""
    events: str = _ALL_EVENTS
    trades: Table | None = None
    progress: Progress = Progress()
    """Only events of messages below it."""


@contextmanager
def _ledger(
    settings: Settings, exchange: str | None, symbol: str | None, as_of: AsOf | None, pool: EnginePool | None = None
) -> Iterator[tuple[Engine, _Then]]:
    """Yield an engine with at least the ledger's rows of an exchange and symbol, registered as `sequence_events`."""
    table: Table = existing_table(settings, "sequence_events", pool)
    check_columns(table, _LEDGER_COLUMNS)
    then = _then(settings, table, as_of, pool)
    with open_engine(settings, pool) as engine:
        where = equal(exchange=exchange, symbol=symbol)
        engine.register("sequence_events", table, row_filter=where, snapshot_id=then.snapshot_id)
        register_decisions(engine, table, exchange, symbol, then.snapshot_id)
        if then.trades is not None:
            register_offset_bounds(engine, then.trades, then.progress, "sequence_events")
        yield engine, then


def _then(settings: Settings, ledger: Table, as_of: AsOf | None, pool: EnginePool | None) -> _Then:
    if not isinstance(as_of, int):
        return _Then(as_of, detected=as_of, decided=as_of)
    own = ledger.metadata.snapshot_by_id(as_of)
    if own is not None:
        return _Then(datetime.fromtimestamp(own.timestamp_ms / 1_000, UTC), snapshot_id=as_of)
    trades = existing_table(settings, "trades", pool)
    progress, time = progress_as_of(settings, trades, as_of, pool=pool)
    return _Then(time, decided=time, events=_EVENTS_THEN, trades=trades, progress=progress)


_LEDGER_COLUMNS: Final = (
    "exchange",
    "symbol",
    "session",
    "event",
    "first_sequence",
    "last_sequence",
    "topic",
    "partition",
    "offset",
    "detected_at",
)
_KNOWN: Final = """
    SELECT 1 FROM events
    WHERE exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)
      AND detected_at <= coalesce($as_of::TIMESTAMPTZ, detected_at) AND NOT starts_with(event, 'connection_') LIMIT 1
"""


# A gap of millions may be filled number by number: adjacent events of one commit are merged to one range here, and
# those of all commits if the fill times are not needed.
_EVENTS: Final = """
    , selected AS (
        SELECT exchange, symbol, session, event, first_sequence AS first, last_sequence AS last,
               CASE WHEN $with_filled OR event = 'gap_opened' THEN epoch_us(detected_at) ELSE 0 END AS detected_us
        FROM events
        WHERE event IN ('gap_opened', 'gap_filled')
          AND exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)
          AND detected_at <= coalesce($as_of::TIMESTAMPTZ, detected_at)
    ), begun AS (
        SELECT *, first::HUGEINT > 1 + max(last::HUGEINT) OVER (
            PARTITION BY exchange, symbol, session, event, detected_us ORDER BY first, last
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS is_apart
        FROM selected
    ), runs AS (
        SELECT *, count(*) FILTER (is_apart) OVER (
            PARTITION BY exchange, symbol, session, event, detected_us ORDER BY first, last
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS run
        FROM begun
    )
    SELECT exchange, symbol, session, event, detected_us, min(first) AS first, max(last) AS last
    FROM runs GROUP BY exchange, symbol, session, event, detected_us, run
    ORDER BY exchange, symbol, session
"""
# A number is missing if it was opened and not filled, in whatever order the events came.
_MISSING: Final = """
    WITH events AS (
        SELECT exchange, symbol, session, first_sequence AS first, last_sequence AS last,
               (event = 'gap_opened')::INTEGER AS opened, (event = 'gap_filled')::INTEGER AS filled
        FROM sequence_events WHERE event IN ('gap_opened', 'gap_filled')
    ), edges AS (
        SELECT exchange, symbol, session, edge, sum(opened) AS opened, sum(filled) AS filled
        FROM (
            SELECT exchange, symbol, session, first::HUGEINT AS edge, opened, filled FROM events
            UNION ALL
            SELECT exchange, symbol, session, last::HUGEINT + 1 AS edge, -opened, -filled FROM events
        ) GROUP BY ALL
    ), covers AS (
        SELECT exchange, symbol, session, edge, lead(edge) OVER numbers AS following,
               sum(opened) OVER numbers AS opened, sum(filled) OVER numbers AS filled
        FROM edges WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY edge)
    )
    SELECT exchange, symbol, session, edge::BIGINT AS first, (following - 1)::BIGINT AS last
    FROM covers WHERE opened > 0 AND filled = 0
    ORDER BY exchange, symbol, session, edge
"""
_MISSING_OF_SPAN: Final = """
    WITH opened AS (
        SELECT DISTINCT exchange, symbol, session, first_sequence AS first, last_sequence AS last
        FROM sequence_events WHERE event = 'gap_opened' AND "timestamp" >= $start AND "timestamp" < $end
    )
    SELECT coalesce(sum(least(last, last_sequence)::HUGEINT - greatest(first, first_sequence) + 1), 0) AS missing
    FROM opened JOIN open_gaps USING (exchange, symbol, session)
    WHERE first <= last_sequence AND first_sequence <= last
"""

"""Gaps with their causes, incidents and deadlines, by what the ledger, the trades and the commit log have of them.

The rules are in `k2.sequencing.gap_causes`. The causes are those by all events and trades now, also of an earlier state
of the gaps.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from heapq import nlargest
from itertools import groupby
from typing import Any, Final

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression
from pyiceberg.table import Table

from k2.model.progress import TopicPartition
from k2.model.state_source import SessionKey
from k2.model.times import DAY_US, SECOND_US, time_of
from k2.ops.settings import Settings
from k2.query.audit import COMMITS, commit_parameters, open_commits
from k2.query.engine import Engine
from k2.query.fill_deadlines import earliest_deadlines, with_deadlines
from k2.query.gaps import Gap
from k2.query.offset_bounds import table_of
from k2.query.pool import EnginePool, open_pool, retry_if_files_gone
from k2.query.tables import existing_table, find_job_table
from k2.query.where_clauses import between, equal
from k2.sequencing.gap_causes import JUMP_US, AbandonedOffsets, LostMessages, Opening, explain
from k2.sequencing.non_market import joined
from k2.storage.commit_log import Remark
from k2.storage.row_filters import any_of
from k2.storage.table_properties import NON_MARKET_NUMBERS, REMOVED_ROWS

__all__ = ["LOOKUPS_MAX", "explained", "gap_deadlines"]

LOOKUPS_MAX: Final = 200
"""How many gaps are compared with the trades next to them: those of the most numbers."""
_AHEAD_US: Final = DAY_US + 5 * SECOND_US
"""How far the venue time of a trade may be ahead of the time that its event has."""


@retry_if_files_gone
def explained(settings: Settings, found: Sequence[Gap], *, pool: EnginePool | None = None) -> list[Gap]:
    """Return gaps with venue time, cause, incident and, if they are open, how long they can still be filled.

    Only the 200 largest are compared with the trades next to them. Without that, a gap is neither known to be one of
    the newest numbers, nor of abandoned offsets, nor a jump of the venue's numbers.

    Raises:
        NoTableError: the ledger does not exist.
    """
    if not found:
        return []
    with open_pool(settings, pool) as lent:
        trades = find_job_table(settings, "trades", lent)
        openings, messages = _read_ledger(settings, lent)
        places = _places(found, openings)
        offsets: list[AbandonedOffsets] = []
        if trades is not None:
            largest = nlargest(LOOKUPS_MAX, places, key=lambda idx: found[idx].missing)
            wanted = sorted({places[idx] for idx in largest})
            offsets = _abandoned_offsets(settings, trades, lent)
            with lent.engine() as engine:
                _look_up(engine, trades, openings, wanted, offsets)
        explanations = explain(openings, messages, offsets)
        rows = [_explained(gap, openings, explanations, places.get(idx)) for idx, gap in enumerate(found)]
        return with_deadlines(settings, rows, _topics(rows, openings, places), trades, lent)


@retry_if_files_gone
def gap_deadlines(
    settings: Settings, found: Sequence[Gap], *, pool: EnginePool | None = None
) -> Mapping[str, datetime | None]:
    """Return the earliest deadline of each exchange of the gaps that has not passed; None if it has none.

    This costs less than `explained`. Raises as that.
    """
    if not found:
        return {}
    with open_pool(settings, pool) as lent:
        trades = find_job_table(settings, "trades", lent)
        openings, _ = _read_ledger(settings, lent)
        places = _places(found, openings)
        rows = [
            replace(gap, timestamp=time_of(openings[places[idx]].at)) if idx in places else gap
            for idx, gap in enumerate(found)
        ]
        known = earliest_deadlines(with_deadlines(settings, rows, _topics(rows, openings, places), trades, lent))
    return {exchange: known.get(exchange) for exchange in sorted({gap.exchange for gap in found})}


def _read_ledger(settings: Settings, pool: EnginePool) -> tuple[list[Opening], list[LostMessages]]:
    """Return all gaps that were ever opened, ascending by symbol, session and number, and all lost messages."""
    ledger = existing_table(settings, "sequence_events", pool)
    with pool.engine() as engine:
        engine.register("sequence_events", ledger)
        openings = [Opening(**row) for row in engine.query(_OPENINGS)]
        return openings, [LostMessages(**row) for row in engine.query(_LOST)]


def _topics(found: Sequence[Gap], openings: Sequence[Opening], places: Mapping[int, int]) -> list[str | None]:
    return [openings[places[idx]].topic if idx in places else None for idx in range(len(found))]


def _explained(gap: Gap, openings: Sequence[Opening], explanations: Sequence[Any], place: int | None) -> Gap:
    if place is None:
        return gap
    why = explanations[place]
    return replace(gap, timestamp=time_of(openings[place].at), cause=why.cause.value, incident=why.incident)


def _places(found: Sequence[Gap], openings: Sequence[Opening]) -> Mapping[int, int]:
    """Return for each gap, by index, the opening that it is of, by index; the lowest of several.

    The openings are ascending by symbol, session and number.
    """
    by_session = {
        key: [*rows] for key, rows in groupby(range(len(openings)), key=lambda idx: SessionKey(*openings[idx][:3]))
    }
    gaps = sorted(range(len(found)), key=lambda idx: (_key(found[idx]), found[idx].first_sequence))
    places: dict[int, int] = {}
    for key, group in groupby(gaps, key=lambda idx: _key(found[idx])):
        rows, lowest = by_session.get(key, []), 0
        for gap_idx in group:
            gap = found[gap_idx]
            while lowest < len(rows) and openings[rows[lowest]].last < gap.first_sequence:
                lowest += 1
            if lowest < len(rows) and openings[rows[lowest]].first <= gap.last_sequence:
                places[gap_idx] = rows[lowest]
    return places


def _key(gap: Gap) -> SessionKey:
    return SessionKey(gap.exchange, gap.symbol, gap.session)


def _look_up(
    engine: Engine, trades: Table, openings: list[Opening], wanted: Sequence[int], offsets: Sequence[AbandonedOffsets]
) -> None:
    """Add to the wanted openings, by index, what the trades next to their gaps say."""
    if not wanted:
        return
    engine.register_arrow("wanted", _wanted(openings, wanted))
    engine.register("trades", trades, row_filter=_near(openings, wanted, -JUMP_US, 0))
    there = set[int]()
    for row in engine.query(_NEIGHBOURS, {"jump_us": JUMP_US}):
        openings[row["idx"]] = openings[row["idx"]]._replace(before_at=row["before_at"])
        if row["is_there"]:
            there.add(row["idx"])
    absent = [idx for idx in wanted if idx not in there]
    for idx in _tails(engine, trades, openings, absent):
        openings[idx] = openings[idx]._replace(is_tail=True)
    behind = [idx for idx in wanted if any(_is_behind(openings[idx], one) for one in offsets)]
    if behind:
        exchanges = sorted({openings[idx].exchange for idx in behind})
        engine.register_arrow("behind", _wanted(openings, behind))
        engine.register("all_trades", trades, row_filter=any_of(equal(exchange=one) for one in exchanges))
        for row in engine.query(_BEFORE):
            openings[row["idx"]] = openings[row["idx"]]._replace(before_offset=row["before_offset"])


def _tails(engine: Engine, trades: Table, openings: Sequence[Opening], absent: Sequence[int]) -> Iterator[int]:
    """Yield the openings whose message is no stored trade, so that it can only have named the numbers.

    The venue time of a trade may be ahead of its event's. A non-market trade is not stored either, and opens gaps; and
    of a day that was removed it is not known.
    """
    if not absent:
        return
    engine.register_arrow("absent", _wanted(openings, absent))
    engine.register("later_trades", trades, row_filter=_near(openings, absent, 0, _AHEAD_US))
    there = {row["idx"] for row in engine.query(_AHEAD)}
    properties = trades.metadata.properties
    removed_before = REMOVED_ROWS.read(properties).before
    numbers = joined(one for skipped in NON_MARKET_NUMBERS.read_all(properties) for one in skipped.sessions())
    non_market = {one.key: one.ranges for one in numbers}
    for idx in absent:
        one = openings[idx]
        after = one.last + 1
        is_non_market = any(first <= after <= last for first, last in non_market.get(SessionKey(*one[:3]), ()))
        is_removed = removed_before is not None and time_of(one.at).date() < removed_before
        if idx not in there and not is_non_market and not is_removed:
            yield idx


def _is_behind(one: Opening, lost: AbandonedOffsets) -> bool:
    return (one.topic, one.partition) == (lost.topic, lost.partition) and one.offset > lost.last


def _wanted(openings: Sequence[Opening], wanted: Iterable[int]) -> pa.Table:
    columns = ("exchange", "symbol", "session", "at", "topic", "partition", "offset")
    rows = [(idx, *(getattr(openings[idx], name) for name in columns), openings[idx].first - 1) for idx in wanted]
    return table_of(_WANTED, rows)


def _near(openings: Sequence[Opening], wanted: Iterable[int], earlier_us: int, later_us: int) -> BooleanExpression:
    """Return a filter for trades whose venue time is near that of one of the openings."""
    return any_of(
        And(
            equal(exchange=openings[idx].exchange),
            between("timestamp", time_of(openings[idx].at + earlier_us), time_of(openings[idx].at + later_us + 1)),
        )
        for idx in wanted
    )


def _abandoned_offsets(settings: Settings, trades: Table, pool: EnginePool) -> list[AbandonedOffsets]:
    """Return the offsets that the job's commits abandoned."""
    with open_commits(settings, trades, pool) as engine:
        remarks = engine.query(COMMITS + _REMARKS, commit_parameters(trades))
    found = (one for row in remarks for one in _ABANDONED.finditer(row["remark"]))
    parsed = ((TopicPartition.parse(one[1]), int(one[2]), int(one[3])) for one in found)
    return sorted({AbandonedOffsets(source.topic, source.partition, first, last) for source, first, last in parsed})


_ABANDONED: Final = re.compile(rf"\b{Remark.ABANDONED_OFFSETS.removeprefix('k2.')} (\S+:\d+) (\d+)-(\d+)")
_REMARKS: Final = f"""
    SELECT remark FROM commits
    WHERE NOT undone AND contains(remark, '{Remark.ABANDONED_OFFSETS.removeprefix("k2.")} ')
"""
_OPENINGS: Final = """
    SELECT exchange, symbol, session, first_sequence AS first, last_sequence AS last,
           epoch_us(min("timestamp")) AS at, arg_min(topic, "timestamp") AS topic,
           arg_min("partition", "timestamp") AS "partition", arg_min("offset", "timestamp") AS "offset"
    FROM sequence_events WHERE event = 'gap_opened'
    GROUP BY exchange, symbol, session, first, last ORDER BY exchange, symbol, session, first, last
"""
_LOST: Final = """
    SELECT exchange, topic, epoch_us("timestamp") AS at FROM sequence_events WHERE event = 'connection_gap'
"""
_WANTED_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("idx", pa.int64()),
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
    pa.field("at", pa.int64()),
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
    pa.field("before", pa.int64()),
]
_WANTED: Final = pa.schema(_WANTED_FIELDS)
_NEIGHBOURS: Final = """
    WITH there AS (
        SELECT DISTINCT idx FROM wanted JOIN trades USING (exchange, symbol, topic, "partition", "offset")
    ), earlier AS (
        SELECT idx, max(epoch_us(trades."timestamp")) AS before_at
        FROM wanted JOIN trades
          ON trades.exchange = wanted.exchange AND trades.symbol = wanted.symbol
         AND trades.session = wanted.session AND trades.sequence = wanted.before
        WHERE epoch_us(trades."timestamp") BETWEEN wanted."at" - $jump_us AND wanted."at" GROUP BY idx
    )
    SELECT idx, there.idx IS NOT NULL AS is_there, before_at
    FROM wanted LEFT JOIN there USING (idx) LEFT JOIN earlier USING (idx)
"""
_AHEAD: Final = """
    SELECT DISTINCT idx FROM absent JOIN later_trades USING (exchange, symbol, topic, "partition", "offset")
"""
_BEFORE: Final = """
    SELECT idx, max(before."offset") AS before_offset
    FROM behind JOIN all_trades AS before
      ON before.exchange = behind.exchange AND before.symbol = behind.symbol AND before.session = behind.session
     AND before.sequence = behind.before AND before.topic = behind.topic AND before."partition" = behind."partition"
    GROUP BY idx
"""

"""Facts of each symbol and day, by which its condition is judged: from `trades`, the ledger and the dead letters."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from pyiceberg.expressions import And
from pyiceberg.table import Table

from k2.certificates.condition import DayFacts, OffsetRange, SessionNumbers
from k2.model.progress import TopicPartition
from k2.query.completeness import CompletenessParameters, Day, by_day
from k2.query.connection_gaps import connection_gaps
from k2.query.corrections import register_corrections
from k2.query.day_dead_letters import DayDeadLetters, SymbolDay, day_dead_letters
from k2.query.engine import Engine
from k2.query.pool import EnginePool
from k2.query.tables import NoTableError, check_columns, existing_table
from k2.query.where_clauses import between, equal

__all__ = ["DaySelection", "day_facts"]

_DAY: Final = timedelta(days=1)
_RANGE: Final = ("topic", "partition", "first_offset", "last_offset", "trades")
_COLUMNS: Final = ("exchange", "symbol", "session", "sequence", "timestamp", "topic", "partition", "offset")


@dataclass(frozen=True)
class DaySelection:
    """Symbols and days; None selects all."""

    exchange: str | None = None
    symbol: str | None = None
    day: date | None = None

    @property
    def start(self) -> datetime | None:
        """Begin of the day."""
        return None if self.day is None else datetime.combine(self.day, time(), UTC)

    @property
    def end(self) -> datetime | None:
        """End of the day, exclusive."""
        return None if self.start is None else self.start + _DAY

    @property
    def parameters(self) -> dict[str, object]:
        """Values of the parameters in SQL."""
        return {"exchange": self.exchange, "symbol": self.symbol, "start": self.start, "end": self.end}


def day_facts(pool: EnginePool, selection: DaySelection, trades: Table | None = None) -> Mapping[SymbolDay, DayFacts]:
    """Return the facts of each symbol and day that has trades, missing numbers, conflicts or sessions, sorted.

    Numbers are counted as `k2 completeness` counts them, over the whole table: a number that is missing over midnight
    has neighbours on other days. `pool` should return the same tables at each call, as `PinnedPool` does.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: it was not created by the job.
    """
    table = trades or existing_table(pool.settings, "trades", pool)
    check_columns(table, _COLUMNS)
    counted = {(one.exchange, one.symbol, one.day): one for one in _counted(pool, selection)}
    with pool.engine() as engine:
        names = equal(exchange=selection.exchange, symbol=selection.symbol)
        start, end = selection.start, selection.end
        around = And(names, between("timestamp", start and start - _DAY, end and end + _DAY))
        engine.register("trades", table, row_filter=around)
        register_corrections(engine, pool.settings, table, None, pool)
        sessions = _by_symbol_day(engine, _SESSIONS, selection)
        offsets = _by_symbol_day(engine, _OFFSETS, selection)
        corrected = _by_symbol_day(engine, _CORRECTIONS, selection)
    with pool.engine() as engine:
        engine.register("trades", table)
        letters = day_dead_letters(pool.settings, engine, table)
    lost = _lost(pool, selection)
    return {
        key: _facts(key, counted.get(key), sessions[key], offsets[key], corrected[key], letters, lost)
        for key in sorted({*counted, *offsets})
    }


def _counted(pool: EnginePool, selection: DaySelection) -> list[Day]:
    fields = {name: value for name, value in selection.parameters.items() if value is not None}
    return by_day(pool.settings, CompletenessParameters.model_validate(fields), pool=pool)


def _by_symbol_day(engine: Engine, sql: str, selection: DaySelection) -> "defaultdict[SymbolDay, list[dict[str, Any]]]":
    found: defaultdict[SymbolDay, list[dict[str, Any]]] = defaultdict(list)
    for row in engine.query(sql, selection.parameters):
        found[row.pop("exchange"), row.pop("symbol"), row.pop("day")].append(row)
    return found


def _lost(pool: EnginePool, selection: DaySelection) -> Counter[tuple[str, str, date]]:
    """Return the messages of connections that are missing, by exchange, topic and day."""
    lost: Counter[tuple[str, str, date]] = Counter()
    try:
        for gap in connection_gaps(pool.settings, selection.exchange, pool=pool):
            lost[gap.exchange, gap.topic, gap.timestamp.date()] += gap.missing
    except NoTableError:
        pass
    return lost


def _facts(
    key: SymbolDay,
    counted: Day | None,
    sessions: "list[dict[str, Any]]",
    offsets: "list[dict[str, Any]]",
    corrected: "list[dict[str, Any]]",
    letters: DayDeadLetters,
    lost: Mapping[tuple[str, str, date], int],
) -> DayFacts:
    exchange, _, day = key
    ranges = tuple(OffsetRange(*(one[name] for name in _RANGE)) for one in offsets)
    times = [one[name] for one in offsets for name in ("first_timestamp", "last_timestamp")]
    modified = [one["last_modified"] for one in offsets if one["last_modified"] is not None]
    partitions = {TopicPartition(one.topic, one.partition) for one in ranges}
    topics = {one.topic for one in ranges}
    return DayFacts(
        trades=sum(one.trades for one in ranges),
        stored=counted.stored if counted else 0,
        expected=counted.expected if counted else 0,
        missing=counted.missing if counted else 0,
        accepted=counted.accepted if counted else 0,
        not_numbered=counted.not_numbered if counted else 0,
        conflicts=letters.conflicts[key],
        dead_letters=letters.keyed[key],
        unnamed_dead_letters=sum(letters.unnamed[one, day] for one in partitions),
        connection_gaps=sum(
            count
            for (venue, topic, on), count in lost.items()
            if (venue, on) == (exchange, day) and (not topics or topic in topics)
        ),
        sessions_started=counted.sessions if counted else 0,
        corrections=corrected[0]["corrections"] if corrected else 0,
        sessions=tuple(SessionNumbers(**one) for one in sessions),
        offsets=ranges,
        first_timestamp=min(times, default=None),
        last_timestamp=max(times, default=None),
        last_modified=max(modified, default=None),
    )


_NAMED: Final = "exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)"
_ON_DAY: Final = f"""
    {_NAMED} AND "timestamp" >= coalesce($start::TIMESTAMPTZ, "timestamp")
    AND ($end IS NULL OR "timestamp" < $end::TIMESTAMPTZ)
"""
_DATE: Final = '"timestamp"::DATE AS day'
_OFFSETS: Final = f"""
    SELECT exchange, symbol, {_DATE}, topic, partition, min("offset") AS first_offset, max("offset") AS last_offset,
           count(*) AS trades, min("timestamp") AS first_timestamp, max("timestamp") AS last_timestamp,
           max(kafka_timestamp) AS last_modified
    FROM trades WHERE {_ON_DAY} GROUP BY ALL ORDER BY ALL
"""
_CORRECTIONS: Final = f"""
    SELECT exchange, symbol, {_DATE}, count(*) AS corrections FROM corrections WHERE {_ON_DAY} GROUP BY ALL
"""
# The neighbours of a day's numbers are found in one pass over the rows, next to the few first and last numbers.
_SESSIONS: Final = f"""
    WITH numbers AS (
        SELECT exchange, symbol, session, "timestamp", sequence, coalesce(first_sequence, sequence) AS first_sequence
        FROM trades WHERE {_NAMED} AND session > 0 AND sequence IS NOT NULL
    ), sessions AS (
        SELECT exchange, symbol, {_DATE}, session, min(first_sequence) AS first_number, max(sequence) AS last_number,
               count(*) AS trades
        FROM numbers WHERE {_ON_DAY} GROUP BY ALL
    ), neighbours AS (
        SELECT exchange, symbol, session, day, bool_or(sequence::HUGEINT + 1 = first_number) AS follows_stored,
               bool_or(first_sequence::HUGEINT - 1 = last_number) AS is_followed
        FROM numbers JOIN sessions USING (exchange, symbol, session)
        WHERE sequence::HUGEINT + 1 = first_number OR first_sequence::HUGEINT - 1 = last_number GROUP BY ALL
    )
    SELECT exchange, symbol, day, session, first_number AS first_sequence, last_number AS last_sequence, trades,
           coalesce(follows_stored, false) AS follows_stored, coalesce(is_followed, false) AS is_followed
    FROM sessions LEFT JOIN neighbours USING (exchange, symbol, session, day) ORDER BY exchange, symbol, day, session
"""

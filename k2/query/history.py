"""History of the job by intervals of time: what it committed, and which gaps it found.

Times are the job's: those of its commits, and those at which the ledger's events were detected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final

from k2.model.times import EPOCH, time_of
from k2.ops.settings import Settings
from k2.query.audit import COMMITS, commit_parameters, open_commits
from k2.query.engine import Engine
from k2.query.pool import EnginePool, retry_if_files_gone
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.query.where_clauses import between
from k2.storage.commit_log import Remark

__all__ = ["INTERVALS_MAX", "Interval", "history"]

INTERVALS_MAX: Final = 10_000
PERIOD: Final = timedelta(hours=24)
"""Default length of the history."""
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIER: Final = timedelta(hours=24)
"""How much earlier commits are read: their clock may have been wrong, and the first interval needs a previous one."""
_YEAR_1_US: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Interval:
    """What the job did in one interval of time."""

    start: datetime
    received: int
    """Trades, as the other counts; a message that cannot be read counts one."""
    stored: int
    duplicates: int
    dead_letters: int
    skipped: int
    commits: int
    """Of all writers, without those of no writer, such as fencing commits."""
    between_commits_seconds_max: float | None
    """Longest time from a writer's previous commit to one in this interval; None without such a pair."""
    lag_max: int | None
    """Most messages that a process had not read yet at one of its commits; None if no commit recorded it."""
    gaps_opened: int
    """Ranges of numbers that were found missing."""
    gaps_filled: int
    """Ranges of missing numbers that arrived."""
    missing_opened: int
    """Numbers in `gaps_opened`."""
    missing_filled: int
    """Numbers in `gaps_filled`."""
    starts: int
    """Starts of the job after which it committed, by its first commit; earlier versions did not record them."""
    corrections: int = 0
    """Corrections of trades."""


@retry_if_files_gone
def history(
    settings: Settings,
    interval: timedelta,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = INTERVALS_MAX,
    *,
    pool: EnginePool | None = None,
) -> list[Interval]:
    """Return each interval of `start` <= time < `end`, oldest first, also those in which nothing happened.

    Intervals begin at multiples of their length since 1970, so the first and the last may be cut. `end` is now by
    default, and `start` 24 hours before `end`. With more than `limit` intervals, the newest are returned.
    Commits that were rolled back are left out, and an event that the ledger has twice counts once.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: a table was not created by the job, or cannot be read.
    """
    step, until = interval // _MICROSECOND, _microseconds(end or datetime.now(UTC))
    first = _microseconds(start) if start is not None else until - PERIOD // _MICROSECOND
    count_max = min(limit, -(-until // step) - first // step)
    origin = (-(-until // step) - count_max) * step
    parameters = {"origin": origin, "first": max(first, origin), "until": until, "step": step}
    table = existing_table(settings, "trades", pool)
    with open_commits(settings, table, pool, _time(origin, -_EARLIER)) as engine:
        counted = engine.query(COMMITS + _COMMITTED, {**parameters, **commit_parameters(table)})
        found = engine.query(_DETECTED, parameters) if _register_ledger(engine, settings, pool, origin, until) else []
    by_idx: dict[int, dict[str, Any]] = {}
    for row in chain(counted, found):
        by_idx.setdefault(row.pop("interval_idx"), {}).update(row)
    return [_interval(_time(origin + idx * step), by_idx.get(idx, {})) for idx in range(count_max)]


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // _MICROSECOND


def _time(microseconds: int, offset: timedelta = timedelta()) -> datetime:
    return time_of(max(microseconds + offset // _MICROSECOND, _YEAR_1_US))


def _register_ledger(engine: Engine, settings: Settings, pool: EnginePool | None, origin: int, until: int) -> bool:
    ledger = find_job_table(settings, "sequence_events", pool)
    if ledger is None:
        return False
    check_columns(ledger, _LEDGER_COLUMNS)
    engine.register("sequence_events", ledger, row_filter=between("detected_at", _time(origin), _time(until)))
    return True


def _interval(start: datetime, row: Mapping[str, Any]) -> Interval:
    # Sums of numbers may exceed 64 bits, so DuckDB returns decimals.
    counts = {name: int(row.get(name) or 0) for name in (*_COUNTS, "commits", *_EVENTS, "starts")}
    counts["corrections"] = counts["received"] - sum(counts[name] for name in _COUNTS if name != "received")
    between, lag = row.get("between_commits_seconds_max"), row.get("lag_max")
    return Interval(start, **counts, between_commits_seconds_max=between, lag_max=lag)


_COUNTS: Final = ("received", "stored", "duplicates", "dead_letters", "skipped")
_EVENTS: Final = ("gaps_opened", "gaps_filled", "missing_opened", "missing_filled")
_STARTED: Final = f"{Remark.STARTED.removeprefix('k2.')} "
"""How the remark of a commit says that it is its writer's first since a start; writer 0 is always there."""
_LEDGER_COLUMNS: Final = ("exchange", "symbol", "session", "event", "first_sequence", "last_sequence", "detected_at")

# The clocks of two hosts may differ, but no time between two commits is negative.
_COMMITTED: Final = f"""
    , of_writers AS (
        SELECT *, epoch_us(committed_at) AS committed_us,
               epoch_us(committed_at) - epoch_us(lag(committed_at) OVER (
                   PARTITION BY writer ORDER BY sequence_number
               )) AS between_us
        FROM commits WHERE NOT undone AND writer IS NOT NULL
    )
    SELECT (committed_us - $origin) // $step AS interval_idx, count(*) AS commits,
           count(*) FILTER (writer = '0' AND remark LIKE '%{_STARTED}%') AS starts,
           CASE WHEN count(between_us) > 0 THEN greatest(0, max(between_us)) / 1e6 END AS between_commits_seconds_max,
           max(lag) AS lag_max,
           {", ".join(f"sum(list_sum([one.{name} for one in partitions]))::BIGINT AS {name}" for name in _COUNTS)}
    FROM of_writers WHERE committed_us >= $first AND committed_us < $until GROUP BY interval_idx
"""
_DETECTED: Final = """
    WITH events AS (
        SELECT event, epoch_us(min(detected_at)) AS detected_us,
               last_sequence::HUGEINT - first_sequence + 1 AS missing
        FROM sequence_events WHERE event IN ('gap_opened', 'gap_filled')
        GROUP BY exchange, symbol, session, event, first_sequence, last_sequence
    )
    SELECT (detected_us - $origin) // $step AS interval_idx,
           count(*) FILTER (event = 'gap_opened') AS gaps_opened,
           count(*) FILTER (event = 'gap_filled') AS gaps_filled,
           sum(missing) FILTER (event = 'gap_opened') AS missing_opened,
           sum(missing) FILTER (event = 'gap_filled') AS missing_filled
    FROM events WHERE detected_us >= $first AND detected_us < $until GROUP BY interval_idx
"""

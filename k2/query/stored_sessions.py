"""The numbers of a table's rows as ranges, by session: the form that a tracker absorbs."""

from typing import Any, Final

import pyarrow as pa

from k2.model.progress import TopicPartition
from k2.model.state_source import Positions, SessionKey, StoredSession
from k2.model.times import TIME_AHEAD_TOLERANCE_US
from k2.query.engine import Engine

__all__ = ["stored_sessions"]


def stored_sessions(engine: Engine, positions: Positions) -> list[StoredSession]:
    """Return the sessions of the rows that an engine has registered as `trades`, from `positions` on.

    Rows of other topic partitions than those of `positions` are left out.
    """
    engine.register_arrow("positions", _as_arrow(positions))
    rows = engine.table(_SESSIONS, {"tolerance": TIME_AHEAD_TOLERANCE_US}).to_pylist()
    return [_as_session(row) for row in rows]


def _as_arrow(positions: Positions) -> pa.Table:
    return pa.table(
        {
            "topic": pa.array([one.topic for one in positions], pa.string()),
            "partition": pa.array([one.partition for one in positions], pa.int32()),
            "next_offset": pa.array(positions.values(), pa.int64()),
        }
    )


def _as_session(row: dict[str, Any]) -> StoredSession:
    topic_partition = TopicPartition(row["topic"], row["partition"])
    ranges = tuple(zip(row["lows"], row["highs"], strict=True))
    return StoredSession(
        SessionKey(row["exchange"], row["symbol"], row["session"]),
        ranges,
        row["latest"],
        row["earliest"],
        topic_partition,
        row["offset"],
    )


# Numbers of a session without a hole are one range; only sessions with holes, and those whose trades stand for ranges,
# which may overlap, are processed row by row.
_SESSIONS: Final = """
    WITH ahead AS (
        SELECT exchange, symbol, session, coalesce(first_sequence, sequence) AS first, sequence AS last,
               topic, partition, "offset",
               CASE WHEN epoch_us(timestamp) > epoch_us(kafka_timestamp) + $tolerance THEN epoch_us(kafka_timestamp)
                    ELSE epoch_us(timestamp) END AS seen_at
        FROM trades JOIN positions USING (topic, partition)
        WHERE session > 0 AND "offset" >= next_offset
    ), sums AS (
        SELECT exchange, symbol, session, min(first) AS first, max(last) AS last, count(*) AS trades,
               bool_or(first < last) AS has_ranges,
               max(seen_at) AS latest, min(seen_at) AS earliest,
               max_by(topic, seen_at) AS topic, max_by(partition, seen_at) AS partition,
               max_by("offset", seen_at) AS "offset"
        FROM ahead GROUP BY exchange, symbol, session
    ), sums_with_holes AS (
        SELECT * FROM sums WHERE has_ranges OR trades <> last::HUGEINT - first + 1
    ), holed AS (
        SELECT exchange, symbol, session, first, last,
               max(last) OVER (numbers ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
        FROM ahead SEMI JOIN sums_with_holes USING (exchange, symbol, session)
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY first, last)
    ), numbered AS (
        SELECT exchange, symbol, session, first, last,
               count(*) FILTER (first > reached::HUGEINT + 1) OVER numbers AS island
        FROM holed
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY first, last ROWS UNBOUNDED PRECEDING)
    ), islands AS (
        SELECT exchange, symbol, session, min(first) AS low, max(last) AS high
        FROM numbered GROUP BY exchange, symbol, session, island
    ), ranges AS (
        SELECT exchange, symbol, session, list(low ORDER BY low) AS lows, list(high ORDER BY low) AS highs
        FROM islands GROUP BY exchange, symbol, session
    )
    SELECT exchange, symbol, session, latest, earliest, topic, partition, "offset",
           coalesce(lows, [first]) AS lows, coalesce(highs, [last]) AS highs
    FROM sums LEFT JOIN ranges USING (exchange, symbol, session)
    ORDER BY exchange, symbol, session
"""

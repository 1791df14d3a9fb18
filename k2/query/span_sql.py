"""SQL of the counts of stored and missing trades by symbol and span (`k2.query.span_counts` has the rules)."""

from typing import Final, NamedTuple

from k2.model.canary import LEFT_OUT_EVERY
from k2.model.times import DAY_US
from k2.query.offset_bounds import BELOW_OFFSET_BOUNDS

__all__ = ["MARKS", "OF_CANDIDATES", "SELECTED", "SOURCES", "SOURCES_THEN", "SPANS", "SYMBOLS", "TOTALS", "Sources"]


class Sources(NamedTuple):
    """SQL of the selected trades, and of the sessions started."""

    seen: str
    started: str


# Times count from the year 1, so that no time is negative and integer division always rounds down.
_CONTAINING: Final = "contains(lower(exchange || ' ' || symbol), lower(coalesce($containing, '')))"
_NAMED: Final = f"""
    exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol) AND {_CONTAINING}
"""
_IS_NUMBERED: Final = "coalesce(session, 0) > 0 AND last IS NOT NULL"
_SINCE_YEAR_1: Final = 'epoch_us("timestamp") + 62135596800000000'
_SEEN: Final = f"""
    SELECT exchange, symbol, session, coalesce(first_sequence, sequence) AS first, sequence AS last,
           {_SINCE_YEAR_1} AS seen_at, epoch_us(kafka_timestamp) AS read_at
    FROM trades
"""
_STARTED: Final = f"SELECT exchange, symbol, session, min({_SINCE_YEAR_1}) AS seen_at FROM sequence_events"
# A duplicate event in the ledger is one session.
_EACH_SESSION: Final = f"event = 'session_started' AND {_NAMED} GROUP BY exchange, symbol, session"
SOURCES: Final = Sources(f"{_SEEN} WHERE {_NAMED}", f"{_STARTED} WHERE {_EACH_SESSION}")
SOURCES_THEN: Final = Sources(
    f"{_SEEN} {BELOW_OFFSET_BOUNDS} AND {_NAMED}", f"{_STARTED} {BELOW_OFFSET_BOUNDS} AND {_EACH_SESSION}"
)
MARKS: Final = f"""
    marks AS (
        SELECT exchange, symbol, span, conflicts, 0 AS sessions FROM conflicts WHERE {_NAMED}
        UNION ALL
        SELECT exchange, symbol, seen_at // $span AS span, 0, count(*) FROM started
        WHERE seen_at >= coalesce($start, seen_at) AND seen_at < coalesce($end, seen_at + 1)
        GROUP BY ALL
    )
"""
# Only these symbols can be in doubt; for the others the trades need not be sorted.
OF_CANDIDATES: Final = """
    AND (exchange, symbol) IN (
        SELECT (exchange, symbol) FROM marks
        GROUP BY exchange, symbol HAVING sum(conflicts) > 0 OR sum(sessions) > 1
    )
"""


def _before(edge: str, numbers: str) -> str:
    """Return SQL for how many of a gap's m numbers are before a time: k with low + (high - low) * k / (m + 1) < edge.

    `numbers` is the column of m.
    """
    return f"""
        CASE WHEN {edge} <= low THEN 0
             WHEN {edge} > high THEN {numbers}
             ELSE (({edge} - low)::HUGEINT * ({numbers} + 1) + (high - low) - 1) // (high - low) - 1 END
    """


def _within(edge_columns: tuple[str, str], numbers: str) -> str:
    """Return SQL for how many of a gap's numbers are between two times."""
    first, until = edge_columns
    return f"({_before(until, numbers)}) - ({_before(first, numbers)})"


def _left_out(first: str, last: str) -> str:
    """Return SQL for how many numbers of a range the canary leaves out; 0 of other exchanges."""
    return (
        f"CASE WHEN exchange = $canary_exchange THEN {last} // {LEFT_OUT_EVERY} - ({first} - 1) // {LEFT_OUT_EVERY} "
        "ELSE 0 END"
    )


# A trade counts once for each number that it stands for; a number that is stored twice counts once.
SPANS: Final = f"""
    , numbered AS (
        SELECT *, max(last) OVER (numbers ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached,
               lag(seen_at) OVER numbers AS seen_before
        FROM seen WHERE {_IS_NUMBERED}
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY first, last, seen_at)
    ), topmost AS (
        SELECT exchange, symbol, session, max(last) AS highest,
               arg_max({{'seen_at': seen_at, 'read_at': read_at}}, last) AS newest
        FROM numbered GROUP BY ALL
    ), rows_there AS (
        SELECT exchange, symbol, seen_at, true AS is_numbered,
               last::HUGEINT - greatest(first::HUGEINT, reached::HUGEINT + 1) + 1 AS numbers
        FROM numbered WHERE last > reached IS DISTINCT FROM false
        UNION ALL
        SELECT exchange, symbol, seen_at, false, 1 FROM seen WHERE NOT ({_IS_NUMBERED})
    ), never_numbered AS (
        SELECT exchange, symbol FROM rows_there GROUP BY ALL HAVING NOT bool_or(is_numbered)
    ), stored AS (
        SELECT exchange, symbol, seen_at // $span AS span, sum(numbers)::BIGINT AS stored,
               count(*) FILTER (NOT is_numbered) AS not_numbered, 0::HUGEINT AS missing, 0::HUGEINT AS accepted
        FROM rows_there WHERE seen_at >= coalesce($start, seen_at) AND seen_at < coalesce($end, seen_at + 1)
        GROUP BY ALL
    ), between AS (
        SELECT exchange, symbol, session, reached::HUGEINT + 1 AS first, first::HUGEINT - 1 AS last,
               least(seen_at, seen_before) AS low, greatest(seen_at, seen_before) AS high
        FROM numbered WHERE first > reached::HUGEINT + 1
        UNION ALL
        SELECT exchange, symbol, session, highest::HUGEINT + 1, number::HUGEINT,
               newest.seen_at, newest.seen_at + greatest(0, coalesce(named_at - newest.read_at, 0))
        FROM announced JOIN topmost USING (exchange, symbol, session) WHERE number > highest
    ), accepted_between AS (
        -- An accepted number that is a non-market one, or one that the canary leaves out, counts as that.
        SELECT exchange, symbol, session, between.first AS gap_first,
               greatest(accepted.first, between.first) AS first, least(accepted.last, between.last) AS last
        FROM accepted JOIN between USING (exchange, symbol, session)
        WHERE accepted.first <= between.last AND accepted.last >= between.first
    ), accepted_of_gaps AS (
        SELECT exchange, symbol, session, gap_first AS first, sum(last - first + 1 - coalesce((
                   SELECT sum(least(non_market.last, one.last) - greatest(non_market.first, one.first) + 1)
                   FROM non_market
                   WHERE non_market.exchange = one.exchange AND non_market.symbol = one.symbol
                     AND non_market.session = one.session
                     AND non_market.first <= one.last AND non_market.last >= one.first
               ), 0) - {_left_out("first", "last")}) AS accepted
        FROM accepted_between AS one GROUP BY ALL
    ), all_gaps AS (
        SELECT exchange, symbol, session, low, high, first, last - first + 1 - coalesce((
                   SELECT sum(least(non_market.last, between.last) - greatest(non_market.first, between.first) + 1)
                   FROM non_market
                   WHERE non_market.exchange = between.exchange AND non_market.symbol = between.symbol
                     AND non_market.session = between.session
                     AND non_market.first <= between.last AND non_market.last >= between.first
               ), 0) - {_left_out("first", "last")} AS lacking
        FROM between
    ), gaps AS (
        SELECT exchange, symbol, low, high, coalesce(accepted, 0) AS accepted,
               lacking - coalesce(accepted, 0) AS missing
        FROM all_gaps LEFT JOIN accepted_of_gaps USING (exchange, symbol, session, first)
    ), parts AS (
        SELECT exchange, symbol, missing, accepted, low, high,
               unnest(range(greatest(low, coalesce($start, low)) // $span,
                            least(high, coalesce($end - 1, high)) // $span + 1)) AS span
        FROM gaps WHERE missing > 0 OR accepted > 0
    ), bounds AS (
        SELECT *, greatest(span * $span, coalesce($start, 0)) AS first,
               least((span + 1) * $span, coalesce($end, (span + 1) * $span)) AS until
        FROM parts
    ), missing AS (
        SELECT exchange, symbol, span, 0 AS stored, 0 AS not_numbered,
               {_within(("first", "until"), "missing")} AS missing,
               {_within(("first", "until"), "accepted")} AS accepted
        FROM bounds
    ), counted AS (
        SELECT exchange, symbol, span, sum(stored)::BIGINT AS stored, sum(not_numbered)::BIGINT AS not_numbered,
               sum(missing) AS missing, sum(accepted) AS accepted, sum(conflicts)::BIGINT AS conflicts,
               sum(sessions)::BIGINT AS sessions
        FROM (
            SELECT *, 0 AS conflicts, 0 AS sessions FROM stored
            UNION ALL
            SELECT *, 0, 0 FROM missing WHERE missing > 0 OR accepted > 0
            UNION ALL
            SELECT exchange, symbol, span, 0, 0, 0, 0, conflicts, sessions FROM marks
        ) GROUP BY exchange, symbol, span
    )
    SELECT * REPLACE (CASE WHEN stored > not_numbered OR missing > 0
                             OR (stored = 0 AND (exchange, symbol) NOT IN (FROM never_numbered))
                           THEN missing END AS missing)
    FROM counted
"""
SYMBOLS: Final = f"""
    days AS (
        SELECT exchange, symbol, sum(stored) AS stored, sum(not_numbered) AS not_numbered, sum(missing) AS missing,
               sum(accepted) AS accepted, sum(conflicts) AS conflicts, sum(sessions) AS sessions,
               sum(conflicts) > 0 OR sum(sessions) > 1 AS in_doubt
        FROM spans GROUP BY exchange, symbol, span * $span // {DAY_US}
    ), by_symbol AS (
        SELECT exchange, symbol, sum(stored) AS stored, sum(not_numbered) AS not_numbered, sum(missing) AS missing,
               sum(accepted) AS accepted,
               bool_or(in_doubt) OR sum(sessions) > greatest(1, count(*) FILTER (stored > 0)) AS symbol_in_doubt,
               count(missing) AS days, count(*) FILTER (missing = 0 AND NOT in_doubt) AS days_complete,
               count(*) FILTER (in_doubt) AS days_in_doubt
        FROM days GROUP BY exchange, symbol
    )
"""
SELECTED: Final = f"""
    , selected AS (
        SELECT exchange, symbol, symbol_in_doubt FROM by_symbol
        WHERE (symbol_in_doubt OR NOT $in_doubt) AND {_CONTAINING}
        ORDER BY missing DESC NULLS LAST, stored DESC, exchange, symbol
        LIMIT coalesce($worst, 9223372036854775807)
    )
    SELECT *, stored - not_numbered + missing AS expected, conflicts > 0 OR sessions > 1 AS in_doubt
    FROM spans JOIN selected USING (exchange, symbol) ORDER BY exchange, symbol, span
"""
TOTALS: Final = """
    SELECT count(*) AS symbols, count(*) - count(missing) AS symbols_not_numbered,
           coalesce(sum(stored), 0) AS stored, coalesce(sum(not_numbered), 0) AS not_numbered,
           sum(missing) AS missing, coalesce(sum(accepted), 0) AS accepted,
           sum(stored - not_numbered) + sum(missing) AS expected,
           count(*) FILTER (symbol_in_doubt) AS symbols_in_doubt, coalesce(sum(days), 0) AS days,
           coalesce(sum(days_complete), 0) AS days_complete, coalesce(sum(days_in_doubt), 0) AS days_in_doubt
    FROM by_symbol
"""

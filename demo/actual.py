"""Actual results of a capture, counted from the trades table, the ledger and the dead-letter files."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.dataset as ds
import structlog

from demo.expected import GAP_LARGE_MIN, DeadLetterBytes, MissingRange
from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.gaps import gaps
from k2.query.pool import open_engine
from k2.query.reconcile import ExchangeSummary, Reconciliation, reconcile, summary
from k2.storage.catalog import find_table
from k2.storage.dead_letters.files import read_dead_letters
from k2.storage.dead_letters.local_folder import LocalFolder

__all__ = ["Actual", "read_actual"]

_LOG = structlog.get_logger()


@dataclass(frozen=True)
class Actual:
    """Contents of the tables and files after the capture."""

    stored: int
    symbols: int
    late: int
    """Stored trades that arrived after a trade of their symbol with a later venue time."""
    absent: int
    """Rows expected that are not in the table."""
    foreign: int
    """Rows in the table that are not expected."""
    gaps_small: int
    gaps_large: int
    filled: int
    restarts: int
    missing: list[MissingRange]
    dead_letters: Counter[DeadLetterBytes]
    partitions: list[Reconciliation]
    exchanges: list[ExchangeSummary]


def read_actual(settings: Settings, expected: Path) -> Actual:
    """Read the tables and files of `settings`, and compare the rows with `expected`, a Parquet file of expected rows.

    Raises:
        TableError: the job has not created a table.
    """
    with open_engine(settings) as engine:
        for name in ("trades", "sequence_events"):
            table = find_table(settings, name)
            if table is None:
                raise TableError(f"the job has not created table {settings.namespace}.{name}")
            engine.register(name, table)
        counted = _one(engine, _COUNTED) | _one(engine, _LATE) | _one(engine, _EVENTS, large=GAP_LARGE_MIN)
        engine.register_arrow("expected", ds.dataset(expected))
        different = _one(engine, _DIFFERENT)
    dead_letters = read_dead_letters(
        LocalFolder(settings.dead_letter_folder), lambda line: _LOG.warning("dead_letter_unreadable", line=line)
    )
    return Actual(
        **counted,
        **different,
        missing=sorted(
            MissingRange(gap.exchange, gap.symbol, gap.session, gap.first_sequence, gap.last_sequence)
            for gap in gaps(settings)
        ),
        dead_letters=Counter(
            DeadLetterBytes(str(one.reason), one.key_bytes() or b"", one.value_bytes()) for one in dead_letters
        ),
        partitions=reconcile(settings),
        exchanges=summary(settings),
    )


def _one(engine: Engine, sql: str, **parameters: object) -> dict[str, Any]:
    return engine.query(sql, parameters)[0]


_COUNTED: Final = "SELECT count(*) AS stored, count(DISTINCT (exchange, symbol)) AS symbols FROM trades"
_LATE: Final = """
    SELECT count(*) AS late FROM (
        SELECT "timestamp" < max("timestamp") OVER (
            PARTITION BY exchange, symbol ORDER BY topic, partition, "offset", "index"
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS is_late FROM trades
    ) WHERE is_late
"""
_EVENTS: Final = """
    SELECT count(*) FILTER (event = 'gap_opened' AND missing < $large) AS gaps_small,
           count(*) FILTER (event = 'gap_opened' AND missing >= $large) AS gaps_large,
           coalesce(sum(missing) FILTER (event = 'gap_filled'), 0)::BIGINT AS filled,
           count(*) FILTER (event = 'session_started' AND session > 1) AS restarts
    FROM sequence_events
"""
# A trade without a sequence number has no session: 0 in the expected rows, null in the table.
_DIFFERENT: Final = """
    WITH found AS (
        SELECT exchange, symbol, coalesce(session, 0) AS session, sequence, trade_id, price, quantity, side,
               "timestamp", received
        FROM trades
    )
    SELECT (SELECT count(*) FROM (FROM expected EXCEPT ALL FROM found)) AS absent,
           (SELECT count(*) FROM (FROM found EXCEPT ALL FROM expected)) AS foreign
"""

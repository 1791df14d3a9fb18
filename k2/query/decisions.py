"""Decisions in the ledger: which missing numbers are accepted, with reason, name and time."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.decisions import NO_TOPIC
from k2.model.state_source import SessionKey
from k2.query.engine import Engine
from k2.query.offset_bounds import table_of
from k2.query.where_clauses import equal
from k2.sequencing.acceptance import AcceptedRange, DecidedRange, accepted_ranges

__all__ = ["accepted_by_session", "newest_decision", "register_accepted", "register_accepted_of", "register_decisions"]

AcceptedBySession = Mapping[SessionKey, list[AcceptedRange]]


def register_decisions(
    engine: Engine, ledger: Table, exchange: str | None, symbol: str | None, snapshot_id: int | None = None
) -> None:
    """Register the ledger as `decisions`, without the data files that have none: most ledgers have none at all."""
    row_filter = equal(exchange=exchange, symbol=symbol, topic=NO_TOPIC)
    engine.register("decisions", ledger, row_filter=row_filter, snapshot_id=snapshot_id)


def accepted_by_session(
    engine: Engine, exchange: str | None = None, symbol: str | None = None, until: datetime | None = None
) -> AcceptedBySession:
    """Return the accepted ranges of each session, by the registered `decisions` until a time.

    They may have numbers that a late trade has filled since.
    """
    found: defaultdict[SessionKey, list[DecidedRange]] = defaultdict(list)
    for row in engine.query(_DECISIONS, {"exchange": exchange, "symbol": symbol, "until": until}):
        key = SessionKey(row["exchange"], row["symbol"], row["session"])
        found[key].append(DecidedRange(*(row[name] for name in DecidedRange._fields)))
    return {key: ranges for key, decisions in found.items() if (ranges := accepted_ranges(decisions))}


def newest_decision(engine: Engine) -> int | None:
    """Return the time of the newest of the registered `decisions`, microseconds since the epoch; None without any."""
    (row,) = engine.query(_NEWEST)
    newest: int | None = row["newest"]
    return newest


def register_accepted_of(
    engine: Engine, ledger: Table | None, exchange: str | None, symbol: str | None, until: datetime | None
) -> None:
    """Register what a ledger has as accepted by a time, as `accepted`; a ledger that does not exist has nothing."""
    if ledger is None:
        register_accepted(engine, {})
        return
    register_decisions(engine, ledger, exchange, symbol)
    register_accepted(engine, accepted_by_session(engine, exchange, symbol, until))


def register_accepted(engine: Engine, accepted: AcceptedBySession) -> None:
    """Register accepted ranges as `accepted`."""
    rows = [(*key, one.first, one.last) for key, ranges in accepted.items() for one in ranges]
    engine.register_arrow("accepted", table_of(_ACCEPTED, rows))


_ACCEPTED_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
    pa.field("first", pa.int64()),
    pa.field("last", pa.int64()),
]
_ACCEPTED: Final = pa.schema(_ACCEPTED_FIELDS)
_DECISIONS: Final = """
    SELECT exchange, symbol, session, first_sequence AS first, last_sequence AS last, epoch_us(detected_at) AS at,
           event = 'gap_accepted' AS is_accepted, reason, decided_by
    FROM decisions
    WHERE event IN ('gap_accepted', 'gap_acceptance_undone')
      AND exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)
      AND detected_at <= coalesce($until::TIMESTAMPTZ, detected_at)
"""
_NEWEST: Final = """
    SELECT epoch_us(max(detected_at)) AS newest FROM decisions
    WHERE event IN ('gap_accepted', 'gap_acceptance_undone')
"""

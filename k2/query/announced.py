"""Announced numbers: those above the newest trade of a symbol that its venue has named, now or at an earlier time."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.state_source import AnnouncedNumber
from k2.query.engine import Engine
from k2.query.offset_bounds import BELOW_OFFSET_BOUNDS, table_of
from k2.query.where_clauses import equal
from k2.storage.table_properties import ANNOUNCED_NUMBERS

__all__ = ["register_announced", "register_announced_now", "register_announced_then"]


def register_announced_now(engine: Engine, properties: Mapping[str, str]) -> None:
    """Register as `announced` what the properties of `trades` have, which agrees with its rows."""
    register_announced(engine, [one for numbers in ANNOUNCED_NUMBERS.read_all(properties) for one in numbers.each()])


def register_announced_then(engine: Engine, ledger: Table | None, exchange: str | None, symbol: str | None) -> None:
    """Register as `announced` the end of the highest gap of each session, by the events below the offset bounds.

    It is above the newest trade of that time if the gap was opened because its numbers were named.
    """
    if ledger is None:
        register_announced(engine, [])
        return
    engine.register("openings", ledger, row_filter=equal(exchange=exchange, symbol=symbol))
    engine.register_arrow("announced", engine.table(_HIGHEST_GAPS, {}))


def register_announced(engine: Engine, announced: Iterable[AnnouncedNumber]) -> None:
    """Register announced numbers as `announced`."""
    rows = [(*one.key, one.number, one.at) for one in announced if one.number is not None]
    engine.register_arrow("announced", table_of(_ANNOUNCED, rows))


_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
    pa.field("number", pa.int64()),
    pa.field("named_at", pa.int64()),
]
_ANNOUNCED: Final = pa.schema(_FIELDS)
_HIGHEST_GAPS: Final = f"""
    SELECT exchange, symbol, session, max(last_sequence) AS number,
           epoch_us(arg_max("timestamp", last_sequence)) AS named_at
    FROM openings {BELOW_OFFSET_BOUNDS} AND event = 'gap_opened' GROUP BY exchange, symbol, session
"""

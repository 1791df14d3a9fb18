"""Merkle roots of the rows of a day, symbol by symbol, and the rows in which two states of the table differ."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import And
from pyiceberg.table import Table

from k2.certificates.canonical import FIELDS
from k2.certificates.merkle import MerkleTree
from k2.query.day_facts import DaySelection
from k2.query.engine import Engine
from k2.query.where_clauses import between, equal

__all__ = ["CANONICAL_ROW", "LEAVES", "RowDifference", "digests", "leaves", "register_day", "roots", "row_differences"]

_TEXTS: Final = frozenset({"exchange", "symbol", "trade_id", "side"})
_DECIMALS: Final = frozenset({"price", "quantity"})


def _field(name: str) -> str:
    """Return SQL for the canonical text of a column."""
    if name in _TEXTS:
        return f"strlen({name}) || ':' || {name}"
    if name in _DECIMALS:
        return f"rtrim(rtrim({name}::VARCHAR, '0'), '.')"
    if name == "timestamp":
        return 'epoch_us("timestamp")'
    return "nullif(first_sequence, sequence)" if name == "first_sequence" else name


_PARTS: Final = ", ".join(f"coalesce(({_field(name)})::VARCHAR, '-')" for name in FIELDS)
CANONICAL_ROW: Final = f"concat_ws(',', {_PARTS})"
"""SQL for the canonical bytes of a row, as text: what `k2.certificates.canonical.canonical_row` returns."""
_ON_DAY: Final = """
    WHERE exchange = $exchange AND symbol = coalesce($symbol, symbol)
      AND "timestamp" >= $start::TIMESTAMPTZ AND "timestamp" < $end::TIMESTAMPTZ
"""
_ORDER: Final = """
    ORDER BY symbol, session NULLS FIRST, sequence NULLS FIRST, trade_id NULLS FIRST, price, quantity,
             side NULLS FIRST, "timestamp", nullif(first_sequence, sequence) NULLS FIRST
"""
LEAVES: Final = f"""
    SELECT symbol, session, sequence, unhex(sha256('\\x00'::BLOB || encode({CANONICAL_ROW}))) AS leaf
    FROM trades {_ON_DAY} {_ORDER}
"""
"""Leaf hashes of an exchange's day in the order of the tree."""
_COLUMNS: Final = ", ".join(f'"{name}"' for name in FIELDS)
_DIFFERENCES: Final = f"""
    SELECT symbol, session, sequence, trade_id, is_added FROM (
        (SELECT {_COLUMNS}, true AS is_added FROM trades {_ON_DAY}
         EXCEPT ALL SELECT {_COLUMNS}, true FROM trades_then {_ON_DAY})
        UNION ALL
        (SELECT {_COLUMNS}, false FROM trades_then {_ON_DAY}
         EXCEPT ALL SELECT {_COLUMNS}, false FROM trades {_ON_DAY})
    ) WHERE len($symbols) = 0 OR list_contains($symbols, symbol)
    ORDER BY symbol, session, sequence, trade_id, is_added
"""


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that one of two states of the table has and the other lacks. A changed row is one of each kind."""

    symbol: str
    session: int | None
    sequence: int | None
    trade_id: str | None
    is_added: bool
    """Whether the newer state has it."""


def register_day(
    engine: Engine, table: Table, selection: DaySelection, snapshot_id: int | None = None, name: str = "trades"
) -> None:
    """Register the data files that may have rows of a day under a name, as of a snapshot (now by default)."""
    names = equal(exchange=selection.exchange, symbol=selection.symbol)
    in_day = And(names, between("timestamp", selection.start, selection.end))
    engine.register(name, table, row_filter=in_day, snapshot_id=snapshot_id)


def roots(engine: Engine, selection: DaySelection) -> Mapping[str, MerkleTree]:
    """Return the tree of each symbol that has rows, over the registered `trades`."""
    trees: dict[str, MerkleTree] = {}
    for symbol, rows in leaves(engine, selection):
        tree = trees.get(symbol) or trees.setdefault(symbol, MerkleTree())
        tree.extend(digests(rows["leaf"]))
    return trees


def digests(leaf: "pa.Array[Any] | pa.ChunkedArray[Any]") -> list[bytes]:
    """Return a column of leaf hashes as bytes."""
    values: list[Any] = leaf.to_pylist()
    return values


def leaves(engine: Engine, selection: DaySelection) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the rows of `LEAVES` of each symbol, in one or more batches; the symbols ascend."""
    with engine.rows(LEAVES, selection.parameters) as found:
        for batch in found.batches:
            runs = pc.run_end_encode(batch["symbol"])  # type: ignore[attr-defined]
            first = 0
            for symbol, until in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                yield symbol, batch.slice(first, until - first)
                first = until


def row_differences(engine: Engine, selection: DaySelection, symbols: Iterable[str] = ()) -> list[RowDifference]:
    """Return the rows in which the registered `trades` and `trades_then` differ; `symbols` are all by default."""
    parameters: dict[str, Any] = {**selection.parameters, "symbols": [*symbols]}
    return [RowDifference(**row) for row in engine.query(_DIFFERENCES, parameters)]

"""Trades stored twice: one number and content of a symbol in more than one session.

An earlier version could assign a trade that was read again to a new session. Such rows are found by their content;
nothing is deleted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.ops.settings import Settings
from k2.query.engine import RecordBatchStream
from k2.query.pool import EnginePool, open_engine
from k2.query.tables import check_columns, existing_table

__all__ = ["doubled"]

_COLUMNS: Final = (
    "exchange",
    "symbol",
    "trade_id",
    "sequence",
    "session",
    "price",
    "quantity",
    "side",
    "timestamp",
    "topic",
    "partition",
    "offset",
    "index",
)


@contextmanager
def doubled(settings: Settings, *, pool: EnginePool | None = None) -> Iterator[RecordBatchStream]:
    """Yield a row for each number that is stored with one content in several sessions, sorted.

    Content is price, quantity, side and trade id. `copies` lists the stored rows' session, timestamp, topic, partition,
    offset and index, sorted by session.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: the table was not created by the job.
        QueryTimeoutError, QueryMemoryError, QueryBusyError: a configured limit was exceeded.
    """
    table = existing_table(settings, "trades", pool)
    check_columns(table, _COLUMNS)
    with open_engine(settings, pool) as engine:
        engine.register("trades", table)
        with engine.rows(_COPIES) as copies:
            schema = _schema(copies)
            yield RecordBatchStream(schema, _grouped(copies, schema))


def _schema(copies: RecordBatchStream) -> pa.Schema:
    fields: list[pa.Field[Any]] = [copies.schema.field(name) for name in _NUMBER]
    copy = pa.struct([copies.schema.field(name) for name in _COPY])
    return pa.schema([*fields, pa.field("copies", pa.list_(copy))])


def _grouped(copies: RecordBatchStream, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield a row for each group of sorted copies; a group may continue in the next batch."""
    held = copies.schema.empty_table()
    for batch in chain(copies.batches, [None]):
        if batch is not None:
            held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        starts = _starts(held)
        whole = held.num_rows if batch is None else int(starts[-1]) if len(starts) else 0
        if whole > 0:
            yield from _rows(held.slice(0, whole), starts[starts < whole], schema)
        held = held.slice(whole)


def _starts(copies: pa.Table) -> npt.NDArray[np.int64]:
    """Return the int64 index of each row whose number or content differs from the previous row's."""
    content, sequence = (copies[name].to_numpy() for name in ("content", "sequence"))
    is_start = np.ones(copies.num_rows, dtype=np.bool_)
    is_start[1:] = (content[1:] != content[:-1]) | (sequence[1:] != sequence[:-1])
    return np.flatnonzero(is_start)


def _rows(copies: pa.Table, starts: npt.NDArray[np.int64], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the groups that begin at `starts` and have more than one session; each is sorted by session."""
    bounds = np.append(starts, copies.num_rows)
    session = copies["session"].to_numpy()
    several = pa.array(session[starts] != session[bounds[1:] - 1])
    fields: list[pa.Field[Any]] = [copies.schema.field(name) for name in _COPY]
    rows = pa.StructArray.from_arrays([copies[name].combine_chunks() for name in _COPY], fields=fields)
    lists = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), rows)
    numbers = copies.select(_NUMBER).take(starts).append_column(schema.field("copies"), lists)
    yield from numbers.filter(several).to_batches()


_NUMBER: Final = ("exchange", "symbol", "sequence", "price", "quantity", "side", "trade_id")
_COPY: Final = ("session", "timestamp", "topic", "partition", "offset", "index")
# Most symbols have one session and are excluded by a small aggregate. For the others a 64-bit hash stands for number
# and content, so that the large aggregate holds no strings. The copies are sorted here, which can spill to disk, but
# not aggregated to lists, which cannot. Different numbers whose hashes collide are separated afterwards.
_COPIES: Final = """
    WITH numbered AS (
        SELECT *, hash(exchange, symbol, sequence, price, quantity, side, trade_id) AS content
        FROM trades WHERE sequence IS NOT NULL AND session > 0
    ), restarted AS (
        SELECT exchange, symbol FROM trades WHERE session > 0
        GROUP BY exchange, symbol HAVING min(session) <> max(session)
    ), several AS (
        SELECT content FROM numbered SEMI JOIN restarted USING (exchange, symbol)
        GROUP BY content HAVING min(session) <> max(session)
    )
    SELECT exchange, symbol, sequence, price, quantity, side, trade_id, content,
           session, "timestamp", topic, partition, "offset", "index"
    FROM numbered SEMI JOIN several USING (content)
    ORDER BY exchange, symbol, sequence, content, session, topic, partition, "offset", "index"
"""

"""Batches and slices: selected rows and messages contain no byte of others, and pickles carry names, not ids."""

import pickle
from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from k2.model.batch import NULL_TIME, MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.progress import TopicPartition
from k2.model.symbol_names import NameList
from k2.model.symbols import Symbols
from k2.model.trade import BUY, SELL, Trade
from k2.venues.decode import decode
from tests.model.trade_slices import Row, slice_of
from tests.venues.messages import BINANCE_MESSAGE, K2_MESSAGE, batch_of, rows_of

TRADES: Final = [
    Trade("a", "x", "id", 7, -5, 2**64, BUY, 10, 11),
    Trade("a", "y", None, None, 2**100, 1, SELL, 12, None),
    Trade("c", "z", "other", 3, 1, 1, 0, 15, 16),
    Trade("b", "x", "last", 0, 0, 3, 0, 13, 14),
]
ROWS: Final = [
    (0, 0, ("a", "x"), "id", 7, 7, -5, 2**64, BUY, 10, 11),
    (0, 1, ("a", "y"), None, None, None, 2**100, 1, SELL, 12, NULL_TIME),
    (1, 0, ("c", "z"), "other", 3, 3, 1, 1, 0, 15, 16),
    (4, 0, ("b", "x"), "last", 0, 0, 0, 3, 0, 13, 14),
]
DTYPES: Final = {
    "symbols": "int32",
    "sequences": "int64",
    "first_sequences": "int64",
    "has_sequence": "bool",
    "prices": "uint64",
    "quantities": "uint64",
    "sides": "int8",
    "timestamps": "int64",
    "received": "int64",
    "text": "uint8",
    "id_starts": "int64",
    "id_sizes": "int32",
    "messages": "int32",
    "indexes": "int32",
}


def columns_of_trades() -> TradeColumns:
    """Return four trades of three messages as columns."""
    return TradeColumns.from_trades(TRADES, [0, 0, 1, 4], [0, 1, 0, 0], Symbols())


def dtypes(columns: TradeColumns) -> dict[str, str]:
    """Return each column's type."""
    return {name: str(getattr(columns, name).dtype) for name in columns.__slots__ if name != "names"}


def messages_of(batch: MessageBatch) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Return every message with its coordinates."""
    return [
        (int(batch.offsets[at]), int(batch.kafka_timestamps[at]), batch.value(at), batch.key(at))
        for at in range(len(batch))
    ]


def test_trades_are_laid_out_as_columns() -> None:
    """Every value is preserved, and the columns have the dtypes that compiled loops take, with rows or without."""
    columns = columns_of_trades()
    assert rows_of(columns) == ROWS
    assert (columns.text.tobytes(), columns.id_sizes.tolist()) == (b"idotherlast", [2, -1, 5, 4])
    assert dtypes(columns) == dtypes(TradeColumns.from_trades([], [], [], Symbols())) == DTYPES


def test_columns_are_concatenated_and_selected() -> None:
    """Concatenation keeps the rows of all parts, ids included; selection returns the requested rows."""
    columns = columns_of_trades()
    whole = TradeColumns.concatenate(
        [columns, TradeColumns.from_trades([], [], [], Symbols()), columns.take(np.array([3, 0]))]
    )
    assert rows_of(whole) == [*ROWS, ROWS[3], ROWS[0]]
    assert dtypes(whole) == DTYPES
    assert rows_of(whole.take(np.array([0, 0, 0, 0, 1, 1], dtype=np.bool_))) == [ROWS[3], ROWS[0]]


def test_selected_messages_contain_no_byte_of_others() -> None:
    """Values and keys are byte for byte the same, nulls stay null, and the order is the requested one."""
    batch = replace(batch_of([b"one", None, b"", b"four"]), kafka_timestamps=np.array([5, 6, 7, 8]))
    batch = replace(batch, key_sizes=np.array([3, 3, -1, 2], dtype=np.int32))
    taken = batch.take(np.array([3, 1, 2], dtype=np.int32))
    assert messages_of(taken) == [(103, 8, b"four", b"ke"), (101, 6, None, b"key"), (102, 7, b"", None)]
    assert len(taken.data) == len(b"four" + b"ke" + b"key")
    assert (taken.topic, taken.first_offset, taken.next_offset) == ("trades", 100, 104)
    assert messages_of(batch.take(np.empty(0, dtype=np.int32))) == []


def test_the_first_batch_of_a_run_has_no_messages() -> None:
    """It covers no offset and is sent to every key group; other batches are not."""
    first = MessageBatch.first(TopicPartition("t", 3), "okx", 9)
    assert (first.topic, first.partition, first.venue, first.first_offset, first.next_offset) == ("t", 3, "okx", 9, 9)
    assert (len(first), messages_of(first), first.is_first, batch_of([]).is_first) == (0, [], True, False)
    empty = batch_of([])
    for name in ("offsets", "kafka_timestamps", "data", "value_starts", "value_sizes", "key_starts", "key_sizes"):
        column = getattr(first, name)
        assert (len(column), column.dtype) == (0, getattr(empty, name).dtype)
    assert len(decode(replace(first, venue="k2")).trades.columns) == 0


def slice_of_two() -> TradeSlice:
    """Return a slice of some rows of a batch whose ids are not adjacent to its messages."""
    batch = TradeBatch(batch_of([b"zero", b"-", b"-", b"-", b"four"]), columns_of_trades())
    rows = np.array([0, 3], dtype=np.int32)
    return TradeSlice(batch, 5, rows, np.array([1, 2], dtype=np.uint8), np.array([3, 4], dtype=np.int32))


def said_of(piece: TradeSlice) -> tuple[object, ...]:
    """Return the content of a slice as plain values; a row's message is the one that it names."""
    batch = piece.batch
    rows = [rows_of(batch.columns)[row] for row in piece.rows]
    messages = [batch.source.value(row[0]) for row in rows]
    offsets = [batch.offset(int(row)) for row in piece.rows]
    rest = piece.group, piece.verdicts.tolist(), piece.sessions.tolist()
    return [row[1:] for row in rows], messages, offsets, rest


@pytest.mark.parametrize("change", [TradeSlice.compact, lambda piece: pickle.loads(pickle.dumps(piece))])  # noqa: S301
def test_a_compact_slice_contains_only_its_own_rows(change: object) -> None:
    """It has the same rows, ids and messages in the same columns; so does a pickled slice."""
    piece = slice_of_two()
    small: TradeSlice = change(piece)  # type: ignore[operator]
    assert said_of(small) == said_of(piece)
    assert said_of(piece)[1:3] == ([b"zero", b"four"], [100, 104])
    assert (small.rows.tolist(), small.rows.dtype, len(small)) == ([0, 1], np.int32, 2)
    assert (len(small.batch.source), small.batch.source.data.tobytes()) == (2, b"zerofourkeykey")
    assert small.batch.columns.text.tobytes() == b"idlast"
    assert dtypes(small.batch.columns) == DTYPES


def test_a_pickled_slice_carries_symbol_names() -> None:
    """The registry does not leave the process: the ids are those of a list of the names that occur."""
    piece = slice_of_two()
    there: TradeSlice = pickle.loads(pickle.dumps(piece))  # noqa: S301
    columns = there.batch.columns
    assert columns.names == NameList([("a", "x"), ("b", "x")])
    assert [columns.name(row) for row in there.rows.tolist()] == [("a", "x"), ("b", "x")]


def test_a_slice_takes_the_ids_of_another_registry() -> None:
    """Names, rows and everything else stay; a slice that has these ids already is returned as it is."""
    symbols, piece = Symbols(), slice_of_two()
    symbols.intern("b", "x")
    here = piece.with_ids_of(symbols)
    assert said_of(here) == said_of(piece)
    assert here.batch.columns.symbols[here.rows].tolist() == [1, 0]
    assert here.with_ids_of(symbols) is here


def test_a_slice_without_rows_is_compact_as_well() -> None:
    """It contains nothing of its batch."""
    none = np.empty(0, dtype=np.int32)
    batch = decode(batch_of([K2_MESSAGE, BINANCE_MESSAGE])).trades
    small = TradeSlice(batch, 1, none, np.empty(0, dtype=np.uint8), none).compact()
    assert (len(small), len(small.batch.columns), len(small.batch.source), len(small.batch.source.data)) == (0, 0, 0, 0)


def test_a_pickled_slice_has_ranges_only_if_its_trades_have() -> None:
    """First numbers take no room where each trade stands for one number, and are kept where some do not."""
    plain = slice_of([Row(1), Row(2)])
    ranges = slice_of([Row(3, first_sequence=1), Row(4)])
    there = [pickle.loads(pickle.dumps(one)).batch.columns for one in (plain, ranges)]  # noqa: S301
    assert [one.has_ranges for one in there] == [False, True]
    assert [one.first_sequences.tolist() for one in there] == [[1, 2], [1, 4]]

"""Rows of several slices brought together."""

import numpy as np

from k2.iceberg.output_columns import append, each_column, empty_rows, gather_text, id_bytes
from k2.model.symbols import SYMBOLS
from tests.sequencing.trade_slices import Row, slice_of


def test_picked_rows_are_copied_behind_those_there_are() -> None:
    """Rows, coordinates and ids of the picked rows alone, from where the last ended."""
    rows, text = empty_rows(5), np.zeros(20, dtype=np.uint8)
    first = slice_of([Row(1, trade_id="ab"), Row(2, trade_id="xxxx"), Row(3)], first_offset=10)
    second = slice_of([Row(4, trade_id="c", symbol="ETH-USD", timestamp=9)], first_offset=50)
    picks = np.array([0, 2])
    assert id_bytes(first, picks) == 2
    end = append(rows, 0, text, 0, first, picks, 0)
    end = append(rows, 2, text, end, second, np.array([0]), 7)
    assert (end, text[:3].tobytes()) == (3, b"abc")
    assert rows.sequences[:3].tolist() == [1, 3, 4]
    assert rows.offsets[:3].tolist() == [10, 12, 50]
    assert rows.places[:3].tolist() == [0, 0, 7]
    assert rows.id_sizes[:3].tolist() == [2, -1, 1]
    assert rows.id_starts[:3].tolist() == [0, 2, 2]
    assert rows.timestamps[2] == 9
    assert SYMBOLS.name(int(rows.symbols[2])) == ("kraken", "ETH-USD")


def test_rows_are_of_the_types_of_batches() -> None:
    """So that a copy loses nothing: a decimal has two words, the rest are single numbers."""
    rows = empty_rows(3)
    assert {name: (str(column.dtype), column.shape) for name, column in rows._asdict().items()} == {
        "symbols": ("int32", (3,)),
        "sessions": ("int32", (3,)),
        "sequences": ("int64", (3,)),
        "has_sequence": ("bool", (3,)),
        "prices": ("uint64", (3, 2)),
        "quantities": ("uint64", (3, 2)),
        "sides": ("int8", (3,)),
        "timestamps": ("int64", (3,)),
        "received": ("int64", (3,)),
        "kafka_timestamps": ("int64", (3,)),
        "places": ("int32", (3,)),
        "offsets": ("int64", (3,)),
        "indexes": ("int32", (3,)),
        "id_starts": ("int64", (3,)),
        "id_sizes": ("int32", (3,)),
    }


def test_the_same_is_done_to_each_column() -> None:
    """What comes of each takes its place."""
    rows = empty_rows(3)
    cut = each_column(rows, lambda column: column[1:])
    assert type(cut) is type(rows)
    assert all(np.shares_memory(one, other) and len(one) == 2 for one, other in zip(cut, rows, strict=True))


def test_what_is_gathered_does_not_keep_the_batch_alive() -> None:
    """The copy is unmoved by what becomes of the batch."""
    rows, text = empty_rows(1), np.zeros(2, dtype=np.uint8)
    piece = slice_of([Row(1, trade_id="ab")])
    append(rows, 0, text, 0, piece, np.array([0]), 0)
    piece.batch.columns.text[:] = 0
    piece.batch.columns.sequences[:] = 0
    assert (text.tobytes(), rows.sequences[0]) == (b"ab", 1)


def test_texts_lie_side_by_side_in_row_order() -> None:
    """Ends are Arrow's offsets; a null takes no byte."""
    text = np.frombuffer(b"abcdef", dtype=np.uint8)
    ends, out = np.empty(4, dtype=np.int32), np.empty(3, dtype=np.uint8)
    assert gather_text(text, np.array([4, 0, 2]), np.array([2, -1, 1], dtype=np.int32), ends, out) == 3
    assert (ends.tolist(), out.tobytes()) == ([0, 2, 2, 3], b"efc")

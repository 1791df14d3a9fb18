"""The column buffer: rows of several slices as columns."""

import numpy as np

from k2.iceberg.output_columns import append_rows, empty_columns, id_bytes, map_columns
from tests.model.trade_slices import Row, slice_of


def test_selected_rows_are_appended() -> None:
    """Only rows, coordinates and ids of the selected rows, after the last ones."""
    rows, text = empty_columns(5), np.zeros(20, dtype=np.uint8)
    first = slice_of([Row(1, trade_id="ab"), Row(2, trade_id="xxxx"), Row(3)], first_offset=10)
    second = slice_of([Row(4, trade_id="c", symbol="ETH-USD", timestamp=9)], first_offset=50)
    picks = np.array([0, 2])
    assert id_bytes(first, picks) == 2
    end = append_rows(rows, 0, text, 0, first, picks, 0)
    end = append_rows(rows, 2, text, end, second, np.array([0]), 7)
    assert (end, text[:3].tobytes()) == (3, b"abc")
    assert rows.sequences[:3].tolist() == [1, 3, 4]
    assert rows.offsets[:3].tolist() == [10, 12, 50]
    assert rows.topic_partitions[:3].tolist() == [0, 0, 7]
    assert rows.id_sizes[:3].tolist() == [2, -1, 1]
    assert rows.id_starts[:3].tolist() == [0, 2, 2]
    assert rows.timestamps[2] == 9
    assert second.batch.columns.names.name(int(rows.symbols[2])) == ("kraken", "ETH-USD")


def test_rows_have_the_dtypes_of_batches() -> None:
    """A copy loses nothing: a decimal has two words, the others are single numbers."""
    rows = empty_columns(3)
    assert {name: (str(column.dtype), column.shape) for name, column in rows._asdict().items()} == {
        "symbols": ("int32", (3,)),
        "sessions": ("int32", (3,)),
        "sequences": ("int64", (3,)),
        "first_sequences": ("int64", (3,)),
        "has_sequence": ("bool", (3,)),
        "prices": ("uint64", (3, 2)),
        "quantities": ("uint64", (3, 2)),
        "sides": ("int8", (3,)),
        "timestamps": ("int64", (3,)),
        "received": ("int64", (3,)),
        "kafka_timestamps": ("int64", (3,)),
        "topic_partitions": ("int32", (3,)),
        "offsets": ("int64", (3,)),
        "indexes": ("int32", (3,)),
        "origins": ("int32", (3,)),
        "id_starts": ("int64", (3,)),
        "id_sizes": ("int32", (3,)),
    }


def test_a_function_is_applied_to_each_column() -> None:
    """The result replaces the column."""
    rows = empty_columns(3)
    cut = map_columns(rows, lambda column: column[1:])
    assert type(cut) is type(rows)
    assert all(np.shares_memory(one, other) and len(one) == 2 for one, other in zip(cut, rows, strict=True))


def test_the_buffer_does_not_reference_the_batch() -> None:
    """The copy does not change when the batch does."""
    rows, text = empty_columns(1), np.zeros(2, dtype=np.uint8)
    piece = slice_of([Row(1, trade_id="ab")])
    append_rows(rows, 0, text, 0, piece, np.array([0]), 0)
    piece.batch.columns.text[:] = 0
    piece.batch.columns.sequences[:] = 0
    assert (text.tobytes(), rows.sequences[0]) == (b"ab", 1)

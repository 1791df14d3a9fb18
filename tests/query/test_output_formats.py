"""Results as bytes: each format is read back as the same rows."""

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from k2.query.engine import QueryError, RecordBatchStream
from k2.query.output_formats import Format, write
from tests.query.tables import EPOCH

SCHEMA = pa.schema(
    {
        "text": pa.string(),
        "price": pa.decimal128(38, 18),
        "time": pa.timestamp("us", tz="UTC"),
        "number": pa.int64(),
        "average": pa.float64(),
    }
)
ROWS: list[dict[str, Any]] = [
    {
        "text": 'a,"b"\n日本',
        "price": Decimal("0.000000000000000001"),
        "time": EPOCH + timedelta(microseconds=1),
        "number": 2**63 - 1,
        "average": 0.1,
    },
    dict.fromkeys(SCHEMA.names),
]


def rows_of(*batches: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> RecordBatchStream:
    """Return rows in some number of batches."""
    return RecordBatchStream(schema, (pa.RecordBatch.from_pylist(batch, schema=schema) for batch in batches))


def written(form: Format, *batches: list[dict[str, Any]]) -> bytes:
    """Write batches and return the bytes."""
    stream = io.BytesIO()
    assert write(rows_of(*batches), form, stream) == sum(map(len, batches))
    return stream.getvalue()


def read_csv(data: bytes) -> pa.Table:
    """Parse CSV as a spreadsheet or script would."""
    options = pa.csv.ConvertOptions(column_types=SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False)
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.read_csv(io.BytesIO(data), convert_options=options, parse_options=parsing)


@pytest.mark.parametrize(
    ("form", "read"),
    [
        (Format.CSV, read_csv),
        (Format.PARQUET, lambda data: pq.read_table(io.BytesIO(data))),
        (Format.ARROW, lambda data: pa.ipc.open_stream(data).read_all()),
    ],
)
@pytest.mark.parametrize("batches", [[ROWS], [ROWS[:1], [], ROWS[1:]], [[]]])
def test_results_survive_a_round_trip(form: Format, read: Any, batches: list[list[dict[str, Any]]]) -> None:
    """All digits, microseconds and nulls, in any batches; without rows only the columns."""
    found = read(written(form, *batches))
    assert found.schema.names == SCHEMA.names
    assert found.to_pylist() == [row for batch in batches for row in batch]


@pytest.mark.parametrize("batches", [[ROWS], [ROWS[:1], [], ROWS[1:]], [[]], []])
def test_json(batches: list[list[dict[str, Any]]]) -> None:
    """One array; decimals as strings with all their digits, times as RFC 3339."""
    found = json.loads(written(Format.JSON, *batches))
    first = {
        "text": 'a,"b"\n日本',
        "price": "0.000000000000000001",
        "time": "2024-08-09T00:00:00.000001Z",
        "number": 2**63 - 1,
        "average": 0.1,
    }
    assert found == [first, dict.fromkeys(SCHEMA.names)][: sum(map(len, batches))]


def test_a_column_that_a_format_cannot_encode_is_named() -> None:
    """CSV has no lists."""
    schema = pa.schema({"list": pa.list_(pa.int64())})
    with pytest.raises(QueryError, match="cannot encode a column as csv"):
        write(rows_of([{"list": [1]}], schema=schema), Format.CSV, io.BytesIO())


def test_the_row_limit_is_applied() -> None:
    """Results are cut within a batch, and no later batch is read."""

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(2):
            yield pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA)
        pytest.fail("one batch too many")

    found = RecordBatchStream(SCHEMA, batches()).first(3)
    assert [batch.num_rows for batch in found.batches] == [2, 1]


@pytest.mark.parametrize("form", [*Format])
def test_duplicate_column_names_are_rejected(form: Format) -> None:
    """A reader could mistake one for the other, so nothing is written."""
    schema = pa.schema([pa.field("a", pa.int64()), pa.field("a", pa.int64())])
    stream = io.BytesIO()
    with pytest.raises(QueryError, match="two columns have the name 'a'"):
        write(
            RecordBatchStream(
                schema, iter([pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], schema=schema)])
            ),
            form,
            stream,
        )
    assert stream.getvalue() == b""

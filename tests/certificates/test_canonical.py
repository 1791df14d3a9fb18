"""Canonical bytes of rows: the published definition, in Python and in DuckDB's SQL."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2.certificates.canonical import FIELDS, canonical_row, canonical_text, document_hash
from k2.certificates.merkle import MerkleTree, leaf_hash
from k2.query.certified_rows import CANONICAL_ROW, LEAVES
from tests.test_structure import ROOT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES = pa.schema(
    {
        "exchange": pa.string(),
        "symbol": pa.string(),
        "session": pa.int32(),
        "sequence": pa.int64(),
        "trade_id": pa.string(),
        "price": pa.decimal128(38, 18),
        "quantity": pa.decimal128(38, 18),
        "side": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "first_sequence": pa.int64(),
    }
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
longs = st.integers(-(2**63), 2**63 - 1)
decimals = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda units: Decimal(f"{units}e-18"))
rows = st.fixed_dictionaries(
    {
        "exchange": texts,
        "symbol": texts,
        "session": st.none() | st.integers(0, 2**31 - 1),
        "sequence": st.none() | longs,
        "trade_id": st.none() | texts,
        "price": decimals | st.sampled_from([Decimal(0), Decimal(100), Decimal("0.10")]),
        "quantity": decimals,
        "side": st.none() | st.sampled_from(["buy", "sell"]),
        "timestamp": st.integers(-(10**15), 10**16).map(lambda us: EPOCH + timedelta(microseconds=us)),
        "first_sequence": st.none() | longs,
    }
)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    """Return a database for all examples."""
    return duckdb.connect(config={"threads": 1})


@given(found=st.lists(rows, min_size=1, max_size=10))
@settings(max_examples=25)
def test_duckdb_computes_the_same_bytes(connection: duckdb.DuckDBPyConnection, found: list[dict[str, Any]]) -> None:
    """Of any row, null fields and texts with separators included."""
    connection.register("trades", pa.Table.from_pylist(found, schema=TYPES))
    computed = connection.execute(f"SELECT encode({CANONICAL_ROW}) FROM trades").fetchall()
    assert [one for (one,) in computed] == [canonical_row(row) for row in found]


@given(rows, rows)
def test_different_rows_have_different_bytes(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The bytes can be read back in one way only; a range of one number is that number."""
    key = [{**row, "first_sequence": _range(row)} for row in (one, other)]
    assert (canonical_row(one) == canonical_row(other)) == (key[0] == key[1])


def _range(row: dict[str, Any]) -> int | None:
    return None if row["first_sequence"] == row["sequence"] else row["first_sequence"]


def test_the_order_of_the_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """By the fields in their order, a null before any value, whatever the order in the table."""
    row = {"exchange": "x", "symbol": "S", "price": Decimal(1), "quantity": Decimal(1), "timestamp": EPOCH}
    ordered: list[dict[str, Any]] = [
        {**row, "session": None, "sequence": 9},
        {**row, "session": 1, "sequence": None, "trade_id": "b"},
        {**row, "session": 1, "sequence": 2, "trade_id": None},
        {**row, "session": 1, "sequence": 2, "trade_id": "B", "side": None},
        {**row, "session": 1, "sequence": 2, "trade_id": "B", "side": "buy"},
        {**row, "session": 1, "sequence": 10, "price": Decimal(9)},
        {**row, "session": 1, "sequence": 10, "price": Decimal(10)},
        {**row, "symbol": "s", "session": 1, "sequence": 1},
    ]
    connection.register("trades", pa.Table.from_pylist([*reversed(ordered)], schema=TYPES))
    day = {"exchange": "x", "symbol": None, "start": EPOCH, "end": EPOCH + timedelta(days=1)}
    found = [row[3] for row in connection.execute(LEAVES, day).fetchall()]
    assert found == [leaf_hash(canonical_row(row)) for row in ordered]
    assert tuple(TYPES.names) == FIELDS


def test_the_hash_of_a_document_leaves_out_its_signature() -> None:
    """And does not depend on the order of the keys; names keep their characters."""
    document = {"symbol": "日本", "day": "2024-08-09", "signature": "00"}
    assert canonical_text(document) == '{"day":"2024-08-09","signature":"00","symbol":"日本"}'.encode()
    assert document_hash(document) == document_hash({"day": "2024-08-09", "signature": None, "symbol": "日本"})


def test_the_published_sql_computes_the_published_example(connection: duckdb.DuckDBPyConnection) -> None:
    """The statement of docs/certificates.md gives the leaves of the root that its Python example asserts."""
    text = (ROOT / "docs" / "certificates.md").read_text(encoding="utf-8")
    (root,) = re.findall(r'assert root\(rows\) == "([0-9a-f]{64})"', text)
    (statement,) = re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    values: list[tuple[int, str, str, str, str | None, int, int | None]] = [
        (12, "a12", "61837.1", "0.00000001", "sell", 1723161601000001, 9),
        (8, "a8", "61838", "10", None, 1723161600250000, 8),
        (7, "a7", "61837.63", "0.5", "buy", 1723161600000000, None),
    ]
    found = [
        {
            "exchange": "kraken",
            "symbol": "BTC/USD",
            "session": 1,
            "sequence": sequence,
            "trade_id": trade_id,
            "price": Decimal(price),
            "quantity": Decimal(quantity),
            "side": side,
            "timestamp": EPOCH + timedelta(microseconds=time),
            "first_sequence": first,
        }
        for sequence, trade_id, price, quantity, side, time, first in values
    ]
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("trades", pa.Table.from_pylist(found, schema=TYPES))
    tree = MerkleTree()
    tree.extend([bytes.fromhex(leaf) for (leaf,) in connection.execute(statement).fetchall()])
    assert (tree.leaves, tree.root.hex()) == (3, root)

"""Symbol ids: assigned once, found by the bytes of names, and stable while the table grows."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.key_groups import group_of
from k2.model.symbols import Symbols, as_bytes, lookup

NAMES = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=30)


def found(symbols: Symbols, exchange: str, symbol: str) -> int:
    """Look a pair up as compiled loops do, with its names surrounded by other bytes."""
    one, other = (np.concatenate([as_bytes("?"), as_bytes(name), as_bytes("!")]) for name in (exchange, symbol))
    return lookup(symbols.table, one, 1, len(one) - 2, other, 1, len(other) - 2)


@given(NAMES, st.sampled_from([1, 2, 8]))
def test_a_pair_has_one_id(names: list[tuple[str, str]], capacity: int) -> None:
    """Ids count from 0 in the order of first use, whatever the capacity; loops find the same ids by bytes."""
    symbols = Symbols(capacity)
    numbers = [symbols.intern(*name) for name in names]
    distinct = list(dict.fromkeys(names))
    assert numbers == [distinct.index(name) for name in names]
    assert [symbols.name(number) for number in range(len(symbols))] == distinct
    assert [found(symbols, *name) for name in distinct] == list(range(len(distinct)))
    assert symbols.groups[: len(distinct)].tolist() == [group_of(*name) for name in distinct]
    assert found(symbols, "absent", "pair") == -1


@pytest.mark.parametrize("first", [("a", "xb"), ("ax", "b"), ("", "axb"), ("axb", "")])
def test_pairs_differ_by_where_a_name_ends(first: tuple[str, str]) -> None:
    """The same bytes split elsewhere are another pair."""
    symbols = Symbols()
    symbols.intern(*first)
    others = {("a", "xb"), ("ax", "b"), ("", "axb"), ("axb", "")} - {first}
    assert [found(symbols, *other) for other in others] == [-1] * 3


def test_the_table_grows_before_it_is_full() -> None:
    """At least half of the slots stay free, so that a search ends soon, and names of any length fit."""
    symbols = Symbols(2)
    table = symbols.table
    symbols.intern("a", "1")
    symbols.intern("a", "2")
    assert symbols.table is table
    symbols.intern("a", "3")
    assert (len(table.slots), len(symbols.table.slots), len(symbols.table.starts), len(symbols.groups)) == (4, 8, 4, 4)
    long = "x" * 100_000
    symbols.intern(long, long)
    assert found(symbols, long, long) == 3
    assert [found(symbols, "a", name) for name in "123"] == [0, 1, 2]


def test_compiled_loops_get_the_dtypes_they_expect() -> None:
    """The dtypes of table and groups are the same before and after growth; the slot count is a power of two."""
    symbols = Symbols()
    for _ in range(2):
        assert [str(column.dtype) for column in (*symbols.table, symbols.groups)] == [
            *("int32", "int64", "int32", "int32", "uint8"),
            "int32",
        ]
        assert len(symbols.table.slots).bit_count() == 1
        symbols.intern("long", "x" * 100_000)


def test_two_threads_that_meet_a_pair_get_one_id() -> None:
    """The second thread, which waited for the lock, finds the id that the first assigned."""
    symbols = Symbols()

    class Overtaken(nullcontext[None]):
        """A lock that another thread held while this one waited."""

        def __enter__(self) -> None:
            symbols._add([("a", "x")])

    symbols._lock = Overtaken()  # type: ignore[assignment]
    assert (symbols.intern("a", "x"), len(symbols)) == (0, 1)

"""Numbers of symbols: given once, found by the bytes of names, kept while the table grows."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.key_groups import group_of
from k2.model.symbols import Symbols, as_bytes, lookup

NAMES = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=30)


def found(symbols: Symbols, exchange: str, symbol: str) -> int:
    """Look a pair up as compiled loops do, its names amid other bytes."""
    one, other = (np.concatenate([as_bytes("?"), as_bytes(name), as_bytes("!")]) for name in (exchange, symbol))
    return lookup(symbols.table, one, 1, len(one) - 2, other, 1, len(other) - 2)


@given(NAMES, st.sampled_from([1, 2, 8]))
def test_a_pair_has_one_number(names: list[tuple[str, str]], capacity: int) -> None:
    """From 0 upwards in the order in which pairs were met, whatever room there was; loops find the same by bytes."""
    symbols = Symbols(capacity)
    numbers = [symbols.intern(*name) for name in names]
    distinct = list(dict.fromkeys(names))
    assert numbers == [distinct.index(name) for name in names]
    assert [symbols.name(number) for number in range(len(symbols))] == distinct
    assert [found(symbols, *name) for name in distinct] == list(range(len(distinct)))
    assert symbols.groups[: len(distinct)].tolist() == [group_of(*name) for name in distinct]
    assert found(symbols, "absent", "pair") == -1


@pytest.mark.parametrize("first", [("a", "xb"), ("ax", "b"), ("", "axb"), ("axb", "")])
def test_pairs_are_told_apart_by_where_a_name_ends(first: tuple[str, str]) -> None:
    """The same bytes cut elsewhere are another pair."""
    symbols = Symbols()
    symbols.intern(*first)
    others = {("a", "xb"), ("ax", "b"), ("", "axb"), ("axb", "")} - {first}
    assert [found(symbols, *other) for other in others] == [-1] * 3


def test_the_table_grows_before_it_is_full() -> None:
    """At least half of the slots stay free, so that a search ends soon, and names have room however long they are."""
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


def test_compiled_loops_are_given_what_they_are_compiled_for() -> None:
    """The types of the table and of the groups, before and after growth, and a power of two of slots."""
    symbols = Symbols()
    for _ in range(2):
        assert [str(column.dtype) for column in (*symbols.table, symbols.groups)] == [
            *("int32", "int64", "int32", "int32", "uint8"),
            "int32",
        ]
        assert len(symbols.table.slots).bit_count() == 1
        symbols.intern("long", "x" * 100_000)


def test_of_two_threads_that_meet_a_pair_the_first_names_it() -> None:
    """The other one, which looked before and waited, finds the number given meanwhile."""
    symbols = Symbols()

    class Overtaken(nullcontext[None]):
        """A lock that another thread had while this one waited."""

        def __enter__(self) -> None:
            symbols._add("a", "x")

    symbols._lock = Overtaken()  # type: ignore[assignment]
    assert (symbols.intern("a", "x"), len(symbols)) == (0, 1)

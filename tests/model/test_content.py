"""The content fingerprint of a trade: which fields determine it, and which do not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.content import CONTENT_KEY, NON_MARKET_CONTENT, UNKNOWN, fingerprints, id_word
from k2.model.content import _is_decimal_of as is_decimal_of
from k2.sequencing.tracker_kernel import tracked_columns
from tests.model.trade_slices import Row, slice_of

MIN, MAX = -(2**63), 2**63 - 1
SEQUENCES = st.one_of(st.integers(MIN, MAX), st.integers(-30, 30), st.sampled_from([MIN, MIN + 1, -1, 0, 10, MAX]))
IDS = st.one_of(st.text(max_size=20), SEQUENCES.map(str), SEQUENCES.map(lambda number: f"0{number}"))


def fingerprints_of(*rows: Row) -> list[int]:
    """Return the fingerprints of some rows."""
    found: list[int] = fingerprints(tracked_columns(slice_of(rows).batch).content).tolist()
    return found


def is_decimal(sequence: int, trade_id: str) -> bool:
    """Return whether an id, surrounded by other text, is a number's decimal form."""
    text = np.frombuffer(bytearray(b"1-" + trade_id.encode() + b"2"), dtype=np.uint8)
    return bool(is_decimal_of(sequence, text, 2, len(text) - 3))


def word(sequence: int, trade_id: str | None, key: int = 7) -> int:
    """Return the hash word of an id under a key."""
    text = np.frombuffer(bytearray((trade_id or "").encode()), dtype=np.uint8)
    return int(id_word(sequence, text, 0, -1 if trade_id is None else len(text), np.uint64(key)))


@given(SEQUENCES, IDS)
def test_a_decimal_form_is_the_one_that_python_writes(sequence: int, trade_id: str) -> None:
    """A form with an extra sign, zero or space does not count."""
    assert is_decimal(sequence, trade_id) == (trade_id == str(sequence))
    assert is_decimal(sequence, str(sequence))


@pytest.mark.parametrize(
    ("sequence", "trade_id"),
    [(0, ""), (0, "00"), (0, "-0"), (7, "07"), (7, "+7"), (7, "7 "), (-7, "7"), (-7, "-"), (-7, "-07"), (12, "2")],
)
def test_examples_of_other_forms(sequence: int, trade_id: str) -> None:
    """An id that is not the number's own decimal form identifies the trade by itself."""
    assert not is_decimal(sequence, trade_id)
    assert word(sequence, trade_id) % 2 == 1


@given(SEQUENCES, IDS)
def test_an_id_that_repeats_its_number_has_no_word(sequence: int, trade_id: str) -> None:
    """Its word is 0, as without an id; the word of any other id is odd."""
    assert word(sequence, None) == word(sequence, str(sequence)) == 0
    assert word(sequence, trade_id) % 2 == (trade_id != str(sequence))


@given(st.lists(st.text(max_size=40), min_size=2, max_size=20, unique=True))
def test_different_ids_have_different_words(ids: list[str]) -> None:
    """Also if one is a prefix of another, or if they differ only in null bytes."""
    more = [*ids, *(one + "\0" for one in ids), *("\0" + one for one in ids)]
    assert len({word(1, one) for one in {*more}} - {0}) == len({*more} - {"1"})
    assert word(1, "id", key=1) != word(1, "id", key=2)


def test_time_and_symbol_are_not_content() -> None:
    """The same trade may be sent with different times."""
    rows = Row(7, 1), Row(7, 999, kafka_timestamp=5), Row(7, 1, "ETH-USD"), Row(9, 1)
    assert len({*fingerprints_of(*rows)}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"price": 2},
        {"quantity": 2},
        {"side": 1},
        {"side": 2},
        {"trade_id": "a"},
        {"trade_id": "70"},
        {"trade_id": ""},
        {"price": 2, "quantity": 0},
        {"price": 2**63},
    ],
    ids=str,
)
def test_price_quantity_side_and_explicit_id_are_content(other: dict[str, Any]) -> None:
    """A change of any one of them makes another trade."""
    row = Row(7, 1)
    one, two, again = fingerprints_of(row, row._replace(**other), row._replace(**other, timestamp=9))
    assert one != two == again


def test_high_words_of_decimals_are_content() -> None:
    """Prices or quantities beyond 64 bits that differ only in the upper half have different contents."""
    columns = tracked_columns(slice_of([Row(7, 1)] * 3).batch).content
    columns.prices[1, 1] = columns.quantities[2, 1] = 1
    assert len({*fingerprints(columns).tolist()}) == 3


def test_swapping_price_and_quantity_changes_the_content() -> None:
    """The position of a value counts."""
    one, two = fingerprints_of(Row(7, price=3, quantity=5), Row(7, price=5, quantity=3))
    assert one != two


def test_an_id_that_repeats_the_number_is_not_content() -> None:
    """The trade is the same with it and without it."""
    for number in (7, -7, 0, MIN, MAX):
        assert len({*fingerprints_of(Row(number), Row(number, trade_id=str(number)))}) == 1


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2)), max_size=50))
def test_contents_have_48_bits_and_avoid_reserved_values(trades: list[tuple[int, int, int]]) -> None:
    """No content equals the value for unknown or for a non-market trade; few contents collide."""
    found = fingerprints_of(*(Row(1, price=price, quantity=quantity, side=side) for price, quantity, side in trades))
    assert all(NON_MARKET_CONTENT < content < 2**48 and content != UNKNOWN for content in found)
    assert len({*found}) == len({*trades})


def test_contents_are_uniform_over_48_bits() -> None:
    """Of 100,000 prices none collide in practice, and each bit is set in half of them."""
    found = fingerprints(tracked_columns(slice_of([Row(1, price=price) for price in range(100_000)]).batch).content)
    assert len(np.unique(found)) == 100_000
    for bit in range(48):
        assert 0.48 < ((found >> bit) & 1).mean() < 0.52


def test_the_key_belongs_to_the_process() -> None:
    """It has 64 bits, and content depends on it."""
    assert CONTENT_KEY.dtype == np.uint64

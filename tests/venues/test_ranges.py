"""Ranges of numbers in the language of tables: by first and last number, by last and count, and in one text."""

import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.reasons import RejectedError
from k2.venues import VENUES, SequenceMode
from k2.venues.decode import decode
from k2.venues.table import VenueTable
from k2.venues.table_decoder import venue_of
from k2.venues.table_rules import TableFault, check_table
from tests.venues.messages import batch_of
from tests.venues.test_table_kernel import agree

BASE: Final[dict[str, Any]] = {
    "name": "ranges",
    "source": "made up",
    "exchange": "x",
    "numbering": "range",
    "symbol": {"path": "$.s"},
    "sequence": {"path": "l"},
    "price": {"path": "p"},
    "quantity": {"path": "q"},
    "time": {"path": "t", "unit": "us"},
    "messages": [{"trades": "data[]"}],
}
BY_FIRST: Final = {"first_sequence": {"path": "f"}}
BY_COUNT: Final = {"count": {"path": "c", "optional": True}}
IN_A_TEXT: Final = {
    "sequence": {"path": "r", "pattern": "[0-9]+-([0-9]+)"},
    "first_sequence": {"path": "r", "pattern": "([0-9]+)-[0-9]+"},
}
WITH_A_PREFIX: Final = {
    "sequence": {"path": "l", "type": "text", "pattern": "t(.+)"},
    "count": {"path": "c", "type": "text", "pattern": "n(.+)x"},
}


def table_of(*changes: dict[str, Any]) -> VenueTable:
    """Return the table above with other keys."""
    merged = dict(BASE)
    for change in changes:
        merged |= change
    table = msgspec.convert(merged, VenueTable)
    check_table(table)
    return table


def message(*trades: dict[str, Any]) -> bytes:
    """Return a message with trades that have these numbers."""
    plain = {"p": "1", "q": "2", "t": 1_723_161_255_342_000}
    return json.dumps({"s": "BTC", "data": [plain | trade for trade in trades]}).encode()


@pytest.mark.parametrize(
    ("changes", "trade", "first", "last"),
    [
        (BY_FIRST, {"f": 3, "l": 9}, 3, 9),
        (BY_FIRST, {"f": 9, "l": 9}, None, 9),
        (BY_FIRST, {"f": -5, "l": "-2"}, -5, -2),
        (BY_COUNT, {"l": 9, "c": "3"}, 7, 9),
        (BY_COUNT, {"l": 9, "c": 1}, None, 9),
        (BY_COUNT, {"l": 9}, None, 9),
        (BY_COUNT, {"l": 9, "c": None}, None, 9),
        (BY_COUNT, {"l": -(2**63) + 9, "c": 10}, -(2**63), -(2**63) + 9),
        (BY_FIRST, {"f": 1, "l": 65_536}, 1, 65_536),
        (IN_A_TEXT, {"r": "3390-3392"}, 3390, 3392),
        (WITH_A_PREFIX, {"l": "t12", "c": "n2x"}, 11, 12),
    ],
)
def test_a_range_is_read(changes: dict[str, Any], trade: dict[str, Any], first: int | None, last: int) -> None:
    """With the number of the last trade as the id."""
    venue = venue_of(table_of(changes))
    [found] = venue.decode(message(trade))
    assert venue.mode is SequenceMode.RANGE
    assert venue.counts_numbers is ("count" in changes)
    assert (found.first_sequence, found.sequence, found.trade_id) == (first, last, str(last))


@pytest.mark.parametrize(
    ("changes", "trade", "error"),
    [
        (BY_FIRST, {"f": 10, "l": 9}, r"data\[0\].f: a range of 0 numbers, not of 1 to 65,536"),
        (BY_FIRST, {"f": 1, "l": 65_537}, r"data\[0\].f: a range of 65,537 numbers, not of 1 to 65,536"),
        (BY_FIRST, {"l": 9}, r"data\[0\].f: missing"),
        (BY_COUNT, {"l": 9, "c": 0}, r"data\[0\].c: a range of 0 numbers"),
        (BY_COUNT, {"l": 9, "c": -1}, r"data\[0\].c: a range of -1 numbers"),
        (BY_COUNT, {"l": 9, "c": 2**63 - 1}, r"data\[0\].c: a range of 9,223,372,036,854,775,807 numbers"),
        (BY_COUNT, {"l": -(2**63), "c": 2}, r"data\[0\].c: a range of 2 numbers"),
        (BY_COUNT, {"l": 9, "c": 1.5}, r"data\[0\].c: expected int"),
        (IN_A_TEXT, {"r": "3390"}, r"data\[0\].r: does not match"),
    ],
)
def test_a_range_that_is_none_is_invalid(changes: dict[str, Any], trade: dict[str, Any], error: str) -> None:
    """It would hide the gaps within it, or be no number at all."""
    with pytest.raises(RejectedError, match=error):
        venue_of(table_of(changes)).decode(message(trade))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, "numbering: range needs either first_sequence or count"),
        (BY_FIRST | BY_COUNT, "numbering: range needs either first_sequence or count"),
        (BY_FIRST | {"numbering": "contiguous"}, "first_sequence: is that of a range; remove it, or choose numbering"),
        (BY_COUNT | {"numbering": "monotonic"}, "count: is that of a range"),
        ({"count": {"path": "$.c"}}, "count.path: begins at the message"),
        (
            BY_FIRST | {"sequence": {"path": "l", "optional": True}},
            "sequence.optional: is for first_sequence and count",
        ),
        (BY_FIRST | {"sequence": {"path": "l", "pattern": "x"}}, "sequence.pattern: has 0 groups"),
        (
            BY_COUNT | {"kinds": [{"path": "k", "market": ["m"], "non_market": ["o"]}]},
            r"kinds\[0\].non_market: cannot be distinguished from other trades if their ranges may interleave",
        ),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(changes: dict[str, Any], fault: str) -> None:
    """The sentence names the key."""
    with pytest.raises(TableFault, match=fault):
        table_of(changes)


NUMBERS: Final = st.sampled_from([None, 0, 1, 2, 9, 10, -3, 65_535, 65_536, 65_545, 2**63 - 1, -(2**63), 2**63, 1.5])
WRITTEN: Final = st.one_of(NUMBERS, NUMBERS.map(str), st.sampled_from(["t9", "n2x", "007", "-0", "", True, [], {}]))


@pytest.mark.parametrize("changes", [BY_FIRST, BY_COUNT, WITH_A_PREFIX], ids=["first", "count", "patterns"])
@given(data=st.data())
def test_both_decoders_agree_on_ranges(changes: dict[str, Any], data: st.DataObject) -> None:
    """For odd numbers in each field, one or two trades a message."""
    fields = st.dictionaries(st.sampled_from(["f", "l", "c"]), WRITTEN)
    values = data.draw(st.lists(st.lists(fields, min_size=1, max_size=2).map(lambda some: message(*some)), max_size=6))
    VENUES["ranges"] = venue_of(table_of(changes))
    try:
        assert VENUES["ranges"].decode_compiled is not None
        batch = batch_of(values, "ranges")
        assert agree(batch)
        columns = decode(batch).trades.columns
        assert (columns.first_sequences <= columns.sequences).all()
    finally:
        del VENUES["ranges"]

"""Unsettled conflicts in a property of the table."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.state_source import NumberDoubt
from k2.sequencing.doubts import Doubts

LONGS = st.integers(-(2**63), 2**63 - 1)
CHANGES = st.lists(
    st.builds(NumberDoubt, st.text(max_size=3), st.sampled_from(["x", "y", "Ü"]), st.one_of(st.none(), LONGS), LONGS),
    max_size=20,
)


@given(CHANGES, CHANGES)
def test_the_newest_of_each_symbol_comes_back(first: list[NumberDoubt], second: list[NumberDoubt]) -> None:
    """Also from the property's text after a restart; a settled conflict is gone."""
    kept = Doubts()
    kept.update(first)
    again = Doubts(kept.text())
    assert again.text() == kept.text()
    again.update(second)
    newest = {(one.exchange, one.symbol): one for one in [*first, *second]}
    expected = sorted(one for one in newest.values() if one.sequence is not None)
    assert sorted(again.each()) == expected


def test_a_change_is_written_once() -> None:
    """The property is set with the next commit after a change, also after the last doubt was settled."""
    kept = Doubts()
    assert not kept.take_change()
    kept.update([])
    assert not kept.take_change()
    kept.update([NumberDoubt("a", "x", 5, 7)])
    assert kept.take_change()
    assert not kept.take_change()
    kept.update([NumberDoubt("a", "x", None)])
    assert kept.take_change()
    assert Doubts(kept.text()).each() == []


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"format":1}', '{"format":1,"doubts":[["a","x",5]]}', '{"format":1,"doubts":[["a","x","5",7]]}'],
)
def test_a_text_of_another_shape_is_refused(text: str) -> None:
    """Doubts that cannot be read do not count as no doubts."""
    with pytest.raises(msgspec.DecodeError):
        Doubts(text)


def test_a_later_format_is_refused() -> None:
    """An older version does not misread a newer version's property."""
    with pytest.raises(ValueError, match="has format 2; this version reads 1"):
        Doubts('{"format":2,"doubts":[]}')

"""Unsettled conflicts in a property of the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.errors import TableError
from k2.model.state_source import NumberDoubt
from k2.sequencing.doubts import PROPERTY, Doubts, doubts_in

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
    assert sorted(doubts_in({f"{PROPERTY}0": again.text(), "k2.progress": "{}"})) == expected


def test_doubts_of_all_writers_are_read() -> None:
    """Each writer has a property of its own."""
    one, other = NumberDoubt("a", "x", 5, 7), NumberDoubt("a", "y", -1, 8)
    properties = dict[str, str]()
    for writer, doubt in enumerate((one, other)):
        kept = Doubts()
        kept.update([doubt])
        properties |= kept.changed(str(writer))
    assert [*properties] == ["k2.doubts.0", "k2.doubts.1"]
    assert doubts_in(properties) == [one, other]
    assert doubts_in({}) == []


def test_a_change_is_written_once() -> None:
    """The property is set with the next commit after a change, also after the last doubt was settled."""
    kept = Doubts()
    assert kept.changed("3") == {}
    kept.update([])
    assert kept.changed("3") == {}
    kept.update([NumberDoubt("a", "x", 5, 7)])
    assert doubts_in(kept.changed("3")) == [NumberDoubt("a", "x", 5, 7)]
    assert kept.changed("3") == {}
    kept.update([NumberDoubt("a", "x", None)])
    [text] = kept.changed("3").values()
    assert doubts_in({f"{PROPERTY}3": text}) == []
    assert kept.changed("3") == {}


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"format":1}', '{"format":1,"doubts":[["a","x",5]]}', '{"format":1,"doubts":[["a","x","5",7]]}'],
)
def test_a_text_of_another_shape_is_refused(text: str) -> None:
    """Doubts that cannot be read do not count as no doubts."""
    with pytest.raises(TableError, match=r"k2\.doubts\.N"):
        Doubts(text)
    with pytest.raises(TableError, match=r"k2\.doubts\.N"):
        doubts_in({f"{PROPERTY}0": text})


def test_a_later_format_is_refused() -> None:
    """An older version does not misread a newer version's property."""
    with pytest.raises(TableError, match="has format 2; this version reads 1"):
        Doubts('{"format":2,"doubts":[]}')

"""Each surviving mutant has a reason that still fits the code."""

import pytest

from tests.mutation import (
    Change,
    Survivor,
    change_in,
    count_places,
    is_ruled_out,
    read_explained,
    source_of,
    survivor_of,
    unexplained,
)

DIFF = """# k2.sequencing.intervals.xǁIntervalSetǁadd__mutmut_7: survived
--- k2/sequencing/intervals.py
+++ k2/sequencing/intervals.py
@@ -1,6 +1,6 @@
 def add(self, number: int) -> bool:
-    if place > 0:
+    if place >= 0:
         return False
"""


@pytest.mark.parametrize(
    ("old", "new", "is_out"),
    [
        ("zip(a, b, strict=True)", "zip(a, b, strict=None)", True),
        ("zip(a, b, strict=True)", "zip(a, b, strict=False)", True),
        ("zip(a, b, strict=True)", "zip(a, b, )", True),
        ("zip(a, b, strict=True)", "zip(a, strict=True)", False),
        ("zip(a, b, strict=True)", "zip(a, None, strict=False)", False),
        ("zip(a, b)", "zip(a, b, strict=False)", False),
        ("np.zeros(0, dtype=np.int32)", "np.zeros(0, dtype=None)", True),
        ("np.zeros(0, dtype=np.int32)", "np.zeros(0, )", True),
        ('np.full(0, 1, dtype="<i8")', "np.full(0, 1, )", True),
        ("np.zeros(0, dtype=np.int32)", "np.zeros(1, dtype=np.int32)", False),
        ("np.zeros(0, dtype=np.int32)", "np.zeros(1, dtype=None)", False),
        ("np.zeros(0, dtype=np.int32)", "np.zeros(dtype=np.int32)", False),
        ("f(a, dtype=x), f(b, dtype=np.int8)", "f(a, dtype=x), f(b, )", True),
        ("a = np.zeros(0, dtype=np.int32)", "a = None", False),
    ],
)
def test_a_rule_explains_only_what_it_describes(old: str, new: str, *, is_out: bool) -> None:
    """A survivor that also changes anything else needs a reason of its own."""
    assert is_ruled_out(Change("a:f", 0, old, new)) is is_out


@pytest.mark.parametrize("survivor", read_explained(), ids=str)
def test_explained_survivors_fit_the_code(survivor: Survivor) -> None:
    """The function exists, and has the place that each changes."""
    assert 1 <= survivor.place <= count_places(survivor, source_of(survivor.function))


def test_a_change_is_read_from_its_diff() -> None:
    """A change is read from mutmut's name and diff: the function, the line in it, what was there and what is."""
    expected = Change("k2.sequencing.intervals:IntervalSet.add", 1, "if place > 0:", "if place >= 0:")
    assert change_in("k2.sequencing.intervals.xǁIntervalSetǁadd__mutmut_7", DIFF) == expected
    names = {
        "k2.sequencing.non_market.x__both__mutmut_1": "k2.sequencing.non_market:_both",
        "k2.sequencing.tracker.xǁGroupTrackerǁ__init____mutmut_12": "k2.sequencing.tracker:GroupTracker.__init__",
        "k2.sequencing.owed_events.x_owed_events__mutmut_3": "k2.sequencing.owed_events:owed_events",
    }
    assert {name: change_in(name, DIFF).function for name in names} == names


SOURCE = """def f(numbers):
size = 2 * len(numbers)
if size > 0:
return text(size, "name") + 2 * size
"""


@pytest.mark.parametrize(
    ("line", "old", "new", "change", "place"),
    [
        (1, "size = 2 * len(numbers)", "size = 3 * len(numbers)", "2 -> 3", 1),
        (1, "size = 2 * len(numbers)", "size = 2 / len(numbers)", "* -> /", 1),
        (1, "size = 2 * len(numbers)", "size = None", "2 * name ( name ) -> None", 1),
        (1, "size = 2 * len(numbers)", "size = 2 * len(None)", "name -> None", 5),
        (2, "if size > 0:", "if size >= 0:", "> -> >=", 1),
        (2, "if size > 0:", "if not size > 0:", "-> not", 16),
        (3, 'return text(size, "name") + 2 * size', 'return text(size, "XXnameXX") + 2 * size', "text -> XXtextXX", 2),
        (3, 'return text(size, "name") + 2 * size', 'return text(size, "NAME") + 2 * size', "text -> TEXT", 2),
        (3, 'return text(size, "name") + 2 * size', 'return text(size, "name") + 3 * size', "2 -> 3", 2),
        (3, 'return text(size, "name") + 2 * size', "return text(size, ) + 2 * size", "text ->", 2),
    ],
)
def test_a_survivor_is_identified_by_what_changes(line: int, old: str, new: str, change: str, place: int) -> None:
    """The tokens that change, and which of the places in the function that have them."""
    assert survivor_of(Change("a:f", line, old, new), SOURCE) == Survivor("a:f", change, place)


def test_a_renamed_variable_leaves_the_survivor() -> None:
    """Neither another name nor an added line asks for a new reason."""
    old = survivor_of(Change("a:f", 2, "if size > 0:", "if size >= 0:"), SOURCE)
    renamed = SOURCE.replace("size", "length").replace("2 * len", "1 + 2 * len")
    renamed = renamed.replace("\nif", "\nnumbers.sort()\nif")
    assert survivor_of(Change("a:f", 3, "if length > 0:", "if length >= 0:"), renamed) == old


def test_a_survivor_without_a_reason_is_reported() -> None:
    """Another change of the same place, or the same change elsewhere, is not explained by the reason."""
    one = Survivor("a:f", "1 -> 2", 1)
    others = [one._replace(change="1 -> 3"), one._replace(function="a:g"), one._replace(place=2)]
    assert unexplained([one, *others], [one]) == others

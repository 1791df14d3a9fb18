"""Each surviving mutant has a reason that still fits the code."""

import ast
from pathlib import Path

import pytest

from tests.mutation import Survivor, change_in, is_ruled_out, read_explained, unexplained

ROOT = Path(__file__).parent.parent
DIFF = """# k2.sequencing.intervals.xǁIntervalSetǁadd__mutmut_7: survived
--- k2/sequencing/intervals.py
+++ k2/sequencing/intervals.py
@@ -1,6 +1,6 @@
 def add(self, number: int) -> bool:
-    if place > 0:
+    if place >= 0:
         return False
"""


def source_of(function: str) -> str:
    """Return the source of `module:name` or `module:Class.name`, its lines without indentation."""
    module, _, name = function.partition(":")
    text = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(one for one in ast.iter_child_nodes(node) if getattr(one, "name", None) == part)
    return "\n".join(line.strip() for line in (ast.get_source_segment(text, node) or "").splitlines())


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
    assert is_ruled_out(Survivor("a:f", old, new)) is is_out


@pytest.mark.parametrize("survivor", read_explained(), ids=lambda survivor: f"{survivor.function} {survivor.new}")
def test_explained_survivors_fit_the_code(survivor: Survivor) -> None:
    """The line that each changes exists, the change has an effect, and no rule explains it already."""
    assert survivor.old in source_of(survivor.function)
    assert survivor.old != survivor.new
    assert not is_ruled_out(survivor)


def test_a_change_is_identified_by_its_diff() -> None:
    """A change is identified by function and lines, not by mutmut's number, which moves with the code."""
    expected = Survivor("k2.sequencing.intervals:IntervalSet.add", "if place > 0:", "if place >= 0:")
    assert change_in("k2.sequencing.intervals.xǁIntervalSetǁadd__mutmut_7", DIFF) == expected
    names = {
        "k2.sequencing.non_market.x__both__mutmut_1": "k2.sequencing.non_market:_both",
        "k2.sequencing.tracker.xǁGroupTrackerǁ__init____mutmut_12": "k2.sequencing.tracker:GroupTracker.__init__",
        "k2.sequencing.ledger.x_owed_events__mutmut_3": "k2.sequencing.ledger:owed_events",
    }
    assert {name: change_in(name, DIFF).function for name in names} == names


def test_a_survivor_without_a_reason_is_reported() -> None:
    """Another change of the same line, or the same change elsewhere, is not explained by the reason."""
    one, other, elsewhere = Survivor("a:f", "x", "y"), Survivor("a:f", "x", "z"), Survivor("a:g", "x", "y")
    assert unexplained([one, other, elsewhere], [one]) == [other, elsewhere]

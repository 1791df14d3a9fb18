"""The simulator finds the deliberate bugs: some here, all in `make torture-mutants`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutate import Edit, Mutant, MutantError, mutate, mutated

ROOT: Final = Path(__file__).parent.parent.parent
QUICK: Final = (
    "warm start without sessions",
    "progress in a second commit",
    "unknown outcome tried again",
    "poison stops the job",
)
"""Found at one of the first two seeds."""


@pytest.mark.timeout(300)
def test_the_simulator_finds_deliberate_bugs() -> None:
    """Each of the quickest is found at one of the first two seeds, which passes without it."""
    done = _prove(*QUICK, seeds=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\w+): (\d+)$", done.stdout, re.MULTILINE) == [
        ("mutants", f"{len(QUICK)}"),
        ("found", f"{len(QUICK)}"),
        ("survived", "0"),
    ]


@pytest.mark.timeout(300)
def test_a_surviving_mutant_is_a_failure() -> None:
    """A bug that no tried seed finds is reported, and the command fails."""
    done = _prove(QUICK[0], seeds=0)
    assert done.returncode == 1
    assert "SURVIVED" in done.stdout


def _prove(*names: str, seeds: int) -> subprocess.CompletedProcess[str]:
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, "-m", "tests.simulation.proof", "--seeds", f"{seeds}", *only]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutants_fit_the_code(mutant: Mutant) -> None:
    """The text that each mutant changes occurs once, and its new text compiles to something else."""
    assert mutated(mutant)


def test_mutants_break_each_law() -> None:
    """There is a deliberate bug for each of laws 1 to 8, 10, 12 and 18, which seeds can show; all names differ."""
    assert {mutant.law for mutant in MUTANTS} == {*range(1, 9), 10, 12, 18}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def kept(text: str) -> str:
    """A function for the tests below to change."""
    if text:
        return text
    return "nothing"


def test_an_edit_changes_every_import_of_a_function() -> None:
    """The function itself changes, further lines are indented like the old ones, and all edits of a mutant apply."""
    also_known_as, code = kept, kept.__code__
    target = f"{__name__}:kept"
    edits = Edit(target, "return text", 'text += "!"\nreturn text'), Edit(target, '"nothing"', '"all"')
    mutant = Mutant("", 1, "", edits)
    try:
        mutate(mutant)
        assert (also_known_as("some"), also_known_as("")) == ("some!", "all")
    finally:
        kept.__code__ = code
    assert kept("some") == "some"


@pytest.mark.parametrize(
    ("target", "old", "why"),
    [
        ("trades.nowhere:decode", "return", "No module named"),
        ("k2.venues.decode:gone", "return", "is not there"),
        ("k2.venues.decode:Decoded", "return", "is no function"),
        ("k2.venues.decode:decode", "no such text", "occurs 0 times"),
        ("k2.venues.decode:decode", "return", "occurs 3 times"),
        ("k2.iceberg.metadata_swap:_Transaction.table_metadata", "self._table.metadata", "is a closure"),
    ],
)
def test_a_mutant_that_does_not_fit_is_an_error(target: str, old: str, why: str) -> None:
    """A target or text that is missing, or occurs several times, is an error and never a pass."""
    with pytest.raises((MutantError, ImportError), match=why):
        mutated(Mutant("", 1, "", (Edit(target, old, "None"),)))

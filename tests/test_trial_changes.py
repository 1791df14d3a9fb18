"""A typical change has one obvious place, and touches few files."""

from pathlib import Path

import pytest

from tests.trial_changes import ROOT, TRIALS, Trial, apply, prove, table

FILES_MAX = {"Add a column": 3, "Add a report": 3}
"""Other changes touch at most two."""


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.what)
def test_a_change_works_and_touches_few_files(trial: Trial, tmp_path: Path) -> None:
    """The proof fails on the code as it is, and succeeds once those files are changed."""
    assert len(trial.paths) <= FILES_MAX.get(trial.what, 2)
    before, after = tmp_path / "before", tmp_path / "after"
    apply(trial._replace(edits=()), before)
    assert prove(trial, before).returncode == 1
    apply(trial, after)
    done = prove(trial, after)
    assert done.returncode == 0, done.stderr


def test_the_documentation_lists_the_files() -> None:
    """`python -m tests.trial_changes` prints the table."""
    assert table() in ROOT.joinpath("docs", "architecture.md").read_text(encoding="utf-8")

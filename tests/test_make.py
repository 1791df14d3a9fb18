"""How `make` behaves on a machine that is not set up as expected."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _make(missing: Callable[[str], NoReturn]) -> None:
    """Look for it."""
    if shutil.which("make") is None:
        missing("make")


def make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run make in a folder, as if no other make had started these tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=own, capture_output=True, text=True, check=False)


def test_make_without_a_target_lists_the_targets() -> None:
    """It prints a line for each target that people call."""
    shown = re.findall(r"^  make ([a-z-]+) +\S", make(ROOT).stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)
    assert phony is not None
    assert shown == phony[1].split()


def test_running_in_another_folder_is_an_error(tmp_path: Path) -> None:
    """It prints one sentence instead of missing rules."""
    done = make(tmp_path, "-f", str(ROOT / "Makefile"))
    assert done.returncode == 2
    assert "run make in the folder of its Makefile (make -C FOLDER)" in done.stderr


def test_two_targets_do_not_install_at_the_same_time(tmp_path: Path) -> None:
    """With -j as without it, one recipe ends before the next begins."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "Makefile").write_text(
        TEXT + "\none two:\n\t@echo $@ begins; sleep 0.2; echo $@ ends\n", encoding="utf-8"
    )
    done = make(tmp_path, "--no-print-directory", "-j", "2", "one", "two")
    assert done.stdout.splitlines() == ["one begins", "one ends", "two begins", "two ends"]

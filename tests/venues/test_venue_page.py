"""`docs/venues.md`: its steps lead from an empty file to a checked table, and it lists the built-in tables."""

import re
import shlex
from pathlib import Path
from shutil import copytree
from typing import Final

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.venues import VENUES
from tests.venues.venue_page import table

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "venues.md").read_text(encoding="utf-8")
FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_steps_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of TOML is appended to the file, and each command prints what the page shows after it."""
    copytree(ROOT / "tests" / "data", tmp_path / "tests" / "data")
    monkeypatch.chdir(tmp_path)
    blocks = FENCE.findall(PAGE.partition("## What a table can say")[0])
    compared = 0
    for (kind, text), (next_kind, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "toml":
            with Path("mine.toml").open("a", encoding="utf-8") as file:
                file.write(text)
        elif kind == "console" and text.startswith("k2 venues check"):
            done = CliRunner().invoke(app, shlex.split(text)[1:], env={"COLUMNS": "200"})
            assert done.exit_code in {0, 1}, done.output
            assert next_kind == "text"
            assert [line.rstrip() for line in done.stdout.splitlines()] == shown.splitlines()
            compared += 1
    assert compared >= 2
    assert done.exit_code == 0


def test_the_table_of_the_page_is_what_the_venues_have() -> None:
    """`python -m tests.venues.venue_page` prints it."""
    assert table() in PAGE


@pytest.mark.parametrize("name", [*VENUES.tables])
def test_every_table_names_its_venue_and_says_why(name: str) -> None:
    """The file's name is the venue's, and it begins with a note of what the venue sends."""
    text = VENUES.tables[name].read_text(encoding="utf-8")
    found = VENUES.table_of(name)
    assert found is not None
    assert (found.name, text[:2]) == (name, "# ")
    assert found.source.startswith("messages.md#" if name in {"k2-json", "k2-fill", "k2-head"} else "https://")


@pytest.mark.parametrize("name", [*VENUES])
def test_the_readme_lists_every_venue(name: str) -> None:
    """In its table, and built-in tables in docs/messages.md or docs/venues.md."""
    assert f"| `{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")

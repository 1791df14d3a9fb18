"""Retired words: the code, its messages and the docs use the terms of `docs/glossary.md`."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.test_structure import ROOT, files

TEXTS: Final = (".py", ".md", ".js", ".html", ".toml", ".yaml")
RETIRED: Final = {
    r"\banew\b": "again",
    r"\bamiss\b": "wrong",
    r"\bbears?\b": "has, carries",
    r"\bbeside\b": "next to, in addition to",
    r"\bby and by\b": "later",
    r"\bkeeper\b": "commit log",
    r"\btell whether\b": "return whether",
    r"\btold\b": "reported, given, recorded",
    r"\bso many\b": "as many, this number of",
    r"\bthe books\b": "the partition counts",
    # A property on disk keeps its name.
    r"(?<![\w.])withdraw(?:s|n|ing)?\b": "roll back",
    r"\boff-book\b": "non-market",
    r"\bkept[- ]rows\b": "column buffer",
    r'"""Give (?!up|back|the queue back)': "Return",
}
"""Pattern, and what to write instead."""
EXCEPT: Final = (
    "changes/",
    "docs/adr/",
    "k2/http/page/vendor/",
    "requirements/",
    "tests/test_language.py",
)
"""What is a record, or others' text."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and text of each file of the project that people read."""
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if name.endswith(TEXTS) and not name.startswith(EXCEPT) and "/data/" not in name:
            yield name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("pattern", RETIRED)
def test_no_retired_word_is_used(pattern: str) -> None:
    """Each place is named with the word to use."""
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert not found, f"write {RETIRED[pattern]!r} instead:\n" + "\n".join(found)


def test_a_retired_word_is_found() -> None:
    """The patterns match what they are for."""
    assert re.search(next(iter(RETIRED)), "made anew")
    assert not re.search(r"\bbears?\b", "forbearance")

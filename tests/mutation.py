"""Mutation testing of the rules: `python -m tests.mutation` runs mutmut and requires a reason for each survivor."""

import argparse
import ast
import itertools
import keyword
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mutmut.mutation.diff_apply import get_diff_for_mutant

__all__ = [
    "EXPLAINED",
    "RULES",
    "Change",
    "Survivor",
    "change_in",
    "count_places",
    "is_ruled_out",
    "read_explained",
    "source_of",
    "survivor_of",
    "unexplained",
]

ROOT: Final = Path(__file__).parent.parent

EXPLAINED: Final = Path(__file__).parent / "mutants.toml"
"""Survivors that change nothing that a test could detect, each with the reason."""
KILLED: Final = frozenset({"killed", "timeout", "segfault", "caught by type check"})
"""What mutmut reports for a mutant that was killed."""
RULES: Final = {
    "Whether a pair of sequences is as long as each other is a guard against bugs, not behaviour.": (
        re.compile(r", strict=True"),
        (", strict=None", ", strict=False", ", "),
    ),
    "The type of an array's numbers is seen by compiled loops alone, which mutants do not wait for: the tests do.": (
        re.compile(r"dtype=(?:np\.\w+|\w+\.dtype|\"[<\w]+\")"),
        ("dtype=None", ""),
    ),
}
"""Reasons why no test can detect a change that replaces the match, once, by one of the texts and changes no more."""
_RESULT: Final = re.compile(r"^\s+(\S+): (.+)$", re.MULTILINE)
_NAME: Final = re.compile(r"(?P<module>.+)\.x(?:ǁ(?P<owner>\w+)ǁ|_)(?P<function>\w+)__mutmut_\d+")


_TOKEN: Final = re.compile(r"""[bf]?"(?:\\.|[^"\\])*"|\w+|[-+*/<>=!|&]=|//|\*\*|<<|>>|->|\S""")
_HUNK: Final = re.compile(r"^@@ -(\d+)", re.MULTILINE)


class Change(NamedTuple):
    """A change of the code that mutmut made."""

    function: str
    """`module:name`, or `module:Class.name`."""
    line: int
    """The first of the lines that change, counted from 0 at the function's first."""
    old: str
    """The lines removed, and then those added, without their indentation."""
    new: str


class Survivor(NamedTuple):
    """A change that every test passes, identified so that renaming a variable or moving a line needs no new reason."""

    function: str
    change: str
    """The tokens removed, `->`, and the tokens added; a variable is `name`, a string `text`."""
    place: int
    """Which of the function's places with the removed tokens it is, counted from 1."""


def main() -> int:
    """Run the mutants, then print each survivor without a reason and each reason without a survivor."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--no-run", action="store_true", help="look at the results of the last run")
    parser.add_argument("patterns", nargs="*", help="only these mutants, as mutmut names them")
    arguments = parser.parse_args()
    if not arguments.no_run:
        # Uncompiled, a rule runs from its mutated source; compiled, each mutant would wait for the compiler.
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
        subprocess.run(_mutmut("run", *arguments.patterns), env=environment, check=True)
    survivors = {survivor_of(change, source_of(change.function)): change for change in _surviving_changes()}
    explained = read_explained()
    lacking = [one for one in unexplained(survivors, explained) if not is_ruled_out(survivors[one])]
    idle = [] if arguments.patterns else unexplained(explained, survivors)
    for survivor in lacking:
        change = survivors[survivor]
        sys.stdout.write(f"SURVIVED {_shown(survivor)}# {change.old}\n# {change.new}\n")
    for reason in idle:
        sys.stdout.write(f"NO LONGER A SURVIVOR, take it out of {EXPLAINED.name}: {_shown(reason)}")
    sys.stdout.write(f"survived: {len(survivors)}, of which unexplained: {len(lacking)}\n")
    return 1 if lacking or idle else 0


def read_explained(path: Path = EXPLAINED) -> list[Survivor]:
    """Return the survivors that have a reason."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["survivor"]
    assert all(entry["why"].strip() for entry in entries), "each survivor has a reason"
    return [Survivor(entry["function"], entry["change"], entry["place"]) for entry in entries]


def unexplained(survivors: Iterable[Survivor], explained: Iterable[Survivor]) -> list[Survivor]:
    """Return the changes of the first argument that the second does not contain."""
    known = {*explained}
    return [survivor for survivor in survivors if survivor not in known]


def is_ruled_out(change: Change) -> bool:
    """Return whether a rule explains why no test detects a change."""
    return any(change.new in _changes(change.old, found, texts) for found, texts in RULES.values())


def _changes(old: str, found: re.Pattern[str], texts: Iterable[str]) -> Iterator[str]:
    for match in found.finditer(old):
        for text in texts:
            yield old[: match.start()] + text + old[match.end() :]


def change_in(name: str, diff: str) -> Change:
    """Return what a mutant changes, from its name and the diff that mutmut shows."""
    parts = _NAME.fullmatch(name)
    assert parts is not None, f"not a mutant's name: {name}"
    owner = f"{parts['owner']}." if parts["owner"] else ""
    hunk = _HUNK.search(diff)
    assert hunk is not None, f"{name} changes nothing"
    lines = diff[hunk.start() :].splitlines()[1:]
    unchanged = next(idx for idx, line in enumerate(lines) if line.startswith(("-", "+")))
    old, new = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Change(f"{parts['module']}:{owner}{parts['function']}", int(hunk[1]) - 1 + unchanged, old, new)


def source_of(function: str) -> str:
    """Return the source of `module:name` or `module:Class.name`, its lines without indentation."""
    module, _, name = function.partition(":")
    text = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(one for one in ast.iter_child_nodes(node) if getattr(one, "name", None) == part)
    return "\n".join(line.strip() for line in (ast.get_source_segment(text, node) or "").splitlines())


def survivor_of(change: Change, source: str) -> Survivor:
    """Identify a change by what it does to the tokens of a function, of which `source` is the text."""
    old, new = _TOKEN.findall(change.old), _TOKEN.findall(change.new)
    same = _shared_count(old, new)
    tail = _shared_count(old[same:][::-1], new[same:][::-1])
    removed, added = old[same : len(old) - tail], new[same : len(new) - tail]
    before = _TOKEN.findall("\n".join(source.splitlines()[: change.line])) + old[:same]
    kinds = [_kind(token) for token in removed]
    is_swap = len(removed) == len(added) == 1 and kinds == ["name"] and _kind(added[0]) == "name"
    shown = f"{removed[0]} -> {added[0]}" if is_swap else f"{' '.join(kinds)} -> {' '.join(_altered(added))}"
    return Survivor(change.function, shown.strip(), _count([_kind(token) for token in before + removed], kinds))


def count_places(survivor: Survivor, source: str) -> int:
    """Return in how many places a function has the tokens that a change removes."""
    removed = survivor.change.partition("->")[0].split()
    return _count([_kind(token) for token in _TOKEN.findall(source)], [_kind(token) for token in removed])


def _shared_count(old: list[str], new: list[str]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def _count(tokens: list[str], wanted: list[str]) -> int:
    return sum(tokens[idx : idx + len(wanted)] == wanted for idx in range(len(tokens) - len(wanted) + 1))


def _kind(token: str) -> str:
    if token[-1] == '"':
        return "text"
    is_name = token.isidentifier() and not keyword.iskeyword(token) and token != "text"  # noqa: S105  of Python
    return "name" if is_name else token


def _altered(tokens: list[str]) -> Iterator[str]:
    """Yield added tokens; a string is named by what mutmut did to it."""
    for token in tokens:
        if token[-1] != '"':
            yield _kind(token)
        else:
            yield "XXtextXX" if '"XX' in token else "TEXT" if token[1:].isupper() else "text"


def _surviving_changes() -> Iterator[Change]:
    results = subprocess.run(_mutmut("results"), capture_output=True, text=True, check=True).stdout
    for name, status in _RESULT.findall(results):
        if status not in KILLED | {"not checked"}:
            path = Path(*name.split(".")[:-1]).with_suffix(".py")
            yield change_in(name, get_diff_for_mutant(name, path=path))


def _mutmut(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *arguments]


def _shown(survivor: Survivor) -> str:
    return (
        f'\n[[survivor]]\nfunction = "{survivor.function}"\nchange = "{survivor.change}"\n'
        f'place = {survivor.place}\nwhy = ""\n'
    )


if __name__ == "__main__":
    sys.exit(main())

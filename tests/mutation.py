"""Mutation testing of the rules: `python -m tests.mutation` runs mutmut and requires a reason for each survivor."""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mutmut.mutation.diff_apply import get_diff_for_mutant

__all__ = ["EXPLAINED", "RULES", "Survivor", "change_in", "is_ruled_out", "read_explained", "unexplained"]

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


class Survivor(NamedTuple):
    """A change of the code that every test passes."""

    function: str
    """`module:name`, or `module:Class.name`."""
    old: str
    """The lines removed, and then those added, without their indentation."""
    new: str


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
    survivors, explained = list(_survivors()), read_explained()
    lacking = [survivor for survivor in unexplained(survivors, explained) if not is_ruled_out(survivor)]
    idle = [] if arguments.patterns else unexplained(explained, survivors)
    for survivor in lacking:
        sys.stdout.write(f"SURVIVED {_shown(survivor)}")
    for reason in idle:
        sys.stdout.write(f"NO LONGER A SURVIVOR, take it out of {EXPLAINED.name}: {_shown(reason)}")
    sys.stdout.write(f"survived: {len(survivors)}, of which unexplained: {len(lacking)}\n")
    return 1 if lacking or idle else 0


def read_explained(path: Path = EXPLAINED) -> list[Survivor]:
    """Return the survivors that have a reason."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["survivor"]
    assert all(entry["why"].strip() for entry in entries), "each survivor has a reason"
    return [Survivor(entry["function"], entry["old"], entry["new"]) for entry in entries]


def unexplained(survivors: Iterable[Survivor], explained: Iterable[Survivor]) -> list[Survivor]:
    """Return the changes of the first argument that the second does not contain."""
    known = {*explained}
    return [survivor for survivor in survivors if survivor not in known]


def is_ruled_out(survivor: Survivor) -> bool:
    """Return whether a rule explains a survivor."""
    return any(survivor.new in _changes(survivor.old, found, texts) for found, texts in RULES.values())


def _changes(old: str, found: re.Pattern[str], texts: Iterable[str]) -> Iterator[str]:
    for match in found.finditer(old):
        for text in texts:
            yield old[: match.start()] + text + old[match.end() :]


def change_in(name: str, diff: str) -> Survivor:
    """Return what a mutant changes, from its name and the diff that mutmut shows."""
    parts = _NAME.fullmatch(name)
    assert parts is not None, f"not a mutant's name: {name}"
    owner = f"{parts['owner']}." if parts["owner"] else ""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    old, new = ("\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Survivor(f"{parts['module']}:{owner}{parts['function']}", old, new)


def _survivors() -> Iterator[Survivor]:
    results = subprocess.run(_mutmut("results"), capture_output=True, text=True, check=True).stdout
    for name, status in _RESULT.findall(results):
        if status not in KILLED | {"not checked"}:
            path = Path(*name.split(".")[:-1]).with_suffix(".py")
            yield change_in(name, get_diff_for_mutant(name, path=path))


def _mutmut(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *arguments]


def _shown(survivor: Survivor) -> str:
    return (
        f'\n[[survivor]]\nfunction = "{survivor.function}"\nold = """{survivor.old}"""\nnew = """{survivor.new}"""\n'
        'why = ""\n'
    )


if __name__ == "__main__":
    sys.exit(main())

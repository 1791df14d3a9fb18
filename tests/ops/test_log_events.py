"""The events of the log are an interface: alerts and searches depend on their names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def events() -> Iterator[str]:
    """Yield the name of each event that the job and `k2` log, by their source."""
    for folder in ("flows", "k2", "operators"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                    names = [one.value for one in node.args if isinstance(one, ast.Constant)]
                    is_log = isinstance(node.func.value, ast.Name) and node.func.value.id.lower().endswith("log")
                    yield from (name for name in names if is_log and isinstance(name, str))


def test_the_documentation_lists_every_event() -> None:
    """The table of events in docs/operations.md has each, and no other."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.partition("| Event | Level | When |")[2].partition("\n\n")[0]
    documented = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    }
    found = {*events()}
    assert len(found) > 20
    assert documented == found

"""What the documents say holds: settings, commands and examples are checked against the code."""

import ast
import doctest
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic_core import PydanticUndefined

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings, TopicVenue
from k2.query.market import open_market
from tests.query.tables import append, made, trade

ROOT = Path(__file__).parent.parent
PACKAGES = ("demo", "flows", "k2", "operators")
README = ROOT / "README.md"
NOTEBOOK = "docs/python.md"
"""The page whose examples run in order; `tests/analysis/test_python_page.py` runs them."""
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

SETTING = re.compile(r"\bK2_(?!TEST_)[A-Z][A-Z_]*[A-Z]\b")
ROW = re.compile(r"^\|\s*`(K2_\w+)`\s*\|\s*([^|]*?)\s*\|", re.MULTILINE)
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z][A-Z0-9_]*=\S+ )*(?:\.venv/bin/)?((?:k2|make)\b.*)$", re.MULTILINE)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _fences(*languages: str) -> Iterator[tuple[str, str, str]]:
    """Yield (page and line, info, text) of each fenced block in one of the languages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] in languages:
                yield f"{_name(page)}:{text.count(chr(10), 0, match.start()) + 1}", match[2], match[3]


def _shown(default: object) -> str:
    """Return a default as the environment would write it."""
    match default:
        case bool():
            return str(default).lower()
        case TopicVenue(topic=topic, venue=venue):
            return topic if venue == "k2" else f"{topic}={venue}"
        case tuple():
            return ",".join(_shown(part) for part in default)
        case None:
            return ""
        case _:
            return str(default)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=_name)
def test_links_lead_somewhere(page: Path, subtests: pytest.Subtests) -> None:
    """Each link within the repository names a file, and a heading of it, that exist."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        with subtests.test(link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists()
            assert not anchor or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("field", Settings.model_fields)
def test_settings_are_documented(field: str) -> None:
    """Each setting has a row in the README's table, with the default it really has."""
    rows = dict(ROW.findall(README.read_text(encoding="utf-8")))
    name = f"K2_{field.upper()}"
    assert name in rows, f"README.md's table has no row for {name}"
    default = Settings.model_fields[field].default
    assert default is not PydanticUndefined
    documented = rows[name].strip("`")
    if default is None and documented.startswith("$K2_"):
        return  # derived from another setting
    assert documented == _shown(default)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_documented_settings_exist(page: Path) -> None:
    """No page names a setting that does not exist."""
    known = {f"K2_{field.upper()}" for field in Settings.model_fields}
    assert set(SETTING.findall(page.read_text(encoding="utf-8"))) <= known


def test_python_examples_run(subtests: pytest.Subtests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python examples run as they stand; one marked `no-run`, because it needs a table or broker, compiles."""
    monkeypatch.chdir(tmp_path)
    for place, info, text in _fences("python"):
        if place.startswith(f"{NOTEBOOK}:"):
            continue
        with subtests.test(place):
            _run_example(place, info, text)


def _run_example(place: str, info: str, text: str) -> None:
    if ">>>" in text:
        example = doctest.DocTestParser().get_doctest(text, {}, place, None, 0)
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
        return
    code = compile(text, place, "exec")
    if "no-run" not in info:
        exec(code, {"__name__": "example"})  # noqa: S102  our own documents


def test_commands_of_examples_exist(subtests: pytest.Subtests) -> None:
    """Each `k2` and `make` command of an example exists and takes the options shown."""
    for place, _info, text in _fences("console", "sh", "bash", "shell"):
        for line in COMMAND.findall(text.replace("\\\n", " ")):
            with subtests.test(f"{place} {line}"):
                program, *words = shlex.split(line, comments=True)
                _check_make(words) if program == "make" else _check_k2(words)


def _check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def _check_k2(words: list[str]) -> None:
    command: Any = typer.main.get_command(importlib.import_module("k2.cli.main").app)
    rest = iter(words)
    for word in rest:
        if word in {"|", ">", ">>", "&&", ";", "2>"}:
            return
        if word.startswith("-"):
            options = {option: parameter for parameter in command.params for option in parameter.opts}
            name, _, value = word.partition("=")
            assert name in {*options, "--help"}, f"{command.name} has no option {word}"
            if hasattr(command, "get_command") and name in options and not (value or options[name].is_flag):
                next(rest)  # the option's value is no sub-command
        elif hasattr(command, "get_command"):
            found = command.get_command(typer.Context(command), word)
            assert found is not None, f"{command.name} has no command {word}"
            command = found


def test_sql_examples_run(subtests: pytest.Subtests, tmp_path: Path) -> None:
    """Each `k2 sql` example has rows on trades of BTC's size; the first of a page is an average price."""
    options = Settings(data_dir=tmp_path)
    append(made(options, TableName.TRADES), [trade(offset, price=100_000, quantity=1234) for offset in range(3)])
    examples = [
        (place, shlex.split(line)[2])
        for place, _info, text in _fences("console", "sh", "bash", "shell")
        for line in COMMAND.findall(text)
        if line.startswith("k2 sql ")
    ]
    assert {place.partition(":")[0] for place, _ in examples} >= {"README.md", "docs/queries.md"}
    assert "vwap(price, quantity)" in examples[0][1]
    with open_market(options) as market:
        for place, sql in examples:
            with subtests.test(f"{place} {sql}"), market.sql(sql) as rows:
                assert sum(batch.num_rows for batch in rows.batches) > 0


def test_named_tests_exist(subtests: pytest.Subtests) -> None:
    """Each test that docs/guarantees.md names exists."""
    named = set(TEST.findall((ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")))
    assert len(named) > 20
    for path, name in sorted(named):
        with subtests.test(f"{path}::{name}"):
            assert f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_benchmarks_are_in_the_readme() -> None:
    """Each module that names its command has a row, and each command that a page names is that of a module."""
    command = re.compile(r"`python -m benchmarks\.(\w+)")
    modules = {path.stem: ast.get_docstring(ast.parse(path.read_text())) for path in (ROOT / "benchmarks").glob("*.py")}
    named = {name for name, text in modules.items() if text and name in command.findall(text)}
    assert {*re.findall(rf"^\| {command.pattern}", README.read_text(encoding="utf-8"), re.MULTILINE)} == named
    assert {name for page in PAGES for name in command.findall(page.read_text(encoding="utf-8"))} <= named


def test_docstring_examples_run(subtests: pytest.Subtests) -> None:
    """Docstring examples print what they show, those of compiled rules included."""
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        examples = _documented_examples(path)
        if examples:
            with subtests.test(_name(path)):
                parts = path.relative_to(ROOT).with_suffix("").parts
                module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
                assert doctest.testmod(module) == (0, examples)


def _documented_examples(path: Path) -> int:
    """Count the examples in the source, so that none is skipped because its function is compiled."""
    parser = doctest.DocTestParser()
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return sum(len(parser.get_examples(ast.get_docstring(node) or "")) for node in nodes if isinstance(node, kinds))


def test_the_terms_of_the_glossary_are_in_alphabetical_order() -> None:
    """Without their keys on disk, so that a term is found where a reader looks for it."""
    rows = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    terms = [re.split(r",| \(", row)[0].replace("-", " ").lower() for row in rows if row != "Term"]
    assert len(terms) > 40
    assert terms == sorted(terms)

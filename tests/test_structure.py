"""Rules for the source tree: short functions and files, and no paths of one machine."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("demo", "flows", "k2", "operators")
MADE_HERE = {ROOT / "build", ROOT / "data", ROOT / "dist", ROOT / "mutants"}
OUR_HIDDEN = {".ci", ".dockerignore", ".github", ".gitignore", ".pre-commit-config.yaml"}

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
FILE_BYTES_MAX = 10_000_000

MACHINE_PATH = re.compile(r"(?<![\w.})$~-])/(?:work|root|Users/\w+|home/\w+|opt/wheels)(?:/|\b)")
HOST = re.compile(r"://|--(?:extra-)?index-url|--find-links|--trusted-host|^-[if]\s|\s@\s", re.MULTILINE)


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Yield the files of the project, ascending; what is made here or hidden is left out."""
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name not in OUR_HIDDEN
        if hidden or path.name == "__pycache__" or path in MADE_HERE:
            continue
        if path.is_dir():
            yield from files(path)
        elif path.stat().st_size <= FILE_BYTES_MAX:
            yield path


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


PYTHON_FILES = [path for path in files() if path.suffix == ".py"]
MODULES = [path for path in PYTHON_FILES if path.relative_to(ROOT).parts[0] in PACKAGES]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=_name)
def test_functions_are_short(path: Path) -> None:
    """No function is longer than 70 lines."""
    long = {
        node.name: _lines(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines(node) > FUNCTION_LINES_MAX
    }
    assert not long


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


@pytest.mark.parametrize("path", PYTHON_FILES, ids=_name)
def test_files_have_one_subject(path: Path) -> None:
    """No Python file is longer than 400 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_have_docstrings(path: Path) -> None:
    """Every module of the packages has a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_of_modules_are_packages(package: str) -> None:
    """Every folder of modules is a package, so that it is installed and its imports are checked."""
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cd /" + "work/main", True),
        ("'/" + "root/.pyenv'", True),
        ("PATH=/" + "home/ann/bin", True),
        ("docs/work/plan.md", False),
        ("/workers/root.py", False),
        ("{folder}/root/", False),
    ],
)
def test_machine_paths_are_recognised(text: str, *, found: bool) -> None:
    """A path of one machine is distinguished from a path within the tree."""
    assert bool(MACHINE_PATH.search(text)) is found


def test_no_file_names_a_folder_of_one_machine() -> None:
    """No file in the tree contains an absolute path of the machine it was written on."""
    found = {
        _name(path): match.group()
        for path in files()
        if (match := MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert not found


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=_name)
def test_requirements_name_no_host(path: Path) -> None:
    """The locked versions come from whichever index the reader's pip uses, and each has its hashes."""
    text = path.read_text(encoding="utf-8")
    pinned = re.findall(r"^[a-zA-Z].*==\S+.*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert not HOST.search(text)
    assert len(pinned) == len(re.findall(r"^[a-zA-Z]", text, re.MULTILINE)) > 0


def test_runtime_versions_are_the_tested_ones() -> None:
    """Users install the versions that the tests ran with: dev.txt contains every pin of runtime.txt."""
    runtime, dev = (_pins(ROOT / "requirements" / name) for name in ("runtime.txt", "dev.txt"))
    assert runtime <= dev


def _pins(path: Path) -> set[str]:
    """Return the pinned versions; a development tool may require more extras of a runtime package."""
    pins = re.findall(r"^[a-zA-Z].*==.*?(?= \\)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"\[[^]]*\]", "", pin) for pin in pins}

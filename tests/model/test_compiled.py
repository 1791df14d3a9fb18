"""Compiled rules are cached between starts, in the first folder that can be written."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import k2
from k2.model import compiled

RULE = """
import sys
sys.path.insert(0, sys.argv[1])
from k2.model.decimals_compiled import read_decimal
from k2.model.compiled import _FOLDER
import numpy as np
digits = np.frombuffer(b"1.5", dtype=np.uint8)
assert read_decimal(digits, np.uint64(0), np.uint64(3))[0]
print(_FOLDER, sum(read_decimal.stats.cache_hits.values()), sep="\\n")
"""


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """Return the folder of a copy of the package in which no user, not even root, can create the cache folder."""
    package = tmp_path / "installed" / "k2"
    shutil.copytree(Path(k2.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__pycache__").touch()
    return package.parent


def start(folder: Path, **environment: str) -> tuple[str, int]:
    """Run a rule in a process of its own; return its cache folder and how many rules were loaded from it."""
    own = {name: value for name, value in os.environ.items() if name not in {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME"}}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RULE, str(folder)],
        cwd=folder,
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept, hits = done.stdout.splitlines()
    return kept, int(hits)


def test_a_read_only_install_uses_the_users_cache(sealed: Path, tmp_path: Path) -> None:
    """The first start compiles; the second loads what the first cached."""
    (first, none), (second, found) = (start(sealed, HOME=str(tmp_path / "user")) for _ in range(2))
    assert first == second
    assert Path(first).is_relative_to(tmp_path / "user")
    assert Path(first).parent.name == "k2-trades"
    assert any(Path(first).rglob("*.nbi"))
    assert none == 0
    assert found > 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "home"),
        ({"XDG_CACHE_HOME": "{tmp}/caches"}, "caches/k2-trades"),
        ({"XDG_CACHE_HOME": "relative"}, "home"),
        ({"XDG_CACHE_HOME": "{tmp}/file"}, "home"),
        ({"HOME": "{tmp}/file"}, None),
        ({"NUMBA_CACHE_DIR": "{tmp}/named"}, "named"),
        ({"NUMBA_CACHE_DIR": "{tmp}/file"}, None),
    ],
)
def test_the_first_writable_cache_folder_is_used(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str | None
) -> None:
    """In the documented order; a folder that the user named is not replaced by a default one."""
    (tmp_path / "file").touch()
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "{tmp}/home", **environment}.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    monkeypatch.setattr(compiled, "_PACKAGE", sealed / "k2")
    found = compiled._cache_folder()
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.is_relative_to(tmp_path / expected)


def test_an_unwritable_cache_folder_is_skipped(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of an installation by another user, or one on a read-only medium."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (sealed / "k2" / "__pycache__").unlink()
    monkeypatch.setattr(compiled, "_PACKAGE", sealed / "k2")
    seal(monkeypatch, sealed)
    found = compiled._cache_folder()
    assert found is not None
    assert found.is_relative_to(tmp_path / "caches")


def seal(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Reject files in the folder from now on, as for a user who cannot write there."""
    writable = compiled.tempfile.TemporaryFile

    def rejected(dir: Path) -> object:  # noqa: A002  as tempfile names it
        if dir.is_relative_to(folder):
            raise OSError(30, "Read-only file system")
        return writable(dir=dir)

    monkeypatch.setattr(compiled.tempfile, "TemporaryFile", rejected)


@pytest.mark.parametrize("named", [False, True])
def test_rules_compiled_in_a_read_only_install_are_copied(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    """The copy begins whole, can be written whatever the modes of the source, and is not made a second time."""
    installed = sealed / "k2" / "__pycache__"
    installed.unlink()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    if named:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    monkeypatch.setattr(compiled, "_PACKAGE", sealed / "k2")
    rules = installed / f"compiled-{compiled._digest()}" / "venues_1"
    rules.mkdir(parents=True)
    for name in ("rule.nbi", "rule.1.nbc"):
        (rules / name).write_bytes(name.encode())
        (rules / name).chmod(0o444)
    rules.chmod(0o555)
    seal(monkeypatch, sealed)
    found = compiled._cache_folder()
    assert found is not None
    assert found.is_relative_to(tmp_path / ("named" if named else "caches"))
    copied = {path.name: path for path in (found / "venues_1").iterdir()}
    assert {name: path.read_bytes().decode() for name, path in copied.items()} == {name: name for name in copied}
    assert len(copied) == 2
    assert all(path.stat().st_mode & 0o200 for path in [*copied.values(), found / "venues_1"])
    assert [*found.parent.iterdir()] == [found]
    copied["rule.nbi"].write_bytes(b"compiled here since")
    assert compiled._cache_folder() == found
    assert copied["rule.nbi"].read_bytes() == b"compiled here since"


def test_a_writable_package_folder_holds_the_cache(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a checkout."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (sealed / "k2" / "__pycache__").unlink()
    monkeypatch.setattr(compiled, "_PACKAGE", sealed / "k2")
    found = compiled._cache_folder()
    assert found is not None
    assert found.parent == sealed / "k2" / "__pycache__"


def test_a_new_folder_takes_the_place_of_unused_ones(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of other sources, unless a process uses one still, or began to within a day; other files are left alone."""
    root = tmp_path / "caches"
    folders = {name: root / f"compiled-{name}" for name in ("unused", "recent", "running")}
    for name, folder in folders.items():
        (folder / "venues_1").mkdir(parents=True)
        (folder / "venues_1" / "rule.nbi").touch()
        (folder / "in-use").touch()
        if name != "recent":
            os.utime(folder / "in-use", (0, 0))
    (root / "other").mkdir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(root))
    monkeypatch.setattr(compiled, "_PACKAGE", sealed / "k2")
    with (folders["running"] / "in-use").open() as running:
        fcntl.flock(running, fcntl.LOCK_SH)
        new = compiled._cache_folder()
    assert new is not None
    assert {*root.iterdir()} == {new, folders["recent"], folders["running"], root / "other"}
    # A folder that is there already removes nothing: a start of another version would remove it in turn.
    assert compiled._cache_folder() == new
    assert folders["running"].exists()


def test_a_folder_that_is_removed_as_a_process_begins_to_use_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process holds the lock of a folder that exists."""
    folder, flock = tmp_path / "compiled-1", fcntl.flock
    removals = [folder]

    def removing(file: int, operation: int) -> None:
        if removals:
            shutil.rmtree(removals.pop())
        flock(file, operation)

    monkeypatch.setattr(compiled.fcntl, "flock", removing)
    compiled._hold(folder)
    assert (folder / "in-use").exists()
    with (folder / "in-use").open() as other, pytest.raises(BlockingIOError):
        flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("decorator", [compiled.allocation_free, compiled.inlined])
def test_a_rule_without_allocations_leaves_its_arrays_to_the_caller(decorator: Any) -> None:
    """No reference is added or lost, and a rule that counts can call it."""

    @decorator
    def last(array: NDArray[np.int64]) -> int:
        if len(array) == 0:
            return -1
        return int(array[len(array) - 1])

    @compiled.compiled
    def of_copy(array: NDArray[np.int64]) -> int:
        return last(np.append(array, 7)) + last(array)

    array = np.arange(5)
    references = sys.getrefcount(array)
    assert [of_copy(array), of_copy(array[:0]), last(array)] == [11, 6, 4]
    assert sys.getrefcount(array) == references

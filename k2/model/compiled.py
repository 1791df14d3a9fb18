"""Compilation of rules with numba, and the on-disk cache of the compiled code."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from numba.core import config

F = TypeVar("F", bound=Callable[..., object])

__all__ = ["RULES", "allocation_free", "cache_folder", "compiled", "inlined"]

RULES: Final[list[Any]] = []
"""All rules that were declared in this process, as dispatchers of numba; empty if none is compiled."""


def _digest() -> str:
    """Return a digest of the source of all rules and of the constants that they may use.

    Numba invalidates its cache only if the file of the calling function changes. Without the digest, a kernel that
    calls a rule in another file would keep using the old version of that rule.
    """
    digest = hashlib.sha256()
    for source in sorted(_PACKAGE.rglob("*.py")):
        text = source.read_bytes()
        if source.relative_to(_PACKAGE).parts[0] in _RULES or b"import compiled" in text:
            digest.update(text)
    return digest.hexdigest()[:16]


def _roots() -> Iterator[Path]:
    """Yield candidate cache folders, best first.

    `NUMBA_CACHE_DIR` alone if it is set; else the package's `__pycache__`, then the user's cache folders.
    """
    configured = os.environ.get("NUMBA_CACHE_DIR")
    if configured:
        yield Path(configured)
        return
    yield _PACKAGE / "__pycache__"
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():
        yield caches / "k2-trades"
    # The home folder is unknown if the user id has no entry in the user database.
    with contextlib.suppress(RuntimeError):
        yield Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "k2-trades"


def _cache_folder() -> Path | None:
    """Return the first writable cache folder, created if absent; None if no folder is writable.

    If the package's folder has the compiled rules but is read-only, as in an image, the next one begins as its copy.
    A new folder takes the place of those of other sources, which are removed if nobody has used them for a day.
    """
    name = f"{_PREFIX}{_digest()}"
    for root in _roots():
        folder = root / name
        with contextlib.suppress(OSError):
            is_new = not folder.exists()
            _copy_installed(_PACKAGE / "__pycache__" / name, folder)
            _hold(folder)
            tempfile.TemporaryFile(dir=folder).close()
            if is_new:
                _remove_unused(root)
            return folder
    return None


def _hold(folder: Path) -> None:
    """Keep the folder from being removed for as long as this process lives; create it if absent."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        # Not closed: the lock ends with the process. Where a file system has no locks, nothing is removed either.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if (folder / _LOCK).stat().st_ino == os.fstat(lock).st_ino:
                os.utime(lock)
                return
        # Another process has removed it meanwhile.
        os.close(lock)


def _remove_unused(root: Path) -> None:
    """Remove the cache folders that no process has begun to use within a day, and none uses still."""
    for lock in root.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("r+b") as opened:
            if lock.stat().st_mtime < time.time() - _UNUSED_SECONDS_MIN:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent)


def _copy_installed(installed: Path, folder: Path) -> None:
    """Copy the compiled rules that were installed with the package, unless the folder exists."""
    if folder.exists() or not installed.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        copy = Path(temporary) / "copy"
        for source in installed.rglob("*.nb[ci]"):
            target = copy / source.relative_to(installed)
            # Without the permissions of the source: numba writes into the copy.
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        # Renamed once it is whole. Another process may have been faster, or there was nothing to copy.
        with contextlib.suppress(OSError):
            copy.rename(folder)


_PACKAGE: Final = Path(__file__).parent.parent
_RULES: Final = frozenset({"dedup", "model", "sequencing", "venues"})
"""Packages of which every source file is part of the digest."""
_PREFIX: Final = "compiled-"
_LOCK: Final = "in-use"
_UNUSED_SECONDS_MIN: Final = 86_400
_FOLDER: Final = _cache_folder()
if _FOLDER is not None:
    config.CACHE_DIR = str(_FOLDER)
# The form that C code would call takes a fourteenth of the time to compile, and no code calls it.
_OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "cache": _FOLDER is not None,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}


def compiled(rule: F) -> F:
    """Compile a loop over arrays, or a rule on scalars that such a loop calls.

    The compiled function releases the GIL, so that the workers of a process run in parallel. It is cached on disk
    between starts if a cache folder is writable. With ``NUMBA_DISABLE_JIT=1`` the function stays plain Python, for
    coverage, mutation tests and debugging.
    """
    if config.DISABLE_JIT:
        # Hashes wrap around by design; NumPy scalars would warn about it.
        return np.errstate(over="ignore")(rule)
    return _rule(rule)


def allocation_free(rule: F) -> F:
    """Compile a rule as `compiled` does that makes no arrays, other than views.

    It does not count the references of the arrays that it takes, which its caller holds. To count them is an atomic
    operation for each array that a function takes: half of the time of a loop that calls dozens of rules a message.
    """
    return compiled(rule) if config.DISABLE_JIT else _rule(rule, _nrt=False)


def inlined(rule: F) -> F:
    """Compile a rule as `allocation_free` does, into each rule that calls it.

    For what is called once, or is smaller than a call, which costs some nanoseconds for each array that it passes.
    """
    if config.DISABLE_JIT:
        return compiled(rule)
    return _rule(rule, _nrt=False, forceinline=True)


def _rule(rule: F, **options: bool) -> F:
    RULES.append(numba.njit(rule, **_OPTIONS, **options))
    return cast("F", RULES[-1])


def cache_folder() -> Path | None:
    """Return the folder of the compiled rules; None if no folder can be written."""
    return _FOLDER

"""The one place where a rule becomes machine code."""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar, cast

import numba
import numpy as np
from numba.core import config

F = TypeVar("F", bound=Callable[..., object])

__all__ = ["compiled"]


def _digest() -> str:
    """Return a name that changes whenever the source of a rule does, or of a constant that one may use.

    Numba notices a changed function only in the file that calls it, so a kernel that calls a
    small rule in another file would go on with the old rule.
    """
    digest = hashlib.sha256()
    for source in sorted(_PACKAGE.rglob("*.py")):
        text = source.read_bytes()
        if source.relative_to(_PACKAGE).parts[0] in _RULES or b"import compiled" in text:
            digest.update(text)
    return digest.hexdigest()[:16]


def _roots() -> Iterator[Path]:
    """Yield where compiled code may be kept, best first: as told, else beside the rules, else with the user's caches."""
    told = os.environ.get("NUMBA_CACHE_DIR")
    if told:
        yield Path(told)
        return
    yield _PACKAGE / "__pycache__"
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if caches.is_absolute():
        yield caches / "k2-trades"
    # Who the user is, and so their folder, may be unknown.
    with contextlib.suppress(RuntimeError):
        yield Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "k2-trades"


def _cache_folder() -> Path | None:
    """Return the first folder that can be written, made where it is absent; None where there is none."""
    digest = _digest()
    for root in _roots():
        folder = root / f"compiled-{digest}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    return None


_PACKAGE: Final = Path(__file__).parent.parent
_RULES: Final = frozenset({"dedup", "model", "sequencing", "venues"})
"""The packages of which every source counts."""
_FOLDER: Final = _cache_folder()
if _FOLDER is not None:
    config.CACHE_DIR = str(_FOLDER)


def compiled(rule: F) -> F:
    """Compile a loop over arrays, or a rule on scalars that such a loop calls.

    The result releases the GIL, so that workers in one process run side by side, and is kept on
    disk between starts where a folder for it can be written. With ``NUMBA_DISABLE_JIT=1`` the function
    stays plain Python, for coverage, mutation tests and debugging.
    """
    if config.DISABLE_JIT:
        # Hashes wrap around by design, of which NumPy's scalars would warn.
        return np.errstate(over="ignore")(rule)
    return cast("F", numba.njit(rule, nogil=True, cache=_FOLDER is not None, error_model="numpy"))

"""The one place where a rule becomes machine code."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba
import numpy as np
from numba.core import config

F = TypeVar("F", bound=Callable[..., object])

__all__ = ["compiled"]


def _cache_folder() -> Path:
    """Give a folder for compiled code that changes whenever any rule's source does.

    Numba notices a changed function only in the file that calls it, so a kernel that calls a
    small rule in another file would go on with the old rule.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__")
    return root / f"compiled-{digest.hexdigest()[:16]}"


def _use_cache() -> bool:
    folder = _cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    config.CACHE_DIR = str(folder)
    return os.access(folder, os.W_OK)


_CACHE = _use_cache()


def compiled(rule: F) -> F:
    """Compile a loop over arrays, or a rule on scalars that such a loop calls.

    The result releases the GIL, so that workers in one process run side by side, and is kept on
    disk between starts. With ``NUMBA_DISABLE_JIT=1`` the function stays plain Python, for
    coverage, mutation tests and debugging.
    """
    if config.DISABLE_JIT:
        # Hashes wrap around by design, of which NumPy's scalars would warn.
        return np.errstate(over="ignore")(rule)
    return cast("F", numba.njit(rule, nogil=True, cache=_CACHE, error_model="numpy"))

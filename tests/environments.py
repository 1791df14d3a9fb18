"""Python tools for the tests whose packages do not agree with those of the tests: each in an environment of its own."""

import fcntl
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.maven import run

__all__ = ["environment"]

INSTALL_SECONDS_MAX: Final = 280.0


def environment(pins: Path) -> Path:
    """Return the Python of the environment with the pinned packages, created on first use in the user's cache.

    Raises:
        NotToBeHadError: the packages are not available here.
    """
    identity = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k2-trades" / f"{pins.stem}-{identity}"
    python, whole = folder / "bin" / "python", folder / "whole"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Two test runs may do this at the same time, and one may be interrupted.
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = str(Path(sys.executable).with_name("uv"))
            run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], INSTALL_SECONDS_MAX)
            # The installer of the tests' own environment, so that one configuration serves both.
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
            run([*pip, "install", "--quiet", "--require-hashes", "-r", str(pins)], INSTALL_SECONDS_MAX)
            whole.touch()
    return python

"""Versions that a file of pinned requirements names."""

import re
from pathlib import Path

__all__ = ["pinned_version"]


def pinned_version(pins: Path, package: str) -> str:
    """Return the version that a file of requirements pins a package to.

    Raises:
        ValueError: it does not.
    """
    found = re.search(rf"^{re.escape(package)}(?:\[\S*\])?==(\S+)", pins.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{package} is not pinned in {pins.name}; pin it there, and run make lock")
    return found[1]

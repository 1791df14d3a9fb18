"""Free space of the disk of the dead letters, as metrics."""

import math
import shutil
from pathlib import Path

from k2.ops.metrics import DEAD_LETTER_DISK, DEAD_LETTER_DISK_FREE

__all__ = ["report_disk"]


def report_disk(folder: Path | None) -> None:
    """Report size and free bytes of the disk of a folder, which each scrape reads again; NaN without a folder."""
    DEAD_LETTER_DISK.set_function(lambda: _usage_bytes(folder)[0])
    DEAD_LETTER_DISK_FREE.set_function(lambda: _usage_bytes(folder)[1])


def _usage_bytes(folder: Path | None) -> tuple[float, float]:
    """Return the size and the free bytes; NaN if the folder cannot be read, since an error would fail the scrape."""
    if folder is None:
        return math.nan, math.nan
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return usage.total, usage.free

"""CPU time and memory of a process until now, as the kernel counts them.

`resource.getrusage` would not do for memory: its peak begins with that of the process that started this one.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ProcessStatus", "own_status", "status_of"]

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


class ProcessStatus(NamedTuple):
    """What one process has taken so far."""

    cpu_seconds: float
    """With its children that it has waited for."""
    resident_mb: float
    """Millions of bytes that it has now."""
    peak_mb: float
    """The most that it has had, in millions of bytes."""
    threads: int


def status_of(process: int) -> ProcessStatus | None:
    """Return what the process of an id has taken; None if it has ended."""
    try:
        # The name in brackets may contain spaces.
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines())
    # A process that has ended, and was not waited for, has no memory any more.
    resident_mb, peak_mb = (int(fields.get(name, "0").split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return ProcessStatus(sum(map(int, stat[11:15])) / _TICKS_A_SECOND, resident_mb, peak_mb, int(fields["Threads"]))


def own_status() -> ProcessStatus:
    """Return what this process has taken."""
    status = status_of(os.getpid())
    assert status is not None, "it runs"
    return status

"""Memory of this process, as the kernel counts it.

`resource.getrusage` would not do: what it has for a process begins with the peak of the one that started it.
"""

from pathlib import Path

__all__ = ["peak_mb", "resident_mb"]


def resident_mb() -> float:
    """Return the memory that the process has now, in millions of bytes."""
    return _megabytes("VmRSS")


def peak_mb() -> float:
    """Return the most memory that the process has had, in millions of bytes."""
    return _megabytes("VmHWM")


def _megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kibibytes) * 1024 / 1e6

"""Checks of this machine: versions of Python and of the packages, the clock, and the memory."""

import ctypes
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from k2.doctor.findings import Finding, failed, ok, unknown, warning

__all__ = ["check_clock", "check_memory", "check_packages", "check_python", "version_problem"]

DISTRIBUTION: Final = "k2-trades"
MEMORY_BYTES_MIN: Final = 1_000_000_000
"""The job itself takes 0.7 GB at its peak; its state comes on top."""
_TIME_ERROR: Final = 5
"""Result of adjtimex(2) if the kernel's clock is not synchronized."""
_TIMEX_BYTES: Final = 1_024
"""More than the kernel's structure has."""
_NO_LIMIT: Final = "max"


def check_python() -> Iterator[Finding]:
    """Compare the version of Python with the range that the distribution requires."""
    found = platform.python_version()
    try:
        wanted = distribution(DISTRIBUTION).metadata["Requires-Python"]
    except PackageNotFoundError:
        yield unknown("python", f"Python {found}; {DISTRIBUTION} is not installed, so its range is not known")
        return
    if SpecifierSet(wanted).contains(found, prereleases=True):
        yield ok("python", f"Python {found}")
    else:
        yield failed("python", f"Python {found} is not {wanted}; create the virtual environment with another Python")


def check_packages() -> Iterator[Finding]:
    """Compare the installed packages with the ranges that the distribution requires, extras only if installed."""
    try:
        requirements = [Requirement(text) for text in distribution(DISTRIBUTION).requires or ()]
    except PackageNotFoundError:
        yield unknown("packages", f"{DISTRIBUTION} is not installed, so its ranges are not known; `pip install .`")
        return
    problems = [problem for one in requirements if (problem := version_problem(one))]
    if problems:
        advice = "install the versions of requirements/runtime.txt"
        yield failed("packages", f"{'; '.join(sorted({*problems}))}; {advice}")
    else:
        yield ok("packages", "all installed packages have versions in the ranges of pyproject.toml")


def version_problem(requirement: Requirement) -> str | None:
    """Return in what way the installed version does not fit; None if it fits, or an extra's package is absent."""
    is_extra = requirement.marker is not None and "extra" in str(requirement.marker)
    if requirement.marker is not None and not is_extra and not requirement.marker.evaluate():
        return None
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return None if is_extra else f"{requirement.name} is not installed, {requirement.specifier} is required"
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{requirement.name} {found} is not {requirement.specifier}"


def check_clock() -> Iterator[Finding]:
    """Ask the kernel whether its clock is synchronized."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    # A structure of zeros asks, and changes nothing.
    state = -1 if adjtimex is None else adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state < 0:
        yield unknown("clock", "this system does not report whether its clock is synchronized")
    elif state == _TIME_ERROR:
        yield warning("clock", "the clock of this machine is not synchronized; run an NTP client, such as chrony")
    else:
        yield ok("clock", "the clock of this machine is synchronized")


def check_memory(root: Path = Path("/")) -> Iterator[Finding]:
    """Compare the memory that this process may still take, of the machine and of its control group, with the need."""
    free = [bytes_ for bytes_ in (_free_of_machine(root), _free_of_group(root)) if bytes_ is not None]
    if not free:
        yield unknown("memory", "this system does not report its free memory")
    elif min(free) < MEMORY_BYTES_MIN:
        text = f"{min(free) / 1e9:.1f} GB of memory are free, the job takes up to 0.7 GB, and its state; free some"
        yield warning("memory", text)
    else:
        yield ok("memory", f"{min(free) / 1e9:,.1f} GB of memory are free")


def _free_of_machine(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kilobytes) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def _free_of_group(root: Path) -> int | None:
    """Return what a container's limit leaves (control groups, version 2); None without a limit."""
    folder = root / "sys/fs/cgroup"
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return None if limit == _NO_LIMIT else max(0, int(limit) - used)
    except (OSError, ValueError):
        return None

"""Processes that are measured: the CPU time as the operating system counts it, and the peak of the memory."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["FOLDER", "Measured", "measured"]

FOLDER: Final = Path(__file__).resolve().parent.parent
LOOK_PAUSE_SECONDS: Final = 0.02


class Measured(NamedTuple):
    """What one process took."""

    cpu_seconds: float
    """With its children that it has waited for."""
    wall_seconds: float
    peak_mb: float
    """Millions of bytes, of the process without its children."""
    output: str


def measured(command: list[str], environment: Mapping[str, str]) -> Measured:
    """Run a process to its end, in the folder of the repository.

    Raises:
        SystemExit: it did not end with 0.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=FOLDER, env={**os.environ, **environment}, stdout=output, stderr=errors, text=True
        )
        peak_mb = 0.0
        # The peak is read while it runs: what `wait4` has begins with the peak of the process that started it.
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            time.sleep(LOOK_PAUSE_SECONDS)
        wall_seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {errors.read()[-2000:]}")
        usage = ended[2]
        return Measured(usage.ru_utime + usage.ru_stime, wall_seconds, peak_mb, output.read())


def _peak_mb(process: int) -> float:
    """Return the most memory that a process has had; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except ProcessLookupError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), 0.0)

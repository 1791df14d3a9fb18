"""Processes that are measured: the CPU time as the operating system counts it, and the peak of the memory."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.process_status import status_of

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
    """What it has written to stdout."""
    log: str = ""
    """What it has written to stderr."""
    started: float = 0.0
    """When it was started, seconds since the epoch."""


def measured(command: list[str], environment: Mapping[str, str]) -> Measured:
    """Run a process to its end, in the folder of the repository.

    Raises:
        SystemExit: it did not end with 0.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started, start = time.time(), time.perf_counter()
        process = subprocess.Popen(
            command, cwd=FOLDER, env={**os.environ, **environment}, stdout=output, stderr=errors, text=True
        )
        peak_mb = 0.0
        # The peak is read while it runs: what `wait4` has begins with the peak of the process that started it.
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            status = status_of(process.pid)
            peak_mb = peak_mb if status is None else max(peak_mb, status.peak_mb)
            time.sleep(LOOK_PAUSE_SECONDS)
        wall_seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        output.seek(0)
        errors.seek(0)
        log, usage = errors.read(), ended[2]
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {log[-2000:]}")
        return Measured(usage.ru_utime + usage.ru_stime, wall_seconds, peak_mb, output.read(), log, started)

"""A contender's processes, measured from outside: CPU time and memory of the whole tree, up to the last row."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers.contender import Launch, Task
from benchmarks.process import FOLDER
from benchmarks.process_status import status_of

__all__ = ["Taken", "run_until"]

LOOK_PAUSE_SECONDS: Final = 0.1
STOP_SECONDS_MAX: Final = 30.0


class Taken(NamedTuple):
    """What the processes of a run took, up to the moment at which all rows were committed."""

    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    """Millions of bytes, of all its processes together."""
    failure: str = ""
    """Why the run failed: it ended with an error, or stood still. Empty if all is well."""


def run_until(
    task: Task,
    launch: Launch,
    cores: Collection[int],
    is_done: Callable[[], bool],
    *,
    ends_itself: bool,
    seconds_max: float,
) -> Taken:
    """Run a contender's command on these cores until it ends, or, if it does not end by itself, until `is_done`.

    Its output is in the task's folder, in `contender.log`.
    """
    for name, text in launch.files.items():
        (task.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (task.folder / name).write_text(text, encoding="utf-8")
    log = task.folder / "contender.log"
    start = time.perf_counter()
    own_cores = os.sched_getaffinity(0)
    with log.open("wb") as output:
        os.sched_setaffinity(0, cores)  # which a process inherits
        process = subprocess.Popen(
            launch.command,
            cwd=FOLDER,
            env={**os.environ, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A session of its own, so that all of its processes can be stopped.
            start_new_session=True,
        )
        os.sched_setaffinity(0, own_cores)
    try:
        taken = _watch(process, start, (lambda: False) if ends_itself else is_done, seconds_max)
    finally:
        _stop(process)
    if taken.failure:
        end = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
        return taken._replace(failure=f"{taken.failure}; its output ends: {end}")
    return taken


def _watch(process: "subprocess.Popen[bytes]", start: float, is_done: Callable[[], bool], seconds_max: float) -> Taken:
    cpu_seconds, peak_mb, failure = 0.0, 0.0, ""
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall_seconds = time.perf_counter() - start
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            # Without children that it did not wait for, as PySpark does not wait for Java: those were seen just before.
            cpu_seconds = max(cpu_seconds, usage.ru_utime + usage.ru_stime)
            if process.returncode:
                failure = f"it ended with {process.returncode}"
            break
        found = [one for pid in _tree(process.pid) if (one := status_of(pid)) is not None]
        cpu_seconds = max(cpu_seconds, sum(one.cpu_seconds for one in found))
        peak_mb = max([peak_mb, sum(one.resident_mb for one in found), *(one.peak_mb for one in found)])
        if is_done():
            break
        if wall_seconds > seconds_max:
            failure = f"not all rows were there after {seconds_max:.0f} s"
            break
        time.sleep(LOOK_PAUSE_SECONDS)
    return Taken(cpu_seconds, wall_seconds, peak_mb, failure)


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all that come from it."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _tree(child)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask all processes of a run to stop, and kill those that do not."""
    for sent, seconds_max in ((signal.SIGTERM, STOP_SECONDS_MAX), (signal.SIGKILL, STOP_SECONDS_MAX)):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            return
        end = time.monotonic() + seconds_max
        while time.monotonic() < end and _lives(process):
            time.sleep(LOOK_PAUSE_SECONDS)


def _lives(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True

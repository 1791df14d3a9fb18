"""One life of the job: the real flow in a process of its own, which a fault may end at any point."""

import mmap
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, NoReturn

from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main
from pyiceberg.exceptions import CommitFailedException

import flows.recovery
import flows.start
from flows.trades import trades_flow
from runtime.failpoints import NAMES, Name, arm
from runtime.logs import set_up_logs
from runtime.settings import Settings, read_settings
from tests.simulation.market import Market
from tests.simulation.plan import Fault, Life, Plan
from tests.simulation.source import read_from_memory

__all__ = ["CrashError", "Ended", "Passings", "live", "settings_of"]

LIFE_SECONDS_MAX: Final = 60
BYTES: Final = 8


class CrashError(BaseException):
    """Raised at a failpoint: no part of the job may catch it and go on."""


class Passings:
    """How often each failpoint was passed, and whether the life's crash happened: outlives the process that counts."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, BYTES * (len(NAMES) + 1))
        self._counts = memoryview(self._shared).cast("q")

    def clear(self) -> None:
        """Begin anew."""
        self._counts[:] = memoryview(bytes(BYTES * len(self._counts))).cast("q")

    def count(self, name: Name) -> int:
        """Note a passing; give which one it is."""
        place = NAMES.index(name)
        self._counts[place] += 1
        return self._counts[place]

    def each(self) -> dict[Name, int]:
        """Give the passings of each name."""
        return dict(zip(NAMES, self._counts, strict=False))

    def total(self) -> int:
        """Give the passings of all."""
        return sum(self._counts[:-1])

    def crash(self) -> None:
        """Note that the crash happens now."""
        self._counts[-1] = 1

    @property
    def crashed(self) -> bool:
        """Whether the crash happened."""
        return bool(self._counts[-1])


@dataclass(frozen=True)
class Ended:
    """How a life ended."""

    how: str
    """`crashed` as planned, `finished`, `failed` or `hung`."""
    said: str
    """Its standard error."""


def settings_of(folder: Path, market: Market, plan: Plan) -> Settings:
    """Give the settings under which every life of a simulation runs."""
    environment = {
        "K2_DATA_DIR": str(folder / "data"),
        "K2_TOPICS": ",".join(f"{topic}={venue}" for topic, venue in sorted(market.topics.items())),
        "K2_WRITERS": str(plan.writers),
        "K2_DEDUP_WINDOW_SECONDS": str(market.window_seconds),
        "K2_DLQ_FILE_BYTES_MAX": str(plan.letter_file_bytes_max),
        "K2_RUN_TO_END": "true",
    }
    return read_settings(environment)


def live(folder: Path, market: Market, life: Life, settings: Settings, rng: Random, passings: Passings) -> Ended:
    """Run one life in a forked process; this process must have no threads."""
    passings.clear()
    path = folder / "stderr.txt"
    process = os.fork()
    if not process:
        _begin(path, partial(_run, folder, market, life, settings, rng, passings))
    status = _wait(process)
    said = path.read_text(encoding="utf-8", errors="replace")
    if status is None:
        return Ended("crashed" if passings.crashed else "hung", said)
    if passings.crashed:
        return Ended("crashed", said)
    return Ended("finished" if status == 0 else "failed", said)


def _wait(process: int) -> int | None:
    """Give the process's status; None where it had to be killed because it came to no end."""
    deadline = time.monotonic() + LIFE_SECONDS_MAX
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _begin(said: Path, run: Callable[[], None]) -> NoReturn:
    """Be the child: whatever happens, never return into the parent's code."""
    code = 1
    try:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        run()
        code = 0
    except BaseException:  # noqa: BLE001  the parent's code must not go on in the child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(folder: Path, market: Market, life: Life, settings: Settings, rng: Random, passings: Passings) -> None:
    set_up_logs()
    recovery = folder / "recovery"
    flows.recovery._held(recovery, 0, 1)
    read_from_memory(market.logs, life.ends, rng)
    arm(_Faults(life.faults, passings).pass_by)
    cluster_main(
        trades_flow(flows.start._real_ends(settings), settings),
        [],
        0,
        epoch_interval=timedelta(milliseconds=life.epoch_milliseconds),
        recovery_config=RecoveryConfig(str(recovery)),
        worker_count_per_proc=life.workers,
    )


class _Faults:
    """Counts passings, and does what the plan says at the chosen ones."""

    def __init__(self, faults: tuple[Fault, ...], passings: Passings) -> None:
        self._faults, self._passings = faults, passings
        self._lock = threading.Lock()

    def pass_by(self, name: Name) -> None:
        """Be called at every failpoint."""
        with self._lock:
            passing = self._passings.count(name)
            total = self._passings.total()
        for fault in self._faults:
            if fault.passing == (total if fault.name is None else passing) and fault.name in {None, name}:
                _ACTIONS[fault.kind](self._passings)


def _kill(passings: Passings) -> None:
    passings.crash()
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(passings: Passings) -> None:
    passings.crash()
    raise CrashError


def _lose(_passings: Passings) -> None:
    raise TimeoutError("the answer to a commit that landed was lost")


def _deny(_passings: Passings) -> None:
    raise CommitFailedException("said of a commit that landed")


_ACTIONS: Final[Mapping[str, Callable[[Passings], None]]] = {
    "kill": _kill,
    "raise": _raise,
    "lost": _lose,
    "conflict": _deny,
}

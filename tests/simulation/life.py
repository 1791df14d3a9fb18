"""One life of the job: the real flow in a process of its own, which a fault may end at any point."""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, NoReturn

from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main

import flows.bootstrap
import k2.iceberg.commit_notes
import k2.restore.recovery_store
import operators.sequence
from flows.trades import trades_flow
from k2.iceberg.commit import Committer
from k2.ops.failpoints import arm
from k2.ops.logs import set_up_logs
from k2.ops.retry import retried
from k2.ops.settings import Settings
from tests.simulation.faults import Faults, Hits
from tests.simulation.market import Market
from tests.simulation.mutate import Mutant, mutate
from tests.simulation.other_writer import OtherWriter
from tests.simulation.plan import Life
from tests.simulation.source import Window, read_from_memory

__all__ = ["Ended", "LifeEnvironment", "Running", "run_other_writer", "start_life"]

LIFE_SECONDS_MAX: Final = 60
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class LifeEnvironment:
    """The environment of a life."""

    market: Market
    window: Window
    settings: Settings
    store: Path
    """The folder of the recovery store."""
    other_writer: OtherWriter
    rng: Random
    mutant: Mutant | None
    """A deliberate bug."""


@dataclass(frozen=True)
class Ended:
    """How a life ended, or that it is frozen."""

    how: str
    """`crashed` as planned, `frozen` or `finished`; `failed`, `hung`, or `went on` after a fault that should end it."""
    stderr: str
    """Its standard error."""


class Running:
    """A life that was started."""

    def __init__(self, process: int, stderr_file: Path, hits: Hits) -> None:
        self._process, self._stderr_file = process, stderr_file
        self.hits = hits

    def wait(self) -> Ended:
        """Wait until it ends or is frozen."""
        status = self._status()
        stderr = self._stderr_file.read_text(encoding="utf-8", errors="replace")
        if status is not None and os.WIFSTOPPED(status):
            return Ended("frozen", stderr)
        if self.hits.ended:
            return Ended("went on" if status == 0 else "crashed", stderr)
        return Ended({None: "hung", 0: "finished"}.get(status, "failed"), stderr)

    def resume(self) -> Ended:
        """Resume a frozen life until it ends."""
        os.kill(self._process, signal.SIGCONT)
        return self.wait()

    def kill(self) -> None:
        """Kill a frozen life."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _status(self) -> int | None:
        """Return the process's status; None if it did not end and had to be killed."""
        deadline = time.monotonic() + LIFE_SECONDS_MAX
        while time.monotonic() < deadline:
            done, status = os.waitpid(self._process, os.WNOHANG | os.WUNTRACED)
            if done:
                return status
            time.sleep(0.002)
        self.kill()
        return None


def start_life(life: Life, environment: LifeEnvironment, stderr_file: Path) -> Running:
    """Start a life in a forked process; this process must have no threads."""
    hits = Hits()
    return Running(_fork(stderr_file, partial(_run, life, environment, hits)), stderr_file, hits)


def run_other_writer(other_writer: OtherWriter, acts: tuple[str, ...], stderr_file: Path) -> Ended:
    """Apply another writer's planned action between two lives, in a process of its own."""

    def run() -> None:
        for act in acts:
            other_writer.do(act)

    return Running(_fork(stderr_file, run), stderr_file, Hits()).wait()


def _fork(stderr_file: Path, run: Callable[[], None]) -> int:
    parent = os.getpid()
    process = os.fork()
    if not process:
        _run_as_child(parent, stderr_file, run)
    return process


def _run_as_child(parent: int, stderr_file: Path, run: Callable[[], None]) -> NoReturn:
    """Run as the child: whatever happens, never return into the parent's code."""
    code = 1
    try:
        _die_with(parent)
        os.dup2(os.open(stderr_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        run()
        code = 0
    except BaseException:  # noqa: BLE001  the parent's code must not go on in the child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    """Leave no frozen process behind if the parent is killed (prctl(2), on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    assert os.getppid() == parent, "the parent is gone"


def _run(life: Life, environment: LifeEnvironment, hits: Hits) -> None:
    if environment.mutant is not None:
        mutate(environment.mutant)
    set_up_logs()
    _disable_retry_waits()
    _shrink_commit_notes()
    _take_checkpoints_often()
    held = k2.restore.recovery_store.NO_STORE
    if life.store != "none":
        store = k2.restore.recovery_store.lock_and_check(environment.settings, environment.store, 0, 1)
        assert store is not None, "the only process has all partitions"
        k2.restore.recovery_store._clean_up(store, 0)
        held = k2.restore.recovery_store._resume_info(store)
    # Without time-based waits only the seed decides what an epoch contains.
    pause = timedelta(milliseconds=1 if life.epoch_milliseconds else 0)
    read_from_memory(environment.market.logs, environment.window, environment.rng, pause)
    arm(Faults(life.faults, hits, environment.other_writer.do).on_hit)
    cluster_main(
        trades_flow(flows.bootstrap.open_job_io(environment.settings, held), environment.settings),
        [],
        0,
        epoch_interval=timedelta(milliseconds=life.epoch_milliseconds),
        recovery_config=None if life.store == "none" else RecoveryConfig(str(environment.store)),
        worker_count_per_proc=life.workers,
    )


def _shrink_commit_notes() -> None:
    """Move commit notes to their table every few commits, because a life has few."""
    k2.iceberg.commit_notes.COMMIT_NOTES_MAX = 4


def _take_checkpoints_often() -> None:
    """Take the checkpoint of a key group every few rows, because a life has few."""
    operators.sequence.CHECKPOINT_ROWS = 2  # type: ignore[misc]


def _disable_retry_waits() -> None:
    """Let retries follow each other at once."""

    def sleep(_seconds: float) -> None:
        pass

    retried.__kwdefaults__["sleep"] = sleep  # type: ignore[index]
    Committer.__init__.__defaults__ = (None, sleep)  # type: ignore[attr-defined]

"""Real processes killed with SIGKILL and restarted with other worker counts, while messages keep arriving."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from k2.ops.child_process import free_port
from tests.flows.job import SECONDS_MAX, Job
from tests.flows.market import Publisher, market

__all__ = ["COUNTS", "Life", "plan", "rescaled", "running"]

COUNTS: Final = (1, 2, 3)
"""Workers of the lives that are killed; the one that runs to the end has one worker."""
AGE_SECONDS_MAX: Final = 2.5
"""Two and a half epochs, counted from the first commit."""
PEER_SECONDS_MAX: Final = 100


@dataclass(frozen=True)
class Life:
    """One execution of the job, from its start to SIGKILL."""

    processes: int
    threads: int
    """In each process."""
    age_seconds: float
    """From the first commit to the kill."""
    victim: int
    """The process that is killed; the others end by themselves."""


def plan(rng: Random, *, as_processes: bool, counts: Sequence[int] = COUNTS) -> list[Life]:
    """Choose the times of the kills and the processes killed."""
    lives = []
    for count in counts:
        processes, threads = (count, 1) if as_processes else (1, count)
        lives.append(Life(processes, threads, rng.uniform(0, AGE_SECONDS_MAX), rng.randrange(processes)))
    return lives


def rescaled(job: Job, lives: Sequence[Life]) -> Job:
    """Run all lives while a market is published to the job's topic, then run to the end with one worker.

    Return a job in a folder of its own that ran undisturbed over the same topic, to compare with.
    """
    messages = market(symbols=60, rounds=100 * len(lives))
    endless = replace(job, environment={**job.environment, "K2_RUN_TO_END": "false"})
    with Publisher(job.bootstrap_servers, job.topics, messages) as publisher:
        for life in lives:
            _live(endless, life, publisher)
        assert job.committed() < len(messages), "the last kill came too late"
    job.run(workers=1)
    assert job.committed() == len(messages)
    quiet = replace(job, folder=job.folder.with_name(f"{job.folder.name}-quiet"))
    quiet.run(workers=2)
    return quiet


def _live(job: Job, life: Life, publisher: Publisher) -> None:
    """Run one life: until it has committed, has reached its age, and was killed."""
    # Includes what the last life committed after it was last read: if that counted as this one's, the victim would be
    # killed while the cluster forms, and its peers would wait for it forever.
    before = _heard(job, publisher)
    with running([job] * life.processes, workers=life.threads) as processes:
        _until(lambda: _heard(job, publisher) > before, processes)
        grown = time.monotonic() + life.age_seconds
        _until(lambda: _heard(job, publisher) > before and time.monotonic() > grown, processes)
        processes[life.victim].kill()
        for process in processes:
            said, _ = process.communicate(timeout=PEER_SECONDS_MAX)
            assert process.returncode, said


def _heard(job: Job, publisher: Publisher) -> int:
    publisher.committed = job.committed()
    return publisher.committed


def _until(reached: Callable[[], bool], processes: Sequence["subprocess.Popen[str]"]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not reached():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "nothing is committed"
        time.sleep(0.05)


@contextmanager
def running(jobs: Sequence[Job], *, absent: int = 0, **options: Any) -> Iterator[list["subprocess.Popen[str]"]]:
    """Run one process for each job, as a cluster if there are several; stop all of them at the end.

    `absent` is the number of further processes that the cluster waits for.
    """
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(len(jobs) + absent))
    started: list[subprocess.Popen[str]] = []
    try:
        for number, job in enumerate(jobs):
            place = {"process": number, "addresses": addresses} if ";" in addresses else {}
            started.append(job.start(**place, **options))
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()

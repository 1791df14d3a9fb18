"""The job on small disks that fill up, several at a time; prints the outcome of each as a line of JSON.

Run it in a mount namespace of its own, where it may mount: `unshare --mount` for root, else
`unshare --user --map-root-user --mount`. The disks disappear with the namespace.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from subprocess import run
from typing import Any, Final

from k2.query.reconcile import reconcile
from k2.storage.recovery.backup import make_store
from tests.flows.job import Job, wait_until
from tests.flows.market import Message, publish, trade
from tests.flows.rescale import running

SECONDS_MAX: Final = 120
DISK_BYTES: Final = 8 << 20
FIRST: Final = 100
"""Messages that are committed before the disk is full."""
COUNT: Final = 20_000
BAD_EVERY: Final = 50


def messages() -> list[Message]:
    """Return trades that need some hundred KB of data file, and among them messages that make large dead letters."""
    rng = Random(1)
    good = [trade(number, f"S{rng.getrandbits(64):x}") for number in range(1, COUNT + 1)]
    return [(key, b"?" * 900) if not place % BAD_EVERY else (key, value) for place, (key, value) in enumerate(good)]


def _warehouse(job: Job) -> tuple[Path, int]:
    return _mounted(job.settings.data_dir / "warehouse"), 64 << 10


def _letters(job: Job) -> tuple[Path, int]:
    return _mounted(job.settings.dead_letter_folder), 8 << 10


def _recovery(job: Job) -> tuple[Path, int]:
    make_store(_mounted(job.folder / "recovery"), 2)
    return job.folder / "recovery", 0


def _catalog(job: Job) -> tuple[Path, int]:
    disk, elsewhere = _mounted(job.settings.data_dir), job.folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("warehouse", "dlq"):
        (elsewhere / name).mkdir()
        (disk / name).symlink_to(elsewhere / name)
    return disk, 0


DISKS: Final[Mapping[str, Callable[[Job], tuple[Path, int]]]] = {
    "warehouse": _warehouse,
    "letters": _letters,
    "recovery": _recovery,
    "catalog": _catalog,
}
"""What is on the disk: each returns the folder, and how many bytes stay free when it is full."""


def _mounted(folder: Path) -> Path:
    folder.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "k2", str(folder)], check=True)
    return folder


def _fill(disk: Path, left_bytes: int) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        while (excess := _free_bytes(disk) - left_bytes) > 0:
            stream.write(bytes(excess))
    return ballast


def _free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_bsize


def _look(job: Job) -> dict[str, Any]:
    """Return what is stored, by the offsets."""
    rows = reconcile(job.settings)
    return {
        "received": job.committed(),
        "rows": sorted(job.table()["offset"].to_pylist()),
        "letters": sorted(letter.offset for letter in job.letters()),
        "holds": all(row.holds for row in rows),
    }


def _on_full_disk(job: Job, disk: Path, left_bytes: int, filled: Callable[[], None]) -> dict[str, Any]:
    """Run the job until its disk is full and it ends, then run it again with space."""
    endless = replace(job, environment={"K2_RUN_TO_END": "false"})
    with running([endless]) as (process,):
        wait_until(lambda: job.committed() == FIRST, "the first messages are not committed")
        ballast = _fill(disk, left_bytes)
        filled()
        said, _ = process.communicate(timeout=SECONDS_MAX)
    before = _look(job)
    ballast.unlink()
    job.run()
    return {"code": process.returncode, "said": said, "before": before, "after": _look(job)}


def main(servers: str, topic: str, folder: Path) -> None:
    """Run a job on each disk over one topic, the greater part of which is published when all disks are full."""
    full: list[str] = []
    publish(servers, topic, messages()[:FIRST])
    with ThreadPoolExecutor(len(DISKS)) as pool:
        runs = {}
        for name, disk in DISKS.items():
            job = Job(servers, folder / name, topic)
            runs[name] = pool.submit(_on_full_disk, job, *disk(job), partial(full.append, name))
        wait_until(lambda: len(full) == len(DISKS) or any(one.done() for one in runs.values()), "no disk is full")
        publish(servers, topic, messages()[FIRST:])
        for name, one in runs.items():
            sys.stdout.write(json.dumps({"disk": name, **one.result()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

"""A disk that really fills up under the job: one sentence, nothing half-committed, and no loss once there is space."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.brokers import Broker
from tests.flows.full_disk import BAD_EVERY, COUNT, DISKS, FIRST
from tests.flows.job import ROOT

SECONDS_MAX: Final = 280
SAID: Final = {
    "warehouse": "writing a data file failed 4 times, the last with: [Errno 28]",
    "letters": "writing dead letters to",
    "recovery": "the recovery store cannot be written: database or disk is full",
    "catalog": "failed 4 times, the last with: (sqlite3.OperationalError) database or disk is full",
}
"""By what is on the disk."""


NAMESPACES: Final = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
"""Prefixes of a command that may mount: for root, and for others."""


def _may_mount(namespace: list[str], folder: Path) -> bool:
    mount = [*namespace, "mount", "-t", "tmpfs", "k2", str(folder)]
    try:
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def outcomes(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]
) -> dict[str, dict[str, Any]]:
    """Return the job's outcome on each disk; all in parallel, because most of the time is waits between retries."""
    folder = tmp_path_factory.mktemp("disks")
    namespace = next((one for one in NAMESPACES if _may_mount(one, folder)), None)
    if namespace is None:
        missing("root, or user namespaces that may mount: a disk of its own")
    command = [sys.executable, "-m", "tests.flows.full_disk", broker.bootstrap_servers, broker.topic(), str(folder)]
    done = subprocess.run(
        [*namespace, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["disk"]: one for one in found}


@pytest.mark.parametrize("disk", DISKS)
def test_a_full_disk_ends_the_job_and_loses_nothing(outcomes: dict[str, dict[str, Any]], disk: str) -> None:
    """In a data file, a dead letter, the recovery store or the catalog: no row or dead letter is lost or doubled."""
    outcome = outcomes[disk]
    assert outcome["code"] > 0, outcome["said"]
    assert SAID[disk] in outcome["said"]
    assert "Traceback" not in outcome["said"]
    before, after = outcome["before"], outcome["after"]
    bad = list(range(0, COUNT, BAD_EVERY))
    good = sorted({*range(COUNT)} - {*bad})
    # The table may be ahead of the recovery store.
    assert FIRST <= before["received"] < COUNT + (disk == "recovery")
    assert before["rows"] == [offset for offset in good if offset < before["received"]]
    assert (after["received"], after["rows"], after["letters"], after["holds"]) == (COUNT, good, bad, True)

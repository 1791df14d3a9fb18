"""SIGKILL at every failpoint there is, and other chosen courses, on the way of one fixed market."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from k2.ops.failpoints import NAMES, Name

ROOT: Final = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what came of each case that is asked for: all in one process, which imports once."""
    here = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    names = [item.callspec.params["name"] for item in here]
    command = [sys.executable, "-m", "tests.simulation.cases", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_a_failpoint_loses_and_doubles_nothing(name: Name, outcomes: dict[str, Any]) -> None:
    """The process is killed at that point, and the next one ends with each trade, letter and event there once."""
    said = outcomes[name]
    assert said["faults"] == []
    assert said["crashes"] == 1, f"{name} was not passed: {said['lives']}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["landed, expired, and never told of", "compacted while a commit is staged"])
def test_other_writers_are_built_upon(name: str, outcomes: dict[str, Any]) -> None:
    """A foreign append, a compaction, an expiry to one snapshot in the middle of a commit: no row lost or doubled."""
    assert outcomes[name]["faults"] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "crashes"), [("zombie that committed a part", 0), ("zombie whose events were withdrawn", 1)]
)
def test_a_frozen_instance_is_fenced(name: str, crashes: int, outcomes: dict[str, Any]) -> None:
    """Let go after another went on in its place, it stops with an error that says so, and has doubled nothing."""
    said = outcomes[name]
    assert (said["faults"], said["fenced"], said["crashes"]) == ([], 1, crashes)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["instance next to a frozen one", "store ahead of the table", "topic cut short"])
def test_a_refused_start_changes_nothing(name: str, outcomes: dict[str, Any]) -> None:
    """It says why in its sentence, and the next right start finds rows, events and letters as they were."""
    said = outcomes[name]
    assert (said["faults"], said["refused"]) == ([], 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["topic expired behind a store"])
def test_a_store_older_than_the_topic_goes_on_from_the_table(name: str, outcomes: dict[str, Any]) -> None:
    """What followed the store's offset has expired, and is in the table: the next one is read, with letters whole."""
    said = outcomes[name]
    assert (said["faults"], said["crashes"]) == ([], 1)

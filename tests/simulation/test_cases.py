"""SIGKILL at every failpoint, and other fixed scenarios, on one market."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from k2.ops.failpoints import JOB_NAMES, Name

OTHER: Final = "corrections that a table lacks"
ROOT: Final = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the outcomes of the requested cases: all in one process, which imports once."""
    here = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    names = [item.callspec.params["name"] if hasattr(item, "callspec") else OTHER for item in here]
    command = [sys.executable, "-m", "tests.simulation.cases", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", JOB_NAMES)
def test_a_kill_at_a_failpoint_loses_and_doubles_nothing(name: Name, outcomes: dict[str, Any]) -> None:
    """The process is killed at that point, and the next one ends with each trade, dead letter and event once."""
    outcome = outcomes[name]
    assert outcome["violations"] == []
    assert outcome["crashes"] == 1, f"{name} was not hit: {outcome['lives']}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["committed, expired, and never reported", "compacted while a commit is staged"])
def test_changes_of_other_writers_are_kept(name: str, outcomes: dict[str, Any]) -> None:
    """A foreign append, a compaction, an expiry to one snapshot during a commit: no row is lost or doubled."""
    assert outcomes[name]["violations"] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "crashes"),
    [
        ("zombie that committed a part", 0),
        ("zombie whose events were rolled back", 1),
        ("zombie with pending corrections", 0),
    ],
)
def test_a_frozen_instance_is_fenced(name: str, crashes: int, outcomes: dict[str, Any]) -> None:
    """Resumed after another ran in its place, it stops with an error that says so, and has doubled nothing."""
    outcome = outcomes[name]
    assert (outcome["violations"], outcome["fenced"], outcome["crashes"]) == ([], 1, crashes)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["instance next to a frozen one", "store ahead of the table", "topic cut short"])
def test_a_rejected_start_changes_nothing(name: str, outcomes: dict[str, Any]) -> None:
    """The error says why, and the next valid start finds rows, events and dead letters unchanged."""
    outcome = outcomes[name]
    assert (outcome["violations"], outcome["refused"]) == ([], 1)


@pytest.mark.timeout(600)
def test_corrections_ahead_of_trades_that_were_put_back_are_kept(outcomes: dict[str, Any]) -> None:
    """A replay counts those that the table has already, and adds none of them again."""
    outcome = outcomes[OTHER]
    assert (outcome["violations"], outcome["crashes"]) == ([], 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["topic expired behind a store"])
def test_a_store_older_than_the_topic_resumes_from_the_table(name: str, outcomes: dict[str, Any]) -> None:
    """Messages after the store's offset have expired but are in the table: reading resumes, dead letters complete."""
    outcome = outcomes[name]
    assert (outcome["violations"], outcome["crashes"]) == ([], 1)

"""A cluster on three hosts whose network fails: nothing hangs for good, and nothing is lost or doubled."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from tests.brokers import kafka_libraries
from tests.flows.job import ROOT
from tests.maven import NotToBeHadError

SECONDS_MAX = 800
NAMESPACES = (["unshare", "--net", "--mount"], ["unshare", "--user", "--map-root-user", "--net", "--mount"])
"""Prefixes of a command that may make networks: for root, and for others."""
MAKE_NETWORK = "from tests.flows.hosts import make_network; make_network()"

pytestmark = pytest.mark.timeout(SECONDS_MAX + 60)


def _may_make_network(namespace: list[str]) -> bool:
    try:
        done = subprocess.run(
            [*namespace, sys.executable, "-c", MAKE_NETWORK], cwd=ROOT, capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def test_a_cluster_outlives_a_cut_cable(missing: Callable[[str], NoReturn]) -> None:
    """A host is cut off for longer than a stall may last: all processes end and start again by themselves."""
    try:
        kafka_libraries()
    except NotToBeHadError as error:
        missing(f"Java and Maven: real Kafka ({error})")
    namespace = next((one for one in NAMESPACES if _may_make_network(one)), None)
    if namespace is None:
        missing("root, or user namespaces that may make networks, and iproute2: hosts of their own")
    experiments = ["--orders", "201", "--cuts", "1:30", "--stall", "8"]
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.flows.hosts", *experiments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    formed, cut, rolled, replaced, end = map(json.loads, done.stdout.splitlines())
    assert formed["order"] == [2, 0, 1]
    assert cut["committed meanwhile"] <= cut["published in an epoch"]
    assert len(cut["unhealthy after seconds"]) == 3
    assert all(restarts >= 1 for restarts in cut["restarts"])
    assert (rolled["at once"], replaced["at once"]) == (False, True)
    assert end["lost or doubled"] == 0

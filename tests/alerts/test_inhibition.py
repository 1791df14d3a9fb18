"""Alertmanager with the example: consequences are silent while their cause fires."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from k2.ops.child_process import ChildProcess, free_port
from tests.alerts.files import ALERTMANAGER
from tests.http.conftest import Client

START_SECONDS_MAX = 30.0
SETTLE_SECONDS_MAX = 10.0


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]) -> Iterator[Client]:
    """Yield a client of an Alertmanager with the example, whose receivers are on loopback."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        missing("alertmanager of Prometheus")
    folder = tmp_path_factory.mktemp("alertmanager")
    config = re.sub(r"http://\w+\.example", f"http://127.0.0.1:{free_port()}", ALERTMANAGER.read_text(encoding="utf-8"))
    (folder / "alertmanager.yaml").write_text(config, encoding="utf-8")
    client = Client("127.0.0.1", free_port())
    options = {
        "config.file": folder / "alertmanager.yaml",
        "storage.path": folder / "storage",
        "web.listen-address": f"{client.host}:{client.port}",
        "cluster.listen-address": "",
    }
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    process = ChildProcess(command, folder / "alertmanager.log")
    process.start()
    try:
        assert process.wait_until(lambda: _is_ready(client), START_SECONDS_MAX), process.log_end()
        yield client
    finally:
        process.kill()


def _is_ready(client: Client) -> bool:
    try:
        return client.get("/-/ready").status == 200
    except OSError:
        return False


def _send(client: Client, *alerts: dict[str, str]) -> None:
    body = json.dumps([{"labels": labels, "annotations": {}} for labels in alerts])
    assert client.ask("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"}).status == 200


def _silent(client: Client, job: str) -> set[str]:
    """Return the alerts of a job that others silence."""
    labels = [one["labels"] for one in client.get("/api/v2/alerts").json if one["status"]["inhibitedBy"]]
    return {one["alertname"] for one in labels if one["job"] == job}


def _alert(name: str, job: str) -> dict[str, str]:
    return {"alertname": name, "job": job, "severity": "warning"}


@pytest.mark.parametrize(
    ("cause", "silenced"),
    [
        ("K2EpochStalled", {"K2CommitStale", "K2LagGrowing", "K2FreshnessBurnFast", "K2CheckpointStale"}),
        ("K2Fenced", {"K2RestartLoop"}),
        ("K2DeadLetterStorm", {"K2DeadLetterRatio"}),
    ],
)
def test_consequences_are_silent(alertmanager: Client, cause: str, silenced: set[str]) -> None:
    """Those of the same job are, and not the cause itself, an alert of another kind, or another job."""
    job, other = f"job-of-{cause}", f"not-of-{cause}"
    effects = [_alert(name, of) for name in silenced for of in (job, other)]
    _send(alertmanager, _alert(cause, job), _alert("K2LargeGap", job), *effects)
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while _silent(alertmanager, job) != silenced and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _silent(alertmanager, job) == silenced
    # Without the cause, K2CommitStale silences these two.
    assert _silent(alertmanager, other) <= {"K2LagGrowing", "K2FreshnessBurnFast"}

"""What the job and `k2 serve` really export."""

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from k2.ops.child_process import free_port
from tests.alerts.files import alerts, dashboard, recorded
from tests.alerts.promql import Exported, exported_by, labels_of, names_in
from tests.brokers import Broker
from tests.flows.feed import Feed, now_us
from tests.flows.job import Job
from tests.flows.market import publish
from tests.flows.rescale import running
from tests.http.conftest import serving

SCRAPE_SECONDS_MAX = 60.0
OF_SERVE = (
    "k2_verdict",
    "k2_verdict_reasons",
    "k2_unread_messages",
    "k2_gap_fillable_until_timestamp_seconds",
    "k2_queries_total",
)
"""Series of `k2 serve`."""


@pytest.fixture(scope="session")
def tool(missing: Callable[[str], NoReturn]) -> Callable[..., str]:
    """Return what runs `promtool` or `amtool`, and returns the output; the test fails if the tool does."""

    def run(name: str, *arguments: str | Path) -> str:
        if shutil.which(name) is None:
            missing(f"{name} of Prometheus")
        done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def exported(broker: Broker, tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]) -> Exported:
    """Return the series of a job with two feeds that has met a retry, a gap, a late trade, a conflict, a restart."""
    if not Path("/proc/self/stat").exists():
        missing("Linux: /proc, of which prometheus_client reads when a process started")
    topic, copy, port = broker.topic(), broker.topic(), free_port()
    variables = {
        "K2_FEEDS": f"{topic}=A,{copy}=B",
        "K2_RUN_TO_END": "false",
        "K2_METRICS_PORT": str(port),
        "K2_TEST_FAILPOINT": "file.create:1:OSError",
    }
    connected = broker.topic()
    topics = f"{topic},{copy},{connected}=dydx"
    job = Job(broker.bootstrap_servers, tmp_path_factory.mktemp("exported"), topics, variables)
    publish(broker.bootstrap_servers, connected, [(b"k", b'{"type":"connected","connection_id":"c","message_id":0}')])
    Feed(job, copy).send(50)
    feed = Feed(job, topic)
    feed.send(50)
    feed.number += 100
    feed.send(1)
    feed.send(1, timestamp=now_us() + 3_600_000_000)
    feed.send(1, price="not a price")
    feed.number = 60
    feed.send(1)
    feed.number = 20
    feed.send(2, price="2")
    with running([job]):
        job_scrape = _scrape_until_all(port)
        with serving(job.settings) as client:
            serve_scrape = client.get("/metrics").body.decode()
    return exported_by(job_scrape, serve_scrape)


@pytest.fixture(scope="session")
def known(exported: Exported) -> Exported:
    """Return the series that are exported, and those that the rules record from them."""
    known = dict(exported)
    for name, query in recorded().items():
        known[name] = dict.fromkeys(labels_of(query, known), frozenset())
    return known


def _scrape_until_all(port: int) -> str:
    """Return a scrape with all series that are used, or the last one before the time is over."""
    queries = [rule["expr"] for rule in alerts().values()] + [panel.query for panel in dashboard()]
    wanted = set().union(*map(names_in, [*recorded().values(), *queries])) - {*recorded(), *OF_SERVE}
    deadline, scrape = time.monotonic() + SCRAPE_SECONDS_MAX, ""
    while not wanted <= {*exported_by(scrape)} and time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                scrape = answer.read().decode()
        except OSError:
            continue  # the job has not begun to serve
    return scrape

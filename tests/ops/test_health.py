"""Health over HTTP: whether the job makes progress."""

import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from k2.model.errors import SettingsError
from k2.ops.health import Health, serve_health


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _get(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_health_follows_the_slowest_partition() -> None:
    """One partition without a closed epoch makes the job unhealthy; a partition read to its end does not count."""
    clock = _Clock()
    health = Health(clock)
    port = serve_health(health, 60, "127.0.0.1", 0)
    assert (_get(port, "/healthz"), _get(port, "/readyz")) == (200, 503)
    health.opened("t:0")
    health.opened("t:1")
    clock.now += 61
    health.epoch_closed("t:0")
    assert (_get(port, "/healthz"), _get(port, "/readyz")) == (503, 503)
    health.epoch_closed("t:1")
    assert (_get(port, "/healthz"), _get(port, "/readyz")) == (200, 200)
    clock.now += 61
    health.finished("t:0")
    health.finished("t:1")
    assert _get(port, "/healthz") == 200
    assert _get(port, "/nothing") == 404


def test_an_idle_hour_is_healthy() -> None:
    """Epochs close without messages: each is in time, and the first that is not is seen within a second."""
    clock = _Clock()
    health = Health(clock)
    health.opened("t:0")
    for _ in range(360):
        for _ in range(10):
            clock.now += 1
            assert health.stalled_seconds() <= 10
        health.epoch_closed("t:0")
    assert health.is_ready
    clock.now += 60
    assert health.stalled_seconds() == 60
    clock.now += 1
    assert health.stalled_seconds() > 60


def test_it_is_ready_after_the_first_epoch() -> None:
    """Each partition has closed one, and each writer has committed it or had nothing to commit."""
    health = Health()
    health.writer_opened("0")
    health.opened("t:0")
    assert not health.is_ready
    health.epoch_closed("t:0")
    assert not health.is_ready
    health.writer_committed("0")
    assert health.is_ready


def test_a_process_without_its_peers_is_not_healthy() -> None:
    """Peers awaited for longer than an epoch may take count as gone; a process with peers and no input is healthy."""
    clock = _Clock()
    health = Health(clock)
    port = serve_health(health, 60, "127.0.0.1", 0)
    clock.now += 61
    assert (_get(port, "/healthz"), _get(port, "/readyz")) == (503, 503)
    health.joined()
    assert (_get(port, "/healthz"), _get(port, "/readyz")) == (200, 503)


def test_metrics_are_served() -> None:
    """The response contains the declared names."""
    port = serve_health(Health(), 60, "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "k2_messages_received_total" in text
    assert "k2_last_commit_timestamp_seconds" in text


def test_a_taken_port_is_named() -> None:
    """A port in use is a wrong setting, reported in one sentence."""
    port = serve_health(Health(), 60, "127.0.0.1", 0)
    with pytest.raises(SettingsError, match=f"K2_METRICS_PORT={port}: cannot listen") as caught:
        serve_health(Health(), 60, "127.0.0.1", port)
    assert caught.value.exit_code == 2


def test_the_stall_is_a_metric() -> None:
    """A scrape reads the time that `/healthz` compares, and its limit, also while nothing moves."""
    clock = _Clock()
    health = Health(clock)
    port = serve_health(health, 60, "127.0.0.1", 0)
    health.opened("t:0")
    clock.now += 61
    samples = _samples(port)
    assert (samples["k2_stalled_seconds"], samples["k2_stall_seconds_max"]) == (61, 60)
    health.epoch_closed("t:0")
    assert _samples(port)["k2_stalled_seconds"] == 0


def _samples(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {sample.name: sample.value for family in families for sample in family.samples}

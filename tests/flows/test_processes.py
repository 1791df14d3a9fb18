"""Processes of a cluster that freeze, wait for one another, or are signalled to end."""

import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from k2.iceberg.table_progress import read_progress
from k2.ops.child_process import free_port
from tests.brokers import Broker
from tests.flows.job import Job, wait_until
from tests.flows.market import assert_same, market, publish
from tests.flows.rescale import running

WAIT_SECONDS_MAX = 60


def _health(port: int) -> int:
    """Return the status of `/healthz`; 0 if nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _metrics(port: int) -> dict[str, float]:
    """Return the samples of `/metrics` by name; of a series with labels, the last one."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def _with_port(job: Job) -> tuple[Job, int]:
    """Return the job with a port for its health and metrics, and the port."""
    port = free_port()
    return replace(job, environment={**job.environment, "K2_METRICS_PORT": str(port)}), port


def test_a_frozen_peer_is_reported_and_waited_for(broker: Broker, tmp_path: Path) -> None:
    """If one of two processes is stopped, the other's health is 503 and nothing is committed; later both recover."""
    topic = broker.topic(partitions=4)
    messages = market(symbols=20, rounds=60)
    part = len(messages) // 3
    environment = {"K2_RUN_TO_END": "false", "K2_STALL_SECONDS_MAX": "3"}
    job = Job(broker.bootstrap_servers, tmp_path / "job", topic, environment)
    jobs, ports = zip(*(_with_port(job) for _ in range(2)), strict=True)
    publish(broker.bootstrap_servers, topic, messages[:part])
    with running(jobs) as (watched, frozen):
        wait_until(lambda: job.committed() == part, "the first third is not committed")
        assert [_health(port) for port in ports] == [200, 200]
        frozen.send_signal(signal.SIGSTOP)
        publish(broker.bootstrap_servers, topic, messages[part : 2 * part])
        wait_until(lambda: _health(ports[0]) == 503, "the frozen peer is not seen")
        metrics = _metrics(ports[0])
        assert metrics["k2_stalled_seconds"] > metrics["k2_stall_seconds_max"] == 3
        assert metrics["k2_processes"] == 2
        committed = read_progress(job.settings)
        publish(broker.bootstrap_servers, topic, messages[2 * part :])
        stored = sum(committed.counts(where).stored for where in committed.partitions())
        assert (stored, read_progress(job.settings)) == (job.table().num_rows, committed)
        frozen.send_signal(signal.SIGCONT)
        wait_until(lambda: job.committed() == len(messages), "it does not go on")
        wait_until(lambda: [_health(port) for port in ports] == [200, 200], "it does not get well")
        assert watched.poll() is None
    quiet = replace(job, folder=tmp_path / "quiet", environment={})
    quiet.run()
    assert_same(job, quiet)


def test_a_process_that_waits_for_its_peers_can_be_ended(broker: Broker, tmp_path: Path) -> None:
    """SIGINT and SIGTERM end it at once, and before that its health reports the wait."""
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic(), {"K2_STALL_SECONDS_MAX": "1"})
    jobs, ports = zip(*(_with_port(job) for _ in range(2)), strict=True)
    with running(jobs, absent=1) as processes:
        wait_until(lambda: [_health(port) for port in ports] == [503, 503], "they seem to be well")
        for process, number in zip(processes, (signal.SIGINT, signal.SIGTERM), strict=True):
            process.send_signal(number)
            said, _ = process.communicate(timeout=10)
            assert process.returncode == 128 + number, said
            assert f'"signal": "{number.name}"' in said
            assert "Traceback" not in said


def test_an_interrupt_during_imports_prints_no_traceback(
    broker: Broker, tmp_path: Path, missing: Callable[[str], None]
) -> None:
    """Ctrl-C in the first seconds ends it without output."""
    if not Path("/proc/self/status").exists():
        missing("Linux: /proc")
    process = Job(broker.bootstrap_servers, tmp_path, "trades").start(recovery=False)
    try:
        # Python has its own handler for SIGINT, so the handler of SIGTERM shows that ours are set.
        wait_until(lambda: _catches(process.pid, signal.SIGTERM), "it does not begin")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, said) == (128 + signal.SIGINT, "")


def _catches(process: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    (caught,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)

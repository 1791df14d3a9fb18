"""Processes of a cluster that freeze, wait for one another, or are signalled to end."""

import signal
import time
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

LATE_SECONDS_MAX = 10


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
    """If one of three processes is stopped, the health of the others is 503 in time, and nothing is committed.

    Their metrics answer meanwhile, and later all recover.
    """
    topic = broker.topic(partitions=4)
    messages = market(symbols=20, rounds=60)
    part = len(messages) // 3
    environment = {"K2_RUN_TO_END": "false", "K2_STALL_SECONDS_MAX": "3"}
    job = Job(broker.bootstrap_servers, tmp_path / "job", topic, environment)
    jobs, ports = zip(*(_with_port(job) for _ in range(3)), strict=True)
    publish(broker.bootstrap_servers, topic, messages[:part])
    with running(jobs) as (watched, frozen, other):
        wait_until(lambda: job.committed() == part, "the first third is not committed")
        assert [_health(port) for port in ports] == [200] * 3
        frozen.send_signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        publish(broker.bootstrap_servers, topic, messages[part : 2 * part])
        wait_until(lambda: [_health(ports[0]), _health(ports[2])] == [503, 503], "the frozen peer is not seen")
        # The limit, an epoch, and what the machine may be late.
        assert time.monotonic() - frozen_at < 3 + 1 + LATE_SECONDS_MAX
        assert _health(ports[1]) == 0
        for port in (ports[0], ports[2]):
            metrics = _metrics(port)
            assert metrics["k2_stalled_seconds"] > metrics["k2_stall_seconds_max"] == 3
            assert metrics["k2_processes"] == 3
        committed = read_progress(job.settings)
        publish(broker.bootstrap_servers, topic, messages[2 * part :])
        stored = sum(committed.counts(where).stored for where in committed.partitions())
        assert (stored, read_progress(job.settings)) == (job.table().num_rows, committed)
        frozen.send_signal(signal.SIGCONT)
        wait_until(lambda: job.committed() == len(messages), "it does not go on")
        wait_until(lambda: [_health(port) for port in ports] == [200] * 3, "it does not get well")
        assert [one.poll() for one in (watched, frozen, other)] == [None] * 3
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

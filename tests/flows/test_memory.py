"""The memory of the job does not depend on the number of messages."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.mixture import Mixture, topic_of
from tests.brokers import Broker
from tests.flows.job import Job, wait_until

MESSAGES = 800_000
EARLY_MESSAGES = MESSAGES // 4
GROWTH_MAX = 1.25
"""A poll that is not freed takes 8 MB, and the peak is of 400 MB."""
SECONDS_MAX = 500.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_quarters_of_the_messages_need_no_more_memory_than_the_first(
    broker: Broker, tmp_path: Path, missing: Callable[[str], NoReturn]
) -> None:
    """The peak of one run over a topic with malformed messages, after a quarter of it and at its end."""
    if not Path("/proc/self/status").exists():
        missing("Linux: /proc")
    topic = topic_of(broker, Mixture(MESSAGES), 4)
    # More dead letters than a feed has otherwise stop the job.
    job = Job(broker.bootstrap_servers, tmp_path, topic, {"K2_DLQ_RATIO_MAX": "0"}, tmp_path / "job.log")
    process = job.start()
    peaks: dict[int, int] = {}

    def is_at_the_end() -> bool:
        received = _received(job)
        peaks[received] = _peak_bytes(process) or peaks[received]
        return process.poll() is not None or received == MESSAGES

    try:
        wait_until(is_at_the_end, "the job does not reach the end", SECONDS_MAX)
    finally:
        process.kill()
        process.communicate()
    assert max(peaks) == MESSAGES, Path(tmp_path, "job.log").read_text(encoding="utf-8")
    early = min(received for received in peaks if received >= EARLY_MESSAGES)
    assert early < MESSAGES, "all messages were in one commit"
    assert peaks[MESSAGES] < GROWTH_MAX * peaks[early], peaks


def _received(job: Job) -> int:
    """Return how many messages the job has committed, by its log."""
    assert job.log is not None
    lines = job.log.read_text(encoding="utf-8").splitlines()
    # The last line may not be written yet.
    events = [json.loads(line) for line in lines if line.startswith('{"writer"') and line.endswith("}")]
    return sum(event["received"] for event in events)


def _peak_bytes(process: "subprocess.Popen[str]") -> int:
    """Return the most memory that a process has had; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    except ProcessLookupError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)

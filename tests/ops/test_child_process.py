"""Child processes are recorded and stopped, whatever interrupts their start."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from demo.broker import EmbeddedBroker
from k2.ops import child_process as child
from k2.ops.child_process import ChildProcess

SLEEP = ("sleep", "600")


def _interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise Ctrl-C after the fork and before the caller has the process id."""
    start = subprocess.Popen

    def started(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        process: subprocess.Popen[bytes] = start(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(child.subprocess, "Popen", started)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupted_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the start is raised at its end, when the process is recorded; the former handlers are restored."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    _interrupted(monkeypatch)
    one = ChildProcess(SLEEP, tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        one.start()
    pid = one.pid
    assert pid is not None
    one.stop()
    assert not _is_running(pid)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_an_interrupted_broker_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before the broker answers stops it, although no `with` block was entered yet."""
    _interrupted(monkeypatch)
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        broker.__enter__()
    assert broker._child is not None
    assert broker.pid is None


def test_another_thread_can_start_a_process(tmp_path: Path) -> None:
    """Python handles signals only in the main thread; in other threads nothing is deferred and nothing fails."""
    one = ChildProcess(SLEEP, tmp_path / "log")

    def start_and_stop() -> None:
        one.start()
        pids.append(one.pid)
        one.stop()

    pids: list[int | None] = []
    thread = threading.Thread(target=start_and_stop)
    thread.start()
    thread.join()
    assert pids != [None]
    assert one.pid is None

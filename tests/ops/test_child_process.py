"""A process of our own making is known, and ended, whatever comes while it is started."""

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
    """Let Ctrl-C come when a process was forked, and nobody has been told its number."""
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
    """Ctrl-C within the start is raised at its end, when the process is known; the handlers are the former ones."""
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
    """Ctrl-C before the broker answers: no block was entered that could stop it, and yet it is gone."""
    _interrupted(monkeypatch)
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        broker.__enter__()
    assert broker._child is not None
    assert broker.pid is None


def test_another_thread_starts_a_process_as_well(tmp_path: Path) -> None:
    """Python handles signals in the main thread alone; elsewhere nothing is held back, and nothing fails."""
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

"""How the job's process ends: with an error in one sentence, or by a signal."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import structlog

from k2.model.errors import FencedError, K2Error, PeerLostError, UnreachableError
from k2.ops.error_boundary import find_k2_error, reports_errors
from k2.ops.signals import is_job

ROOT = Path(__file__).resolve().parents[2]
DISK_FULL = (
    "(src/run.rs:292:17) panicked at src/recovery.rs:626:22:\ncalled `Result::unwrap()` on an `Err` value: "
    'SqliteFailure(Error { code: DiskFull, extended_code: 13 }, Some("database or disk is full"))'
)


def _wrapped(error: Exception) -> Exception:
    wrapping = RuntimeError("error calling `snapshot`")
    wrapping.__cause__ = error
    return wrapping


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (FencedError("another instance"), FencedError, "another instance"),
        (_wrapped(_wrapped(FencedError("another instance"))), FencedError, "another instance"),
        (RuntimeError(DISK_FULL), UnreachableError, "recovery store cannot be written: database or disk is full"),
        (RuntimeError("Send thread panic: Any { .. }"), PeerLostError, "another process of the cluster has ended"),
    ],
)
def test_an_error_is_found_in_what_bytewax_raises(raised: BaseException, kind: type[K2Error], words: str) -> None:
    """As raised, wrapped, or as a panic of Bytewax's own."""
    found = find_k2_error(raised)
    assert type(found) is kind
    assert words in str(found)


def test_other_errors_are_unchanged() -> None:
    """A bug ends the process with its traceback."""
    assert find_k2_error(_wrapped(KeyError("a"))) is None


def test_errors_that_bytewax_swallows_are_logged() -> None:
    """A `K2Error` is logged as its sentence, another with its traceback; the end of input is not an error."""

    @reports_errors
    def call(error: Exception) -> None:
        raise error

    assert not is_job()
    for error in (FencedError("another instance"), KeyError("a"), StopIteration()):
        with structlog.testing.capture_logs() as logs, pytest.raises(type(error)):
            call(error)
        said = [(entry["event"], entry.get("error"), entry.get("exc_info")) for entry in logs]
        assert said == {
            FencedError: [("ended", "another instance", None)],
            KeyError: [("failed", None, True)],
            StopIteration: [],
        }.get(type(error))


DEAF = (
    "import ctypes\n"
    "from k2.ops.signals import exit_on_signals\n"
    "exit_on_signals(lambda number: print(number.name, flush=True))\n"
    "print('ready', flush=True)\n"
    # glibc resumes waiting after a handler has run.
    "lock = ctypes.create_string_buffer(64)\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.pthread_mutex_lock(lock)\n"
    "libc.pthread_mutex_lock(lock)\n"
)
"""A process whose main thread waits in C code, as Bytewax does for peers."""

BUSY_BEFORE_EXEC = (
    "import os, sys, time\n"
    "from k2.ops.signals import exit_on_signals_until\n"
    "stop = exit_on_signals_until()\n"
    # No other thread runs Python code from here on, unless this one waits.
    "sys.setswitchinterval(3600)\n"
    "os.write(1, b'ready\\n')\n"
    "end = time.monotonic() + 0.3\n"
    "while time.monotonic() < end: pass\n"
    "stop()\n"
    "program = 'import k2.ops.signals as s, time; s.exit_on_signals(); time.sleep(30)'\n"
    "os.execv(sys.executable, [sys.executable, '-c', program])\n"
)
"""A process that replaces its program before the thread that takes signals comes to react to one."""

NAMESPACES = (["unshare", "--pid", "--fork"], ["unshare", "--user", "--map-root-user", "--pid", "--fork"])
"""Prefixes that make a command process 1 of a namespace: for root, and for others."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_with_a_blocked_main_thread(number: signal.Signals) -> None:
    """It ends at once, and the exit code identifies the signal."""
    assert _ended_by(number, []) == (128 + number, f"{number.name}\n")


def test_a_signal_ends_process_1_of_a_container(missing: Callable[[str], NoReturn]) -> None:
    """The kernel does not deliver to it any signal without a handler."""
    namespace = next((one for one in NAMESPACES if _works(one)), None)
    if namespace is None:
        missing("root, or user namespaces: a process 1 of its own")
    assert _ended_by(signal.SIGTERM, namespace) == (128 + signal.SIGTERM, "SIGTERM\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_exec_ends_the_process(number: signal.Signals) -> None:
    """Taken by the first program or left pending for the second, it is never lost."""
    assert _ended_by(number, [], BUSY_BEFORE_EXEC) == (128 + number, "")


def _works(namespace: list[str]) -> bool:
    try:
        return subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _ended_by(number: signal.Signals, prefix: list[str], program: str = DEAF) -> tuple[int, str]:
    command = [*prefix, sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        os.kill(int(children.read_text(encoding="ascii")) if prefix else process.pid, number)
        said, _ = process.communicate(timeout=30)
    return process.returncode, said

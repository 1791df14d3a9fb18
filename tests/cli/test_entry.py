"""The `k2` process: silent on Ctrl-C at every moment, and one sentence if its streams fail."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k2.cli import __main__ as entry

ROOT = Path(__file__).parents[2]

INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
COMMAND = """
import ctypes, os, signal, sys, time
from k2.cli import main as k2
from k2.cli.console import Command
from k2.cli.__main__ import main

def command() -> None:
    {body}

k2.K2.table = {{"command": Command("__main__", "command", "")}}
sys.argv = ["k2", "command"]
main()
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_ctrl_c_while_modules_are_imported_is_quiet() -> None:
    """Before a command runs the process ends at once with 130, and no import can mistake the signal for an error."""
    done = run(
        "import builtins, os, signal\n"
        "from k2.cli.__main__ import main\n"
        "slow = builtins.__import__\n"
        "def imported(name, *rest):\n"
        f"    name == 'k2.cli.main' and {INTERRUPT}\n"
        "    return slow(name, *rest)\n"
        "builtins.__import__ = imported\n"
        "main()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "body",
    [
        INTERRUPT,
        f"try: {INTERRUPT}\n    except KeyboardInterrupt: raise ValueError('taken for an error')",
        f"try: {INTERRUPT}\n    except KeyboardInterrupt: raise OSError(28, 'taken for a full disk')",
        f"try: {INTERRUPT}\n    except BaseException:\n        try: {INTERRUPT}\n        finally: print('not reached')",
    ],
    ids=["at once", "as an error", "as an error of the system", "twice"],
)
def test_ctrl_c_while_a_command_runs_is_quiet(body: str) -> None:
    """It unwinds with `KeyboardInterrupt`, whatever a library makes of it; the second Ctrl-C ends it at once."""
    done = run(COMMAND.format(body=body))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_in_a_destructor_is_not_lost() -> None:
    """Python ignores what a destructor raises; the command is interrupted after it, and cleans up."""
    body = (
        f"destructor = type('Slow', (), {{'__del__': lambda _: {INTERRUPT}}})\n"
        "    try:\n"
        "        destructor()\n"
        "        time.sleep(20)\n"
        "        print('not reached')\n"
        "    finally: print('cleaned up', flush=True)"
    )
    done = run(COMMAND.format(body=body))
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "")


def test_ctrl_c_within_exec_is_quiet(tmp_path: Path) -> None:
    """Python run with `-m` remembers that, and would end itself with the signal."""
    (tmp_path / "interrupted.py").write_text(COMMAND.format(body=f"exec({INTERRUPT!r})"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(("seconds", "times"), [(0.5, 1), (60, 2)])
def test_ctrl_c_ends_a_call_that_does_not_return(seconds: float, times: int) -> None:
    """A library that waits outside Python blocks the user only for a while, or until the second Ctrl-C."""
    # glibc goes on waiting for a mutex after a handler has run.
    wait = "ctypes.CDLL(None).pthread_mutex_lock(lock)"
    body = f"lock = ctypes.create_string_buffer(64); {wait}; print('waits', flush=True); {wait}"
    code = COMMAND.format(body=body)
    code = f"import k2.cli.interrupt\nk2.cli.interrupt.UNRESPONSIVE_SECONDS_MAX = {seconds}\n{code}"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        for _ in range(times):
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_an_ignored_signal_stays_ignored() -> None:
    """As the shell requires for background jobs."""
    code = COMMAND.replace("sys.argv =", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nsys.argv =")
    done = run(code.format(body=f"{INTERRUPT}; print('went on')"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_a_full_disk_is_one_sentence(arguments: list[str]) -> None:
    """Exit code 1, and no further output when the process cleans up."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "k2.cli", *arguments]
        buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
        done = subprocess.run(
            command, cwd=ROOT, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "k2: the result cannot be written: No space left on device\n"


def test_a_closed_pipe_is_not_an_error() -> None:
    """As in `k2 … | head -1`: nothing is reported."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "k2.cli", "--help"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_closed_streams_are_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the caller closed a stream, output to it is discarded."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    entry._prepare_streams()
    streams = [sys.stdin, sys.stdout, sys.stderr]
    assert all(stream is not None for stream in streams)
    assert sys.stderr.write("nowhere") == 7
    for stream in streams:
        stream.close()


def test_a_character_that_the_terminal_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result in another alphabet, or a file name that is not text, does not fail."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    entry._prepare_streams()
    sys.stdout.write("é\udcff\n")
    sys.stdout.flush()
    assert raw.getvalue() == b"\\xe9\\udcff\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (IsADirectoryError(21, "Is a directory", "letters"), "letters: Is a directory"),
        (OSError(28, "No space left on device"), "the result cannot be written: No space left on device"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (OSError("reported in words"), None),
        (ValueError("a bug"), None),
    ],
)
def test_an_os_error_is_one_sentence(error: Exception, sentence: str | None) -> None:
    """Any other exception is a bug, and shows its traceback."""
    assert entry._system_error_message(error) == sentence

"""The supervisor restarts what a restart can mend, ends with its child on a signal, and never leaves it behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from k2.model.errors import FencedError, K2Error, SettingsError, UnreachableError
from k2.ops.child_process import free_port
from k2.ops.supervision import (
    VARIABLE,
    Ending,
    Report,
    Supervision,
    find_supervision,
    parse_report,
    report_command,
    report_ending,
)
from k2.ops.supervisor import Ended

ROOT = Path(__file__).parents[2]
SUPERVISOR = """
import sys
from k2.ops import supervisor
from k2.ops.logs import set_up_logs
from k2.ops.restart_budget import RestartBudget
from k2.ops.retry import RetryPolicy
set_up_logs()
supervisor.RESTART = RetryPolicy(9, 0.01, 0.01)
sys.exit(supervisor.Supervisor(sys.argv[2:], RestartBudget(int(sys.argv[1]), 60)).run())
"""
CHILD = """
import os, sys, signal, time
from pathlib import Path
from k2.model.errors import *
from k2.ops.supervision import find_supervision, report_ending
folder = Path(sys.argv[1])
count = len(list(folder.iterdir()))
(folder / f"{count}").write_text(f"{os.getpid()} {find_supervision().restarts}")
def end(error):
    report_ending(error)
    sys.exit(error.exit_code)
"""
"""Notes each start in a folder; what the child does then follows."""


@contextmanager
def supervised(
    folder: Path, child: str, restarts_max: int = 3, prefix: tuple[str, ...] = (), waits: str = "0.01, 0.01"
) -> Iterator["subprocess.Popen[str]"]:
    """Run a supervisor whose child notes its starts in `folder`."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [
            *prefix,
            sys.executable,
            "-c",
            SUPERVISOR.replace("0.01, 0.01", waits),
            str(restarts_max),
            sys.executable,
            "-c",
            CHILD + child,
            str(folder),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _run(folder: Path, child: str, restarts_max: int = 3) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Return the exit code, the log lines, and the numbers of restarts that the children were given."""
    with supervised(folder, child, restarts_max) as process:
        _, said = process.communicate(timeout=60)
    starts = [path.read_text().split()[1] for path in sorted(folder.iterdir(), key=lambda path: int(path.name))]
    return process.returncode, [json.loads(line) for line in said.splitlines()], starts


def _wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, "it does not get there"
        time.sleep(0.02)


def _pid(folder: Path, start: int = 0) -> int:
    """Return the process id that a start has noted, once it has."""
    path = folder / str(start)
    _wait(lambda: path.exists() and " " in path.read_text())
    return int(path.read_text().split()[0])


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_failures_are_restarted_until_one_run_succeeds(tmp_path: Path) -> None:
    """A crash, an error and a kill are a log line each, with the reason, the wait and the restarts left; then 0."""
    child = """
if count == 0: os._exit(7)
if count == 1: end(UnreachableError("no broker answers"))
if count == 2: os.kill(os.getpid(), signal.SIGKILL)
"""
    code, logs, starts = _run(tmp_path / "starts", child)
    assert (code, starts) == (0, ["0", "1", "2", "3"])
    assert [(line["event"], line["ended"], line["restarts_left"]) for line in logs] == [
        ("restarting", "exit code 7", 2),
        ("restarting", "no broker answers", 2),
        ("restarting", "killed by SIGKILL", 1),
    ]
    assert all(0 < line["wait_seconds"] <= 0.01 for line in logs)


def test_a_spent_budget_ends_with_the_childs_exit_code(tmp_path: Path) -> None:
    """Two restarts, and then one line says that the budget is spent."""
    code, logs, starts = _run(tmp_path / "starts", 'end(K2Error("it fails"))', restarts_max=2)
    assert (code, starts) == (1, ["0", "1", "2"])
    assert [line["event"] for line in logs] == ["restarting", "restarting", "not_restarted"]
    assert logs[-1]["why"] == "the budget of restarts is spent"


def test_an_outage_costs_nothing_of_the_budget(tmp_path: Path) -> None:
    """A broker or catalog that does not answer is waited for, however often the job is started until it does."""
    child = 'if count < 12: end(UnreachableError("no broker answers"))'
    code, logs, starts = _run(tmp_path / "starts", child, restarts_max=1)
    assert (code, len(starts)) == (0, 13)
    assert [(line["event"], line["restarts_left"]) for line in logs] == [("restarting", 1)] * 12


def test_probes_are_answered_while_the_job_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive, so that nothing kills the supervisor; not ready, and without metrics. The job finds its port free."""
    port, folder = free_port(), tmp_path / "starts"
    monkeypatch.setenv("K2_METRICS_PORT", str(port))
    child = f"""
import socket
from k2.ops.supervision import report_command
if count == 0: end(UnreachableError("no broker answers"))
time.sleep(1.5)
report_command([sys.executable])
time.sleep(0.5)
server = socket.create_server(("127.0.0.1", {port}))
(folder / "listening").touch()
time.sleep(600)
"""
    with supervised(folder, child, waits="1.5, 1.5"):
        _wait(lambda: _probe(port, "/healthz")[0] == 200)
        ended = {"job": "down, to be started again", "ended": "no broker answers"}
        assert _probe(port, "/healthz") == (200, {"status": "OK", **ended})
        assert _probe(port, "/readyz") == (503, {"status": "Service Unavailable", **ended})
        assert _probe(port, "/metrics")[0] == 404
        _wait(lambda: _pid(folder, 1) > 0)
        _wait(lambda: _probe(port, "/healthz")[0] == 200)
        _wait((folder / "listening").exists)


def _probe(port: int, path: str) -> tuple[int, Any]:
    """Return the status and the document of a response; 0 if nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


@pytest.mark.parametrize(
    ("child", "code", "ended"),
    [
        ("", 0, None),
        ("sys.exit(2)", 2, "exit code 2"),
        ('end(SettingsError("K2_TOPIC is not a setting"))', 2, "K2_TOPIC is not a setting"),
        ('end(FencedError("another instance writes"))', 1, "another instance writes"),
    ],
)
def test_what_a_restart_cannot_mend_is_not_restarted(tmp_path: Path, child: str, code: int, ended: str | None) -> None:
    """Success, wrong settings and a second instance: the exit code is passed on after the first run."""
    found, logs, starts = _run(tmp_path / "starts", child)
    assert (found, starts) == (code, ["0"])
    assert [(line["event"], line["ended"]) for line in logs] == ([("not_restarted", ended)] if ended else [])


def test_what_the_child_became_is_started_again(tmp_path: Path) -> None:
    """Checks that have passed are not made again."""
    child = """
from k2.ops.supervision import report_command
report_command([sys.executable, "-c", f"open({str(folder / '1')!r}, 'w').write('- became')"])
sys.exit(1)
"""
    code, logs, starts = _run(tmp_path / "starts", child)
    assert (code, starts, len(logs)) == (0, ["0", "became"], 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "child", ["time.sleep(600)", "signal.pthread_sigmask(signal.SIG_BLOCK, {15})\nos.kill(os.getpid(), 19)"]
)
def test_a_signal_ends_child_and_supervisor(tmp_path: Path, number: signal.Signals, child: str) -> None:
    """Within two seconds, also if the child is frozen and deaf; nothing is restarted."""
    folder = tmp_path / "starts"
    with supervised(folder, child) as process:
        pid = _pid(folder)
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (128 + number, "")
    assert not _is_running(pid)
    assert len(list(folder.iterdir())) == 1


def test_a_signal_during_the_wait_ends_it(tmp_path: Path) -> None:
    """No child runs then, and none is started."""
    folder = tmp_path / "starts"
    waiting = SUPERVISOR.replace("0.01, 0.01", "600, 600")
    folder.mkdir()
    command = [sys.executable, "-c", waiting, "3", sys.executable, "-c", CHILD + "sys.exit(1)", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "restarting" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    assert len(list(folder.iterdir())) == 1


def test_the_child_dies_with_a_killed_supervisor(tmp_path: Path, missing: Callable[[str], None]) -> None:
    """SIGKILL leaves no job that nobody restarts."""
    if sys.platform != "linux":
        missing("Linux: PR_SET_PDEATHSIG")
    folder = tmp_path / "starts"
    with supervised(folder, "time.sleep(600)") as process:
        pid = _pid(folder)
        process.kill()
        process.wait(10)
        _wait(lambda: not _is_running(pid) or _is_zombie(pid))


def test_process_1_reaps_orphans(tmp_path: Path, missing: Callable[[str], None]) -> None:
    """Children of a killed child are given to process 1: they do not stay behind as zombies."""
    namespace = next((one for one in NAMESPACES if _works(one)), None)
    if namespace is None:
        missing("root, or user namespaces: a process 1 of its own")
        return
    folder = tmp_path / "starts"
    child = """
import subprocess
if count == 0:
    subprocess.Popen(["sleep", "0.3"])
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1)
found = subprocess.run(["ps", "-o", "stat=", "--ppid", "1"], capture_output=True, text=True).stdout.split()
(folder / "zombies").write_text(" ".join(state for state in found if state.startswith("Z")))
"""
    with supervised(folder, child, prefix=namespace) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (folder / "zombies").read_text() == ""


NAMESPACES = (
    ("unshare", "--pid", "--fork", "--mount-proc"),
    ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"),
)
"""Prefixes that make a command process 1 of a namespace: for root, and for others."""


def _works(namespace: tuple[str, ...]) -> bool:
    try:
        return subprocess.run([*namespace, "ps"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_an_ending_is_the_first_that_was_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads may fail at once; a long sentence is cut, so that the pipe takes it without a reader."""
    read_fd, write_fd = os.pipe()
    for name, value in Supervision(os.getppid(), write_fd, 4).environment.items():
        monkeypatch.setenv(name, value)
    found = find_supervision()
    assert found is not None
    assert found.restarts == 4
    report_command(["k2", "run"])
    for error in (FencedError("é" * 10_000), UnreachableError("later")):
        report_ending(error)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        assert parse_report(pipe.read()) == Report(("k2", "run"), Ending("é" * 500, is_final=True))


@pytest.mark.parametrize("text", ["", "1 2", "1 2 x", "{other} 2 0"])
def test_a_process_without_supervisor_reports_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Also with a variable of a supervisor that is not its parent: the descriptor would be another file."""
    monkeypatch.setenv(VARIABLE, text.format(other=os.getpid()))
    assert find_supervision() is None
    report_ending(FencedError("nobody reads this"))


def test_nothing_is_parsed_from_a_crash() -> None:
    """Neither an empty pipe nor half a line is an ending."""
    assert parse_report(b"") == parse_report(b'{"error": "ha') == Report()


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b"\xff\xfe",
        b"[" * 100_000,
        b"3",
        b'["error", "command"]',
        b'{"error": "no verdict"}',
        b'{"error": 3, "is_final": true}',
        b'{"error": "more", "is_final": true, "other": 1}',
        b'{"command": "k2 run"}',
        b'{"command": []}',
        b'{"command": ["k2", 3]}',
    ],
)
def test_a_mangled_line_is_ignored(line: bytes) -> None:
    """Whatever else writes to the pipe must not end the supervisor; the lines around it are read."""
    rest = [b'{"command": ["k2", "run"]}', b'{"error": "fenced", "is_final": true}']
    assert parse_report(b"\n".join([rest[0], line, rest[1], b""])) == Report(
        ("k2", "run"), Ending("fenced", is_final=True)
    )
    assert parse_report(line + b"\n") == Report()


@pytest.mark.parametrize(
    ("ended", "is_final", "exit_code"),
    [
        (Ended(0), True, 0),
        (Ended(SettingsError.exit_code), True, 2),
        (Ended(K2Error.exit_code), False, 1),
        (Ended(K2Error.exit_code, Ending("fenced", is_final=True)), True, 1),
        (Ended(UnreachableError.exit_code, Ending("no broker", is_final=False)), False, 3),
        (Ended(-signal.SIGKILL), False, 137),
    ],
)
def test_endings_that_need_no_restart(ended: Ended, is_final: bool, exit_code: int) -> None:  # noqa: FBT001  a case
    """Exit code 0, wrong settings, and what was reported as final; the code of a shell for a signal."""
    assert (ended.is_final, ended.exit_code) == (is_final, exit_code)

"""Failpoints: a closed list, each in the code once, free when unarmed, and able to end a real process."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2.model.errors import SettingsError
from k2.ops import failpoints
from k2.ops.failpoints import NAMES, VARIABLE, arm, armed_by, failpoint

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("flows", "k2", "operators")


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm(None)


def test_each_name_occurs_in_the_code_once() -> None:
    """No listed failpoint is missing from the code, and none is used in two places."""
    texts = (path.read_text(encoding="utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    found = Counter(name for text in texts for name in re.findall(r'failpoint\("([a-z_.]+)"\)', text))
    assert found == Counter(NAMES)


def test_nothing_is_armed_by_default() -> None:
    """A run without the variable passes every failpoint."""
    assert armed_by({}) is armed_by({VARIABLE: ""}) is failpoints._action is None
    for name in NAMES:
        failpoint(name)


def test_an_action_sees_every_passing() -> None:
    """The armed action is called with the failpoint's name and may raise."""
    seen: list[str] = []
    arm(seen.append)
    failpoint("commit.landed")
    failpoint("letters.fsync")
    arm(None)
    failpoint("commit.landed")
    assert seen == ["commit.landed", "letters.fsync"]


@pytest.mark.parametrize("text", ["nowhere", "commit", "commit.landed:0", "commit.landed:x", "commit.landed:1:x"])
def test_an_unknown_failpoint_or_passing_is_rejected(text: str) -> None:
    """A test that armed another failpoint than it names would prove nothing."""
    with pytest.raises(SettingsError, match=re.escape(repr(text))):
        armed_by({VARIABLE: text})


@pytest.mark.parametrize(("setting", "passed"), [("commit.landed", 0), ("commit.landed:3", 2)])
def test_a_process_is_killed_at_the_chosen_passing(setting: str, passed: int) -> None:
    """SIGKILL at the n-th passing of that failpoint and of no other."""
    done = _passing(setting)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(number).encode() for number in range(passed)]


def test_a_process_meets_a_fault_at_the_chosen_passing() -> None:
    """Once, as an error that the job's retries handle."""
    done = _passing("commit.landed:2:OSError")
    assert done.returncode == 1
    assert done.stdout.split() == [b"0"]
    assert b"OSError: [Errno 5] injected fault" in done.stderr


def test_a_process_is_frozen_at_the_chosen_passing() -> None:
    """It continues from there on SIGCONT."""
    with _started("commit.landed:2:SIGSTOP") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[0].split() == [b"1", b"2", b"3", b"4"]


def _passing(setting: str) -> "subprocess.CompletedProcess[bytes]":
    with _started(setting) as process:
        said, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, said, error)


def _started(setting: str) -> "subprocess.Popen[bytes]":
    code = (
        "import os\n"
        "from k2.ops.failpoints import arm, armed_by, failpoint\n"
        "arm(armed_by(os.environ))\n"
        "for passing in range(5):\n"
        "    failpoint('commit.staged')\n"
        "    failpoint('commit.landed')\n"
        "    print(passing, flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, VARIABLE: setting},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

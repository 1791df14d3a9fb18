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

from runtime import failpoints
from runtime.failpoints import NAMES, VARIABLE, arm, armed_by, disarm, failpoint
from trades.errors import SettingsError

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("connectors", "flows", "operators", "runtime", "trades")


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    disarm()


def test_each_name_stands_in_the_code_once() -> None:
    """No point is listed and absent, and none is passed under two meanings."""
    texts = (path.read_text(encoding="utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    found = Counter(name for text in texts for name in re.findall(r'failpoint\("([a-z.]+)"\)', text))
    assert found == Counter(NAMES)


def test_nothing_is_armed_by_itself() -> None:
    """A run without the variable passes every point."""
    assert armed_by({}) is armed_by({VARIABLE: ""}) is failpoints._action is None
    for name in NAMES:
        failpoint(name)


def test_an_action_sees_every_passing() -> None:
    """What is armed is called with the point's name, and may raise."""
    seen: list[str] = []
    arm(seen.append)
    failpoint("commit.landed")
    failpoint("letters.fsync")
    disarm()
    failpoint("commit.landed")
    assert seen == ["commit.landed", "letters.fsync"]


@pytest.mark.parametrize("text", ["nowhere", "commit", "commit.landed:0", "commit.landed:x"])
def test_an_unknown_point_or_passing_is_refused(text: str) -> None:
    """A test that means another point than it names would prove nothing."""
    with pytest.raises(SettingsError, match=re.escape(repr(text))):
        armed_by({VARIABLE: text})


@pytest.mark.parametrize(("setting", "passed"), [("commit.landed", 0), ("commit.landed:3", 2)])
def test_a_process_is_killed_at_the_chosen_passing(setting: str, passed: int) -> None:
    """SIGKILL, at the n-th passing of that point and of no other."""
    code = (
        "from runtime.failpoints import failpoint\n"
        "for passing in range(5):\n"
        "    failpoint('commit.staged')\n"
        "    failpoint('commit.landed')\n"
        "    print(passing, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, VARIABLE: setting},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(number).encode() for number in range(passed)]

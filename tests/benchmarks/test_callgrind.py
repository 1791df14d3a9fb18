"""What Callgrind counts for a call of a process, in a process of Callgrind."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import pytest

from benchmarks.callgrind import CallgrindCounter
from benchmarks.instructions import PINNED, ROOT, counted_in

SCRIPT: Final = """
from benchmarks.callgrind import CallgrindCounter

def work(rounds):
    for _ in range(rounds):
        sum(range(100))

counter = CallgrindCounter()
work(10)
for name, rounds in (("once", 1_000), ("twice", 2_000), ("once again", 1_000)):
    work(500)
    counter.begin()
    work(rounds)
    counter.end(name)
"""


@pytest.mark.slow
def test_a_call_that_does_twice_as_much_counts_twice(missing: Callable[[str], NoReturn], tmp_path: Path) -> None:
    """What runs between the calls counts nowhere, and the same work has the same count, within 0.5 %."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        missing("valgrind")
    out = f"--callgrind-out-file={tmp_path / 'counted'}"
    command = [valgrind, "--quiet", "--tool=callgrind", "--instr-atstart=no", out, sys.executable, "-c", SCRIPT]
    subprocess.run(command, cwd=ROOT, env=PINNED, check=True)
    counted = dict(counted_in(tmp_path, "counted"))
    assert list(counted) == ["once", "twice", "once again"]
    assert counted["twice"] == pytest.approx(2 * counted["once"], rel=0.01)
    assert counted["once again"] == pytest.approx(counted["once"], rel=0.005)
    assert counted["once"] > 100_000


def test_counting_without_valgrind_is_an_error() -> None:
    """Instead of counts that are missing."""
    with pytest.raises(RuntimeError, match="no Valgrind runs this process; run `make instructions`"):
        CallgrindCounter()

"""What the imports of the job and of `k2` leave out."""

import os
import subprocess
import sys

import pytest

JOB = "from k2.ops.import_trims import trim_imports; trim_imports(is_job=True)\n"
COMMAND = "from k2.ops.import_trims import trim_imports; trim_imports()\n"
THREADS = "import numpy, os; print(len(os.listdir('/proc/self/task')), os.environ['OPENBLAS_NUM_THREADS'])"

HIDDEN = """
import importlib.util
for name in ("pandas", "rich"):
    try:
        importlib.util.find_spec(name)
    except ImportError:
        print(name)
"""


def printed(code: str, **variables: str) -> str:
    """Run Python in a process of its own, without the user's choice of threads, and return what it prints."""
    own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**own, **variables}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("trimmed", [JOB, COMMAND])
def test_numpy_starts_no_threads(trimmed: str) -> None:
    """By itself it starts one for each core but one."""
    assert printed(trimmed + THREADS) == "1 1"


def test_a_variable_of_the_user_stands() -> None:
    """The variable is kept if it is set."""
    assert printed(COMMAND + THREADS, OPENBLAS_NUM_THREADS="2").endswith(" 2")


def test_hidden_modules_look_absent() -> None:
    """Arrow and structlog do without them."""
    assert printed(JOB + HIDDEN).split() == ["pandas", "rich"]
    assert printed(COMMAND + HIDDEN).split() == ["pandas"]

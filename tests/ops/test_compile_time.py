"""Compilation is logged as it begins, and with its time once it is over."""

import numba
from structlog.testing import capture_logs

from k2.ops.compile_time import CompileTime


def test_each_compilation_is_logged_once() -> None:
    """A rule that calls another counts once; a call of a compiled rule logs nothing."""
    inner = numba.njit(lambda number: number + 1)
    outer = numba.njit(lambda number: inner(number) * 2)
    compile_time = CompileTime()
    try:
        with capture_logs() as logs:
            compile_time.log()
            assert outer(1) == 4
            compile_time.log()
            assert outer(2) == 6
            compile_time.log()
    finally:
        compile_time.close()
    begun, done = logs
    assert begun["event"] == "rules_compiling"
    assert (done["event"], done["log_level"]) == ("rules_compiled", "info")
    assert done["seconds"] > 0

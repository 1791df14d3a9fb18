"""What libraries load and start when they are imported, although neither the job nor `k2` uses it."""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

__all__ = ["trim_imports"]

HIDDEN: Final = frozenset({"coverage", "pandas", "rich.traceback"})
"""Arrow imports pandas, which takes longer than most queries, and numba imports coverage. Structlog imports
`rich.traceback`, for tracebacks that show the values of variables, of which some are secrets. Neither the job nor a
command uses them; a module that was imported before, as by a measurement of coverage, stays."""
HIDDEN_FROM_JOB: Final = frozenset({"rich"})
"""Structlog imports it for tracebacks in colour, which takes a twentieth of a start. Commands print tables with it."""


class _HidingFinder(MetaPathFinder):
    """Finder that is asked first, and says of a hidden module that it is not installed."""

    def __init__(self, hidden: frozenset[str]) -> None:
        self._hidden = hidden

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  the signature is Python's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Leave any other module to the finders that follow.

        Raises:
            ModuleNotFoundError: the module is hidden.
        """
        if fullname in self._hidden:
            raise ModuleNotFoundError(f"{fullname} is hidden from this process", name=fullname)
        return None


def trim_imports(*, is_job: bool = False) -> None:
    """Make some modules look absent to this process, more of them to the job, and keep OpenBLAS from starting threads.

    It must be called before NumPy is imported, whose OpenBLAS starts a thread for each core but one, which spins for 50
    ms. OpenBLAS is for linear algebra, of which there is none here. `OPENBLAS_NUM_THREADS` stays as it is if it is set.
    """
    sys.meta_path.insert(0, _HidingFinder(HIDDEN | HIDDEN_FROM_JOB if is_job else HIDDEN))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

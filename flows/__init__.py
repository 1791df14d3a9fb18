"""Dataflow of the job."""

import gc
import os
import sys
from types import TracebackType

from k2.ops.import_trims import trim_imports
from k2.ops.signals import exit_on_signals, is_job


def _report_unknown_flow(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Exit with one sentence and code 2 if the name of the flow is wrong, as in `bytewax.run flows.trade`."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(f"{__name__}."):
        print(f"k2: there is no flow {error.name}; run flows.trades", file=sys.stderr)  # noqa: T201  no log is set up yet
        os._exit(2)
    sys.__excepthook__(kind, error, traceback)


# Before the imports of the dataflow, which take seconds.
if is_job():
    exit_on_signals()
    trim_imports(is_job=True)
    # What a start makes is kept: to look for garbage in it takes a seventh of the start. `bootstrap` turns it on again.
    gc.disable()
    sys.excepthook = _report_unknown_flow

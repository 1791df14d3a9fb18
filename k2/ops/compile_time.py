"""Time that numba takes to compile the rules in this process."""

from typing import Final

import structlog
from numba.core import event

__all__ = ["CompileTime"]

_COMPILE: Final = "numba:compile"
"""Event of numba around each compilation; a rule that is loaded from the cache has none."""

_log = structlog.get_logger()


class _Timer(event.TimingListener):  # type: ignore[misc]
    """Measures compilations, and logs that the first begins."""

    is_used = False

    def on_start(self, event: object) -> None:
        """Begin a measurement."""
        if not self.is_used:
            self.is_used = True
            _log.info("rules_compiling", effect="nothing is read until all rules are compiled, which may take a minute")
        super().on_start(event)


class CompileTime:
    """Measures from now on; rules are compiled when they are first called."""

    def __init__(self) -> None:
        self._timer = _Timer()
        event.register(_COMPILE, self._timer)
        self._logged_seconds = 0.0

    def log(self) -> None:
        """Log the seconds of what was compiled since the last call; log nothing if nothing was."""
        seconds = float(self._timer.duration) if self._timer.done else 0.0
        if seconds > self._logged_seconds:
            _log.info("rules_compiled", seconds=round(seconds - self._logged_seconds, 3))
            self._logged_seconds = seconds

    def close(self) -> None:
        """Stop measuring."""
        event.unregister(_COMPILE, self._timer)

"""Logs on stderr: one JSON object per line, or coloured text if stderr is a terminal."""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from structlog.typing import Processor

from k2.model.errors import SettingsError, error_pattern

__all__ = ["LIBRDKAFKA", "RepeatFilter", "set_up_logs"]

LIBRDKAFKA: Final = "k2.librdkafka"
"""Logger of librdkafka's own lines."""
REPEAT_SECONDS: Final = 60.0
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def set_up_logs(level: str | None = None) -> None:
    """Send the logs of K2 and of libraries to stderr; `level` overrides `LOG_LEVEL`, and the default is info.

    Raises:
        SettingsError: the level is not one of debug, info, warning, error and critical.
    """
    name = (level or os.environ.get("LOG_LEVEL") or "info").lower()
    if name not in LEVELS:
        raise SettingsError(f"LOG_LEVEL={name!r}: unknown level; use one of {', '.join(LEVELS)}")
    threshold = logging.getLevelNamesMapping()[name.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers()))
    root = logging.getLogger()
    root.handlers = [handler]
    # Operators do not need what libraries log at info.
    root.setLevel(max(logging.WARNING, threshold))
    logging.getLogger("k2").setLevel(threshold)
    logging.getLogger(LIBRDKAFKA).filters = [RepeatFilter()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=lambda *_: logging.getLogger("k2"),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
    )


class RepeatFilter(logging.Filter):
    """Lets a line pass once in `REPEAT_SECONDS`, with the number of its repetitions since; its values do not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._passed: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line passes."""
        message, now = record.getMessage(), self._clock()
        pattern = error_pattern(message)
        with self._lock:
            passed_at, repeated = self._passed.get(pattern, (-math.inf, 0))
            if now - passed_at < REPEAT_SECONDS:
                self._passed[pattern] = passed_at, repeated + 1
                return False
            self._passed[pattern] = now, 0
        if repeated:
            record.msg, record.args = f"{message} (and {repeated} times since the last such line)", ()
        return True


def _renderers() -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if sys.stderr.isatty():
        colors = not os.environ.get("NO_COLOR")
        # A rich traceback shows local variables, which may contain passwords.
        plain = structlog.dev.plain_traceback
        return [remove, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [remove, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]

"""Logs: to stderr, a JSON object a line, or coloured text where a person looks on."""

import logging
import os
import sys
from typing import Final

import structlog
from structlog.typing import Processor

from k2.model.errors import SettingsError

__all__ = ["set_up_logs"]

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def set_up_logs(level: str | None = None) -> None:
    """Send our logs and those of libraries to stderr; `level` wins over `LOG_LEVEL`, the default is info.

    Raises:
        SettingsError: the level is none of debug, info, warning, error, critical.
    """
    name = (level or os.environ.get("LOG_LEVEL") or "info").lower()
    if name not in LEVELS:
        raise SettingsError(f"LOG_LEVEL={name!r} is no level; known are {', '.join(LEVELS)}")
    shared = _shared()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendered()))
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries have much to say at info that no operator needs.
    root.setLevel(max(logging.WARNING, _number(name)))
    logging.getLogger("k2").setLevel(_number(name))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=lambda *_: logging.getLogger("k2"),
        wrapper_class=structlog.make_filtering_bound_logger(_number(name)),
    )


def _number(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _rendered() -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if sys.stderr.isatty():
        colors = not os.environ.get("NO_COLOR")
        # Without the locals that a rich traceback shows: passwords are among them.
        plain = structlog.dev.plain_traceback
        return [remove, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [remove, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]

"""Errors that end the job or a command, with their exit codes."""

import re
from typing import Final

__all__ = [
    "CatalogError",
    "DeadLetterRatioError",
    "FencedError",
    "K2Error",
    "NotDeliveredError",
    "OffsetError",
    "PartitionsAddedError",
    "PeerLostError",
    "SettingsError",
    "StateError",
    "TableError",
    "UnreachableError",
    "error_pattern",
    "first_line",
]

_VALUE: Final = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.)*'|(?<!\w)"(?:[^"\\]|\\.)*\"|"""
    r"(?<![A-Z]-)(?<!decimal\()(?<!decimal\(\d\d, )\b\d(?:[\d.:,+-]|T(?=\d))*(?:(?<=\d)Z\b|(?<=\d))"
)
"""A quoted text, a number, or a time; not the digits of `UTF-8` and `decimal(38, 18)`."""


class K2Error(Exception):
    """Base class of all errors raised on purpose; `exit_code` is the exit code of the process."""

    exit_code = 1
    is_final = False
    """Whether another start would end in the same way, or do harm, so that `k2 run --supervise` makes none."""


class SettingsError(K2Error, ValueError):
    """A setting, an argument, or a file named by one is invalid."""

    exit_code = 2
    is_final = True


class UnreachableError(K2Error, ConnectionError):
    """A broker, catalog or store outside the process does not answer."""

    exit_code = 3


class OffsetError(K2Error, LookupError):
    """The offset to read from does not exist in the topic partition (expired, or the topic was recreated)."""


class StateError(K2Error, RuntimeError):
    """Recovered state does not match the job that is started."""


class TableError(K2Error, RuntimeError):
    """A table does not have the schema or the snapshot history that the job wrote."""


class CatalogError(K2Error, RuntimeError):
    """The catalog's database, or a file of a table that it names, is lost or damaged; a retry does not help."""


class FencedError(K2Error, RuntimeError):
    """Another live instance has committed progress for the same writer."""

    is_final = True


class DeadLetterRatioError(K2Error, RuntimeError):
    """Too large a share of a topic's latest messages cannot be decoded: they are not the venue's."""

    is_final = True


class NotDeliveredError(K2Error, RuntimeError):
    """The broker did not acknowledge messages of the producer."""


class PeerLostError(K2Error, RuntimeError):
    """Another process of the cluster has ended, or its host does not answer."""


class PartitionsAddedError(K2Error, RuntimeError):
    """A topic has more partitions than when the job started, and its supervisor is to start it again."""


def first_line(error: BaseException | None) -> str:
    """Return an error's text without what follows: SQLAlchemy's references, or DuckDB's excerpt of the statement."""
    return str(error).partition("\n")[0]


def error_pattern(error: str) -> str:
    """Return the text of an error with its values replaced by `…`, so that errors of one cause are equal.

    >>> error_pattern("timestamp: looks like nanoseconds: 1723161255342999000; send microseconds")
    'timestamp: looks like nanoseconds: …; send microseconds'
    >>> error_pattern("data[1].side: neither buy nor sell: 'B'")
    'data[…].side: neither buy nor sell: …'
    >>> error_pattern("value: not UTF-8 (byte 7)")
    'value: not UTF-8 (byte …)'
    """
    return _VALUE.sub("…", error)

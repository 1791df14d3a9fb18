"""Errors that end the job or a command: one sentence each, and the exit code that goes with it."""

__all__ = [
    "FencedError",
    "K2Error",
    "NotDeliveredError",
    "OffsetError",
    "PeerLostError",
    "SettingsError",
    "StateError",
    "TableError",
    "UnreachableError",
]


class K2Error(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the process ends with."""

    exit_code = 1


class SettingsError(K2Error, ValueError):
    """A setting, an argument or a file named by one is wrong."""

    exit_code = 2


class UnreachableError(K2Error, ConnectionError):
    """A broker, catalog or store outside the process does not answer."""

    exit_code = 3


class OffsetError(K2Error, LookupError):
    """The offset to read from does not exist in the topic partition (expired, or a topic made anew)."""


class StateError(K2Error, RuntimeError):
    """Recovered state does not fit what is being run."""


class TableError(K2Error, RuntimeError):
    """A table does not have the shape, or the history, that the job wrote."""


class FencedError(K2Error, RuntimeError):
    """Another live instance has committed progress for the same writer."""


class NotDeliveredError(K2Error, RuntimeError):
    """Messages handed to the producer were not acknowledged by the broker."""


class PeerLostError(K2Error, RuntimeError):
    """Another process of the cluster has ended."""

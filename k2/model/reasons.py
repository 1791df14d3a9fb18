"""Why a message is not in the table: the closed set of reasons, and a refusal that bears one."""

from enum import StrEnum
from typing import NoReturn

__all__ = ["Reason", "RejectedError", "SkippedError", "invalid"]


class Reason(StrEnum):
    """Why a message or trade was set aside in the dead letters."""

    MALFORMED = "malformed"
    """The bytes are not one JSON object in UTF-8."""
    INVALID = "invalid"
    """A field is absent, of the wrong type, or out of its range."""
    UNSUPPORTED = "unsupported"
    """A well-formed message of a kind that the topic's venue does not decode."""
    CONFLICT = "conflict"
    """The same sequence or id as a stored trade, with other content."""
    TOO_LARGE = "too_large"
    """More bytes than a message may have."""


class RejectedError(ValueError):
    """A message that can't become a trade; permanent, and only ever this message's."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(f"{reason}: {error}")
        self.reason = reason
        self.error = error


class SkippedError(Exception):
    """A message that is no market trade by the venue's rule (a heartbeat, a reply, an off-book number).

    `why` is of a small closed set, fit for a metric's label.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def invalid(field: str, what: str) -> NoReturn:
    """Refuse a message for one of its fields."""
    raise RejectedError(Reason.INVALID, f"{field}: {what}")

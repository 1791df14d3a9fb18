"""Reasons why a message is not in the table, and the exceptions that carry them."""

from enum import StrEnum
from typing import Final, NoReturn

__all__ = ["HEAD_NUMBER", "Reason", "RejectedError", "SkippedError", "invalid"]

HEAD_NUMBER: Final = "head_number"
"""Reason for skipping a message: it names the number of a trade that another message is."""


class Reason(StrEnum):
    """Why a message or trade became a dead letter."""

    MALFORMED = "malformed"
    """The bytes cannot be parsed: for most venues, they are not one JSON object in UTF-8."""
    INVALID = "invalid"
    """A field is absent, of the wrong type, or out of range."""
    UNSUPPORTED = "unsupported"
    """A well-formed message of a kind that the topic's venue does not decode."""
    CONFLICT = "conflict"
    """The sequence number or trade id of a stored trade, with other content."""
    TOO_LARGE = "too_large"
    """More bytes than allowed."""


class RejectedError(ValueError):
    """A message that cannot become a trade. The error is permanent and concerns this message only."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(f"{reason}: {error}")
        self.reason = reason
        self.error = error


class SkippedError(Exception):
    """A message that is neither a trade nor an error by the rule of the venue (a heartbeat, a reply).

    `why` is one of a small closed set of values, so that it can be a metric label.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def invalid(field: str, what: str) -> NoReturn:
    """Reject a message because of one of its fields.

    Raises:
        RejectedError: always, with reason `invalid`.
    """
    raise RejectedError(Reason.INVALID, f"{field}: {what}")

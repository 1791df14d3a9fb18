"""Refusals: the reason apart, for those who count, and a sentence, for those who read."""

import pytest

from k2.model.reasons import Reason, RejectedError, SkippedError, invalid


def test_a_refusal_bears_its_reason_and_error() -> None:
    """Each by itself, and both in what is shown."""
    refusal = RejectedError(Reason.TOO_LARGE, "value: 2 bytes")
    assert (refusal.reason, refusal.error) == (Reason.TOO_LARGE, "value: 2 bytes")
    assert str(refusal) == "too_large: value: 2 bytes"


def test_an_invalid_field_is_named_first() -> None:
    """Then what is wrong with it."""
    with pytest.raises(RejectedError) as caught:
        invalid("price", "empty")
    assert (caught.value.reason, caught.value.error) == (Reason.INVALID, "price: empty")


def test_what_is_passed_over_says_why() -> None:
    """In a word that is fit for a label."""
    assert (SkippedError("heartbeat").why, str(SkippedError("heartbeat"))) == ("heartbeat", "heartbeat")

"""Rejections: a reason code for metrics, and a sentence for people."""

from pathlib import Path

import pytest

from k2.model.reasons import Reason, RejectedError, SkippedError, invalid


def test_a_rejection_has_a_reason_and_an_error() -> None:
    """Each is an attribute, and the text shows both."""
    refusal = RejectedError(Reason.TOO_LARGE, "value: 2 bytes")
    assert (refusal.reason, refusal.error) == (Reason.TOO_LARGE, "value: 2 bytes")
    assert str(refusal) == "too_large: value: 2 bytes"


def test_an_invalid_field_is_named_first() -> None:
    """The problem follows the field's name."""
    with pytest.raises(RejectedError) as caught:
        invalid("price", "empty")
    assert (caught.value.reason, caught.value.error) == (Reason.INVALID, "price: empty")


def test_a_skipped_message_has_a_reason() -> None:
    """The reason is a word that is valid as a metric label."""
    assert (SkippedError("heartbeat").why, str(SkippedError("heartbeat"))) == ("heartbeat", "heartbeat")


@pytest.mark.parametrize("place", ["k2/http/page/dead_letters.js", "docs/messages.md"])
def test_each_reason_is_explained(place: str) -> None:
    """The page and the documentation say what each reason means."""
    text = (Path(__file__).parents[2] / place).read_text(encoding="utf-8")
    mention = "  {}: " if place.endswith(".js") else "`{}`"
    assert [reason for reason in Reason if mention.format(reason.value) not in text] == []

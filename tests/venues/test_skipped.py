"""Skipped messages of both decoders are listed in message order, each with its reason."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2.model.reasons import SkippedError
from k2.venues.skipped import SkippedMessages, reason_number

REASONS = st.sampled_from(["heartbeat", "status", "no_trades", "non_market", "error"])


@given(st.dictionaries(st.integers(0, 99), st.tuples(REASONS | st.just("of_a_format"), st.booleans())))
def test_both_decoders_skip_in_message_order(reasons: dict[int, tuple[str, bool]]) -> None:
    """Also for a reason that compiled decoders do not have."""
    expected = sorted((message, reason) for message, (reason, _) in reasons.items())
    compiled = {
        message for message, (reason, is_compiled) in reasons.items() if is_compiled and reason != "of_a_format"
    }
    rows = [(message, reason_number(reason)) for message, reason in expected if message in compiled]
    others = [(message, SkippedError(reason)) for message, reason in expected if message not in compiled]
    skipped = SkippedMessages.of(np.array(rows, dtype=np.int32).reshape(-1, 2), others)
    assert [(message, error.why) for message, error in skipped] == expected
    assert skipped.messages.tolist() == [message for message, _ in expected]
    assert len(skipped) == len(expected)
    counted = [reason for _, reason in expected]
    assert skipped.counts() == {reason: counted.count(reason) for reason in counted}

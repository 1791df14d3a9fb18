"""The share of dead letters among a topic's latest messages stops the job above its limit, and not before."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.dead_letter_ratio import PARTS, DeadLetterRatio
from k2.model.errors import DeadLetterRatioError
from k2.model.reasons import Reason
from tests.model.dead_letters import dead_letter

BATCHES = st.lists(st.integers(0, 12).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, count))))
"""Messages and dead letters of each batch."""


def _is_stopped(ratio: DeadLetterRatio, topic: str, messages: int, rejected: int) -> bool:
    try:
        ratio.add(topic, messages, [dead_letter(offset) for offset in range(rejected)])
    except DeadLetterRatioError:
        return True
    return False


@given(BATCHES, st.floats(0.05, 0.95), st.integers(1, 40))
def test_the_latest_messages_decide(batches: list[tuple[int, int]], ratio_max: float, messages_min: int) -> None:
    """It stops exactly if a stretch of latest batches, of the smallest number or a little more, is above the limit.

    What is allowed is below the limit in no such stretch: a window is at most the smallest, a batch and a part long.
    """
    ratio = DeadLetterRatio(ratio_max, messages_min)
    flags: list[int] = []
    for messages, rejected in batches:
        flags = [*flags, *[1] * rejected, *[0] * (messages - rejected)]
        longest = messages_min + 12 + messages_min // PARTS + 12
        windows = [flags[-size:] for size in range(messages_min, longest + 1) if size <= len(flags)]
        shares = [sum(window) > ratio_max * len(window) for window in windows]
        if _is_stopped(ratio, "trades", messages, rejected):
            assert any(shares)
            return
        assert not (messages and shares and all(shares))


def test_a_storm_after_a_long_calm_is_seen() -> None:
    """The calm before does not dilute it: it stops once half of the last 100 messages are dead letters."""
    ratio = DeadLetterRatio(0.5, 100)
    assert not any(_is_stopped(ratio, "trades", 1, 0) for _ in range(100_000))
    stormy = next(number for number in range(1, 1_000) if _is_stopped(ratio, "trades", 1, 1))
    assert 51 <= stormy <= 51 + 2 * 100 // PARTS


def test_topics_are_judged_apart() -> None:
    """A broken topic among healthy ones is seen, and a healthy one is not stopped for it."""
    ratio = DeadLetterRatio(0.5, 100)
    for _ in range(50):
        assert not _is_stopped(ratio, "healthy", 1_000, 0)
        assert not _is_stopped(ratio, "small", 1, 1)
    assert _is_stopped(ratio, "broken", 100, 51)
    assert not _is_stopped(ratio, "healthy", 1_000, 10)


@pytest.mark.parametrize(("ratio_max", "messages", "rejected"), [(0, 1_000, 1_000), (0.5, 99, 99), (0.5, 100, 50)])
def test_nothing_stops(ratio_max: float, messages: int, rejected: int) -> None:
    """A limit of 0 is off; too few messages are not judged; a share that equals the limit is allowed."""
    assert not _is_stopped(DeadLetterRatio(ratio_max, 100), "trades", messages, rejected)


def test_the_sentence_names_the_cause_and_the_way_on() -> None:
    """Topic, venue, share, the commonest reason with its first error, and the two settings."""
    ratio = DeadLetterRatio(0.5, 100)
    ratio.add("trades", 50, [dead_letter(3, reason=Reason.INVALID, error="price: absent")])
    letters = [
        dead_letter(offset, reason=Reason.MALFORMED, error=f"value: not JSON at {offset}") for offset in range(60)
    ]
    with pytest.raises(DeadLetterRatioError) as caught:
        ratio.add("trades", 60, letters)
    sentence = str(caught.value)
    assert re.match(
        r"topic 'trades': 55\.5 % of the last 110 messages are dead letters by venue 'k2', 60 of them", sentence
    )
    assert "malformed, the first at trades:0:0: value: not JSON at 0;" in sentence
    assert sentence.endswith("fix the topic's venue in K2_TOPICS, or set K2_DLQ_RATIO_MAX=0 to dead-letter them")
    assert caught.value.is_final

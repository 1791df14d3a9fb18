"""Causes and incidents of gaps: examples of the evidence, and what is no evidence."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.times import SECOND_US
from k2.sequencing.gap_causes import BURST_US, AbandonedOffsets, Explanation, LostMessages, Opening, explain

AT: Final = 1_700_000_000 * SECOND_US
"""2023-11-14 22:13:20 UTC."""


def opening(symbol: str = "BTC", seconds: float = 0, exchange: str = "x", topic: str = "t", **values: Any) -> Opening:
    """Return the opening of a gap of five numbers, this long after the time of the tests."""
    at = AT + int(seconds * SECOND_US)
    return Opening(exchange, symbol, 1, 5, 9, at, topic, 0, 100, **values)


def jump(numbers: int, **values: Any) -> Opening:
    """Return the opening of a gap between two numbers that are this far apart, and a second in time."""
    return opening(before_at=AT - SECOND_US, **values)._replace(last=5 + numbers - 2)


@pytest.mark.parametrize(
    ("openings", "expected"),
    [
        ([opening()], "unknown"),
        ([opening(is_tail=True)], "tail"),
        # Three symbols of one topic within a minute, of one exchange or several.
        ([opening("A"), opening("B", 30), opening("C", 60)], "connection"),
        ([opening("A"), opening("A", 30, "y"), opening("A", 60, "z")], "connection"),
        ([opening("A"), opening("B", 30), opening("C", 61)], "unknown"),
        ([opening("A"), opening("B"), opening("B", 1), opening("A", 2)], "unknown"),
        # Ten symbols of one exchange, in two topics.
        ([opening(symbol, topic="tu"[symbol > "C"]) for symbol in "ABCDEFGHIJ"], "venue"),
        ([opening(symbol, topic="tu"[symbol > "C"]) for symbol in "ABCDEFGHI"], "connection"),
        ([opening(symbol, topic=symbol) for symbol in "ABCDEFGHIJ"], "venue"),
        ([opening(symbol, topic=symbol) for symbol in "ABCDEFGHI"], "unknown"),
        # Another exchange of the topic lacks numbers as well, so it is not the venue.
        (
            [*(opening(symbol, topic="tu"[symbol > "C"]) for symbol in "ABCDEFGHIJ"), opening(exchange="y")],
            "connection",
        ),
        ([jump(1_000)], "venue"),
        ([jump(20_000)], "venue"),
        ([jump(1_234_567)], "venue"),
        ([jump(999)], "unknown"),
        ([jump(1_234)], "unknown"),
        # A thousand trades may have been lost in an hour.
        ([jump(1_000)._replace(before_at=AT - 3_600 * SECOND_US)], "unknown"),
        ([jump(1_000)._replace(before_at=AT + 1)], "unknown"),
        ([jump(1_000)._replace(before_at=None)], "unknown"),
    ],
)
def test_causes(openings: list[Opening], expected: str) -> None:
    """Of the first opening, by the openings alone."""
    assert explain(openings)[0].cause == expected


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (LostMessages("x", "t", AT), "connection"),
        (LostMessages("x", "t", AT + BURST_US), "connection"),
        (LostMessages("x", "t", AT - BURST_US - 1), "unknown"),
        (LostMessages("y", "t", AT), "unknown"),
        (LostMessages("x", "u", AT), "unknown"),
    ],
)
def test_messages_lost_on_the_way_explain_a_gap(lost: LostMessages, expected: str) -> None:
    """Of the same exchange and topic, within a minute."""
    assert explain([opening()], [lost])[0].cause == expected


@pytest.mark.parametrize(
    ("lost", "before", "expected"),
    [
        (AbandonedOffsets("t", 0, 60, 80), 59, "kafka"),
        (AbandonedOffsets("t", 0, 60, 99), 59, "kafka"),
        (AbandonedOffsets("t", 0, 60, 80), 60, "unknown"),
        (AbandonedOffsets("t", 0, 60, 80), 90, "unknown"),
        (AbandonedOffsets("t", 0, 60, 80), None, "unknown"),
        (AbandonedOffsets("t", 0, 100, 180), 59, "unknown"),
        (AbandonedOffsets("t", 1, 60, 80), 59, "unknown"),
        (AbandonedOffsets("u", 0, 60, 80), 59, "unknown"),
    ],
)
def test_abandoned_offsets_explain_a_gap(lost: AbandonedOffsets, before: int | None, expected: str) -> None:
    """If they are between the messages of the trades next to the gap."""
    assert explain([opening(before_offset=before)], offsets=[lost])[0].cause == expected


def test_incidents() -> None:
    """Gaps of one cause and exchange within a minute; one of a topic if several exchanges are in it."""
    rows = [
        opening("A"),
        opening("B", 50),
        opening("C", 55),
        opening("D", 61),
        opening("A", 300),
        opening("A", 0, "y", "u"),
    ]
    assert explain(rows) == [
        *[Explanation("connection", "connection:x:2023-11-14T22:13")] * 3,  # type: ignore[arg-type]
        *[Explanation("unknown", "unknown:x:2023-11-14T22:14")],  # type: ignore[arg-type]
        *[Explanation("unknown", "unknown:x:2023-11-14T22:18")],  # type: ignore[arg-type]
        *[Explanation("unknown", "unknown:y:2023-11-14T22:13")],  # type: ignore[arg-type]
    ]
    several = explain([opening("A"), opening("A", 1, "y"), opening("A", 2, "z")])
    assert {one.incident for one in several} == {"connection:t:2023-11-14T22:13"}


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ABCD"), st.integers(0, 300), st.sampled_from("xy"), st.sampled_from("tu")),
        max_size=12,
        unique=True,
    ),
    order=st.randoms(),
)
def test_the_order_of_openings_does_not_matter(rows: list[tuple[str, int, str, str]], order: Any) -> None:
    """Each opening has the same cause and incident, and two incidents of one name are one burst."""
    openings = [opening(*row) for row in rows]
    found = dict(zip(openings, explain(openings), strict=True))
    shuffled = [*openings]
    order.shuffle(shuffled)
    assert dict(zip(shuffled, explain(shuffled), strict=True)) == found
    for name in {one.incident for one in found.values()}:
        times = [one.at for one, explained in found.items() if explained.incident == name]
        assert max(times) - min(times) <= BURST_US

"""The condition of a day: one rule, by what is known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.certificates.condition import Condition, DayFacts, SessionNumbers, condition, reasons

SESSIONS = tuple(SessionNumbers(number, 1, 2, 2, follows_stored=False, is_followed=False) for number in (1, 2))


@pytest.mark.parametrize(
    ("facts", "expected", "says"),
    [
        ({}, Condition.COMPLETE, []),
        ({"corrections": 2}, Condition.COMPLETE, []),
        ({"missing": 2, "accepted": 1}, Condition.OPEN, ["2 numbers are missing", "1 missing number accepted"]),
        (
            {"missing": 1, "conflicts": 1},
            Condition.OPEN,
            ["1 number is missing", "1 trade conflicts with a stored one"],
        ),
        ({"accepted": 3}, Condition.ACCEPTED, ["3 missing numbers accepted"]),
        ({"accepted": 3, "dead_letters": 1}, Condition.DEGRADED, ["1 dead letter", "3 missing numbers accepted"]),
        ({"expected": None, "missing": None}, Condition.DEGRADED, ["the venue gives no gapless numbers"]),
        ({"not_numbered": 1}, Condition.DEGRADED, ["1 trade without a gapless number"]),
        ({"unnamed_dead_letters": 2}, Condition.DEGRADED, ["2 dead letters of its partitions without a symbol"]),
        ({"connection_gaps": 1}, Condition.DEGRADED, ["1 message lost between venue and Kafka"]),
        ({"sessions_started": 2}, Condition.DEGRADED, ["2 sessions on one day"]),
        ({"sessions": SESSIONS}, Condition.DEGRADED, ["2 sessions on one day"]),
        ({"sessions": SESSIONS[:1], "sessions_started": 1}, Condition.COMPLETE, []),
    ],
)
def test_conditions(facts: dict[str, Any], expected: Condition, says: list[str]) -> None:
    """Missing numbers are certain, doubts come next, and then what was accepted."""
    given_facts = DayFacts(**{"trades": 5, "stored": 5, "expected": 5, **facts})
    assert (condition(given_facts, is_over=True), reasons(given_facts, is_over=True)) == (expected, says)


@given(st.builds(DayFacts, missing=st.none() | st.integers(0, 3), accepted=st.integers(0, 2)), st.booleans())
def test_a_day_is_complete_if_there_is_no_reason_against_it(facts: DayFacts, is_over: bool) -> None:  # noqa: FBT001
    """A day that is not over may still get trades."""
    is_complete = condition(facts, is_over=is_over) == Condition.COMPLETE
    assert is_complete == (not reasons(facts, is_over=is_over))
    assert is_over or condition(facts, is_over=is_over) == Condition.OPEN

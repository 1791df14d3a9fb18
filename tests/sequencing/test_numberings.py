"""Numberings of every kind, with known truth, judged by the specification and by the job's tracker."""

import pickle
from itertools import pairwise
from random import Random

import pytest

from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import Columnar, Plain, Said
from tests.sequencing.numberings import KINDS, Script, script
from tests.sequencing.numberings_truth import Assessment, assess
from tests.sequencing.stored_rows import StoredRows

DAY_US = 86_400_000_000
EACH = 6
"""How many seeds of each kind; `make numberings` tries more."""


def rows_of(made: Script) -> list[Row]:
    """Return a script's messages as rows of the usual symbol."""
    return [
        Row(
            one.sequence,
            one.timestamp,
            trade_id=one.trade_id,
            kafka_timestamp=one.kafka_timestamp,
            price=one.price,
            quantity=one.quantity,
            side=one.side,
        )
        for one in made.sent
    ]


def assessed(made: Script, said: Said, ranges: list[list[tuple[int, int]]]) -> Assessment:
    """Compare a form's result, and the ranges that it has seen by session, with the truth."""
    missing = [
        (session, low + 1, high - 1) for session, seen in enumerate(ranges, 1) for (_, low), (high, _) in pairwise(seen)
    ]
    return assess(made, said.verdicts, said.sessions, missing)


@pytest.mark.parametrize("kind", KINDS)
def test_numberings_are_judged_right(kind: str) -> None:
    """Nothing is lost, doubled, silently dropped, or missing without cause; two are set aside for each restart."""
    for seed in range([*KINDS].index(kind), EACH * len(KINDS), len(KINDS)):
        made, plain = script(seed), Plain()
        found = assessed(made, plain.track(rows_of(made)), plain.ranges())
        assert found.is_right, (seed, found)
        assert found.set_aside <= 2 * made.restarts, (seed, found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_judges_them_alike(kind: str) -> None:
    """However a script is cut, the compiled form agrees with the specification."""
    seed = [*KINDS].index(kind) + 100 * len(KINDS)
    rows, plain = rows_of(script(seed)), Plain()
    said = plain.track(rows)
    for cut in (1_000_000, Random(seed).randint(1, 50)):
        columnar = Columnar(cut)
        assert columnar.track(rows) == said
        assert columnar.ranges() == plain.ranges()


@pytest.mark.parametrize("kind", KINDS)
def test_a_restarted_process_judges_them_alike(kind: str) -> None:
    """With state from a snapshot and contents from the table, a process continues as if it had never ended."""
    seed = [*KINDS].index(kind) + 200 * len(KINDS)
    rows = rows_of(script(seed))
    said = Plain().track(rows)
    stored, verdicts, sessions = StoredRows(), list[int](), list[int]()
    tracker = GroupTracker(None, DAY_US, stored.read)
    for start in range(0, len(rows), 150):
        piece = tracker.track(slice_of(rows[start : start + 150], first_offset=start)).trade_slice
        stored.add(piece)
        verdicts += piece.verdicts.tolist()
        sessions += piece.sessions.tolist()
        state = pickle.loads(pickle.dumps(tracker.snapshot()))  # noqa: S301
        tracker = GroupTracker(state, DAY_US, stored.read)
    assert (verdicts, sessions) == (said.verdicts, said.sessions)


def test_the_assessment_sees_wrong_verdicts() -> None:
    """A script judged by time alone is found wrong, so the checker can fail."""
    made = script([*KINDS].index("old_numbers_under_new_times"))
    wrong = [0] * len(made.sent)
    found = assess(made, wrong, [1] * len(wrong), [(1, 2, 3)])
    assert found.doubled > 0
    assert found.falsely_missing == 2
    assert not found.is_right

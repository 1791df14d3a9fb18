"""Deduplication by id against a list of all that was stored, and a table of cases."""

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trades.deduplication
from tests.trades.trade_slices import Row, slice_of
from trades.batch import NULL_TIME
from trades.deduplication import CONFIRMATIONS, GroupDeduplicator
from trades.errors import StateError
from trades.venues import VENUES, SequenceMode
from trades.verdicts import DUPLICATE, STORED

WINDOW = 100


def at(kafka_timestamp: int, trade_id: str | None = "t", symbol: str = "x", exchange: str = "a") -> Row:
    """Give a trade without a number."""
    return Row(None, 0, symbol, exchange, trade_id, kafka_timestamp)


def verdicts_of(rows: list[Row], deduplicator: GroupDeduplicator | None = None) -> list[int]:
    """Deduplicate rows as one slice."""
    deduplicator = GroupDeduplicator(WINDOW) if deduplicator is None else deduplicator
    verdicts: list[int] = deduplicator.deduplicate(slice_of(rows)).verdicts.tolist()
    return verdicts


@pytest.mark.parametrize(
    ("rows", "verdicts"),
    [
        ([at(0), at(0)], [STORED, DUPLICATE]),
        ([at(0), at(WINDOW)], [STORED, DUPLICATE]),
        ([at(0), at(WINDOW + 1)], [STORED, STORED]),
        ([at(WINDOW), at(0)], [STORED, DUPLICATE]),
        ([at(WINDOW + 1), at(0)], [STORED, STORED]),
        ([at(0), at(WINDOW), at(WINDOW + 1)], [STORED, DUPLICATE, STORED]),
        ([at(0), at(WINDOW + 1), at(2 * WINDOW + 1)], [STORED, STORED, DUPLICATE]),
        ([at(0), at(0, "T"), at(0, "t", "y"), at(0, "t", "x", "b")], [STORED] * 4),
        ([at(0, "bc", "x"), at(0, "c", "xb"), at(0, "")], [STORED] * 3),
        ([at(0, None), at(0, None), at(0, ""), at(0, "")], [STORED, STORED, STORED, DUPLICATE]),
        ([at(500), at(NULL_TIME), at(600)], [STORED, DUPLICATE, DUPLICATE]),
        ([at(500), at(900, "n"), at(NULL_TIME), at(950)], [STORED, STORED, STORED, DUPLICATE]),
        ([at(NULL_TIME), at(NULL_TIME)], [STORED, DUPLICATE]),
        ([at(0), at(50, "n"), at(250, "n"), at(150)], [STORED, STORED, STORED, STORED]),
        ([at(100), at(300, "n"), at(199)], [STORED, STORED, DUPLICATE]),
    ],
)
def test_cases(rows: list[Row], verdicts: list[int]) -> None:
    """An id is a duplicate up to a window before or after one stored, in its exchange and symbol."""
    assert verdicts_of(rows) == verdicts


def by_the_rule(rows: list[Row], window: int) -> list[int]:
    """Judge rows against the list of all that was stored."""
    stored = list[tuple[str, str, str | None, int]]()
    verdicts = []
    for row in rows:
        twins = [time for *name, time in stored if name == [row.exchange, row.symbol, row.trade_id]]
        is_duplicate = any(abs(time - row.kafka_timestamp) <= window for time in twins)
        if row.trade_id is None or not is_duplicate:
            stored.append((row.exchange, row.symbol, row.trade_id, row.kafka_timestamp))
        verdicts.append(DUPLICATE if row.trade_id is not None and is_duplicate else STORED)
    return verdicts


IDS = st.sampled_from(["1", "2", "3", "Ü", None])
NAMES = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, list[Row]]:
    """A window, and rows at most that much older than the newest before them."""
    window = draw(st.sampled_from([1, 5, 24, 100]))
    steps = draw(st.lists(st.tuples(st.integers(0, window), st.integers(0, window), IDS, NAMES), max_size=40))
    clock, rows = 1_000, list[Row]()
    for forward, back, trade_id, (exchange, symbol) in steps:
        clock += forward
        rows.append(at(clock - back, trade_id, symbol, exchange))
    return window, rows


@given(streams(), st.lists(st.integers(0, 40), max_size=4), st.booleans())
def test_exact_within_the_window(
    stream: tuple[int, list[Row]],
    cuts: list[int],
    restarts: bool,  # noqa: FBT001
) -> None:
    """Up to a window of disorder, verdicts are the rule's, however cut, and over restarts."""
    window, rows = stream
    deduplicator, verdicts = GroupDeduplicator(window), list[int]()
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        verdicts += verdicts_of(rows[start:end], deduplicator)
        if restarts:
            state = pickle.loads(pickle.dumps(deduplicator.snapshot()))  # noqa: S301
            deduplicator = GroupDeduplicator(window, state)
    assert verdicts == by_the_rule(rows, window)


@given(st.lists(st.tuples(st.integers(0, 600), IDS), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_cuts_change_nothing_under_any_disorder(rows: list[tuple[int, str | None]], cuts: list[int]) -> None:
    """Rows far older than the window get the same verdicts in one slice as in many."""
    rows_at = [at(time, trade_id) for time, trade_id in rows]
    deduplicator, verdicts = GroupDeduplicator(WINDOW), list[int]()
    bounds = [0, *sorted(cut % (len(rows_at) + 1) for cut in cuts), len(rows_at)]
    for start, end in pairwise(bounds):
        verdicts += verdicts_of(rows_at[start:end], deduplicator)
    assert verdicts == verdicts_of(rows_at)


def test_partitions_share_ids_but_not_clocks() -> None:
    """A symbol's copy in another partition is found; a partition far ahead makes none forget."""
    deduplicator = GroupDeduplicator(WINDOW)
    deduplicator.deduplicate(slice_of([at(1_000)], partition=0))
    deduplicator.deduplicate(slice_of([at(9_000, "n", "y")], partition=1))
    again = [deduplicator.deduplicate(slice_of([at(1_050)], partition=partition)) for partition in (0, 2)]
    assert [piece.verdicts.tolist() for piece in again] == [[DUPLICATE], [DUPLICATE]]


def test_old_ids_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a partition go once it is two windows on, those of silent symbols too."""
    monkeypatch.setattr(trades.deduplication, "CONFIRMATIONS", 1)
    deduplicator = GroupDeduplicator(WINDOW)
    verdicts_of([at(0, str(number), f"S{number}") for number in range(50)], deduplicator)
    assert len(deduplicator) == 50
    verdicts_of([at(200, "n")], deduplicator)
    assert len(deduplicator) == 51
    verdicts_of([at(204, "m")], deduplicator)
    assert (len(deduplicator), len(deduplicator._symbols)) == (2, 1)


def test_one_wrong_time_makes_no_id_too_old() -> None:
    """A time far ahead moves no clock, however often among right ones; a hundred in turn do (a weekend went by)."""
    deduplicator = GroupDeduplicator(WINDOW)
    for start in range(1_000):
        far = [at(9_000_000 + start, f"far {start}")] * (start % 3)
        assert verdicts_of([*far, at(start, f"near {start}")], deduplicator)[-1] == STORED
        assert verdicts_of([at(start, f"near {start}")], deduplicator) == [DUPLICATE]
    held = len(deduplicator)
    verdicts_of([at(9_000_000, str(number)) for number in range(CONFIRMATIONS)], deduplicator)
    assert len(deduplicator) < held


def test_an_id_too_old_to_be_judged_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trade far behind its partition is stored, and takes no memory."""
    monkeypatch.setattr(trades.deduplication, "CONFIRMATIONS", 1)
    deduplicator = GroupDeduplicator(WINDOW)
    assert verdicts_of([at(1_000, "n"), at(0), at(0)], deduplicator) == [STORED] * 3
    assert len(deduplicator) == 1


def test_tracked_and_settled_rows_are_left_alone() -> None:
    """A row with a tracked number is never dropped by its id, nor is one dropped before it held."""
    deduplicator = GroupDeduplicator(WINDOW)
    piece = slice_of([Row(1, trade_id="t"), Row(2, trade_id="t"), Row(None, trade_id="t")])
    assert deduplicator.deduplicate(piece).verdicts.tolist() == [STORED] * 3
    assert len(deduplicator) == 1
    dropped = replace(slice_of([at(0, "u")]), verdicts=np.array([DUPLICATE], dtype=np.uint8))
    assert deduplicator.deduplicate(dropped) is dropped
    assert verdicts_of([at(0, "u")], deduplicator) == [STORED]


def test_numbers_with_holes_do_not_shield_from_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a venue whose numbers are not tracked, a row with a number is judged by its id."""
    venue = replace(VENUES["k2"], name="holes", mode=SequenceMode.MONOTONIC)
    monkeypatch.setitem(VENUES, "holes", venue)
    piece = slice_of([Row(1, trade_id="t"), Row(1, trade_id="t")], venue="holes")
    assert GroupDeduplicator(WINDOW).deduplicate(piece).verdicts.tolist() == [STORED, DUPLICATE]
    assert piece.verdicts.tolist() == [STORED, STORED]


def test_another_window_takes_up_the_ids() -> None:
    """After the setting changed, ids held are judged by the new window."""
    held = GroupDeduplicator(WINDOW)
    verdicts_of([at(1_000), at(1_150)], held)
    state = held.snapshot()
    longer, shorter = GroupDeduplicator(10 * WINDOW, state), GroupDeduplicator(WINDOW // 10, state)
    assert verdicts_of([at(2_150)], longer) == [DUPLICATE]
    assert (verdicts_of([at(1_161)], shorter), verdicts_of([at(1_152)], shorter)) == ([STORED], [DUPLICATE])


def builtin(value: object) -> bool:
    """Tell whether a value is made of builtins alone."""
    if isinstance(value, dict):
        return all(builtin(key) and builtin(item) for key, item in value.items())
    if isinstance(value, list):
        return all(builtin(item) for item in value)
    return type(value) in {int, str, bytes}


def test_a_snapshot_is_builtins_and_stays_as_it_was() -> None:
    """Nothing of ours or NumPy's is in a snapshot, and later rows do not reach it."""
    deduplicator = GroupDeduplicator(WINDOW)
    verdicts_of([at(0), at(1, "u", "y")], deduplicator)
    state = deduplicator.snapshot()
    before = pickle.dumps(state)
    verdicts_of([at(2, "v"), at(900, "w")], deduplicator)
    assert builtin(state)
    assert pickle.dumps(state) == before


def test_a_foreign_format_is_refused() -> None:
    """State of another version stops the job instead of being misread."""
    with pytest.raises(StateError, match="format 2"):
        GroupDeduplicator(WINDOW, {**GroupDeduplicator(WINDOW).snapshot(), "format": 2})

"""Deduplication by id, in both its forms, against a list of all stored trades and a table of cases."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.dedup.deduplicator import GroupDeduplicator
from k2.dedup.window import CONFIRMATIONS, Window, rules_for, settled
from k2.model.batch import NULL_TIME, TradeSlice
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.state_source import Reach
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.venues import VENUES, SequenceMode
from tests.model.trade_slices import Row, slice_of, stored_ids

WINDOW = 100
DAY_US = 86_400 * 1_000_000


class Form(Protocol):
    """The interface of both forms."""

    def __len__(self) -> int: ...

    def deduplicate(self, piece: TradeSlice) -> TradeSlice: ...  # noqa: D102


class Plain:
    """The specification, row by row over slices of trades without a number."""

    def __init__(self, window_us: int) -> None:
        self.window = Window(rules_for(window_us))

    def __len__(self) -> int:
        return len(self.window)

    def deduplicate(self, piece: TradeSlice) -> TradeSlice:
        """Mark the duplicates among the rows with an id."""
        columns, source = piece.batch.columns, piece.batch.source
        verdicts = piece.verdicts.copy()
        for row in range(len(columns)):
            trade_id, at = columns.trade_id(row), int(source.kafka_timestamps[row])
            at = int(columns.timestamps[row]) if at == NULL_TIME else at
            name = (columns.name(row), trade_id)
            parts = columns.prices[row], columns.quantities[row], columns.sides[row]
            if trade_id is not None:
                content = [part.tolist() for part in parts]
                verdicts[row] = self.window.judge((source.topic, source.partition), name, at, content)
        return replace(piece, verdicts=verdicts)


both_forms = pytest.mark.parametrize("make", [Plain, GroupDeduplicator])
Make = Callable[[int], Form]


def at(kafka_timestamp: int, trade_id: str | None = "t", symbol: str = "x", exchange: str = "a") -> Row:
    """Return a trade without a number."""
    return Row(None, 0, symbol, exchange, trade_id, kafka_timestamp)


def verdicts_of(rows: list[Row], deduplicator: Form | None = None, partition: int = 0) -> list[int]:
    """Deduplicate rows as one slice."""
    deduplicator = GroupDeduplicator(WINDOW) if deduplicator is None else deduplicator
    verdicts: list[int] = deduplicator.deduplicate(slice_of(rows, partition=partition)).verdicts.tolist()
    return verdicts


def confirmed(make: Make, reached: int, partition: int = 0) -> Form:
    """Return a form whose clock has been confirmed at a time."""
    deduplicator = make(WINDOW)
    verdicts_of([at(reached, f"c{number}", "clock") for number in range(CONFIRMATIONS)], deduplicator, partition)
    return deduplicator


@both_forms
def test_the_first_of_an_id_is_not_a_duplicate(make: Make) -> None:
    """A trade whose id was never seen is stored, whatever its time."""
    deduplicator = make(WINDOW)
    for time in (0, 1_000, 500, 2**61):
        assert verdicts_of([at(time, str(time))], deduplicator) == [STORED]


CASES: list[tuple[list[Row], list[int]]] = [
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
    ([at(NULL_TIME), at(NULL_TIME), at(WINDOW), at(WINDOW + 1)], [STORED, DUPLICATE, DUPLICATE, STORED]),
    ([Row(None, 500, "x", "a", "t", time) for time in (NULL_TIME, 600, 601)], [STORED, DUPLICATE, STORED]),
    ([at(0), at(50, "n"), at(250, "n"), at(150)], [STORED, STORED, STORED, STORED]),
    ([at(100), at(300, "n"), at(199)], [STORED, STORED, DUPLICATE]),
    ([at(0), at(0)._replace(timestamp=77)], [STORED, DUPLICATE]),
    *(
        (
            [at(0), at(0)._replace(**other), at(0), at(WINDOW + 1)._replace(**other)],
            [STORED, CONFLICT, DUPLICATE, STORED],
        )
        for other in ({"price": 2}, {"quantity": 2}, {"side": 1})
    ),
]


@both_forms
@pytest.mark.parametrize(("rows", "verdicts"), CASES)
def test_a_duplicate_within_the_window(make: Make, rows: list[Row], verdicts: list[int]) -> None:
    """An id is a duplicate up to a window before or after a stored one with equal content; a time is not content."""
    assert verdicts_of(rows, make(WINDOW)) == verdicts


@both_forms
@pytest.mark.parametrize(
    ("later", "verdict"), [(WINDOW, DUPLICATE), (WINDOW + 1, STORED), (2 * WINDOW, STORED), (9 * WINDOW, STORED)]
)
def test_an_expired_id_is_stored_again(make: Make, later: int, verdict: int) -> None:
    """An id is stored again after more than a window, and then has the later time."""
    deduplicator = confirmed(make, 1_000)
    assert verdicts_of([at(1_000)], deduplicator) == [STORED]
    verdicts_of([at(1_000 + later, f"n{n}") for n in range(CONFIRMATIONS)], deduplicator)
    assert verdicts_of([at(1_000 + later), at(1_000 + later)], deduplicator) == [verdict, DUPLICATE]


@both_forms
def test_periodic_clean_up(make: Make) -> None:
    """Ids of a partition expire once it is two windows ahead, those of silent symbols too, bucket by bucket."""
    deduplicator = confirmed(make, 1_000)
    verdicts_of([at(1_000 + number, str(number), f"S{number}") for number in range(50)], deduplicator)
    assert len(deduplicator) == CONFIRMATIONS + 50
    verdicts_of([at(1_100, "n")], deduplicator)
    held = []
    for time in range(1_200, 1_251):
        verdicts_of([at(time, "n")], deduplicator)
        held.append(len(deduplicator))
    assert held == [CONFIRMATIONS + 51, *range(51, 1, -1)]


def test_periodic_clean_up_runs_at_least_every_ten_minutes() -> None:
    """With a window of a day, no id is held more than ten minutes of Kafka time longer than necessary."""
    deduplicator, minute = GroupDeduplicator(DAY_US), 60 * 1_000_000
    start = 10 * DAY_US
    verdicts_of([at(start, f"c{number}") for number in range(CONFIRMATIONS)], deduplicator)
    for step in range(1, 2 * 24 * 60, 60):
        verdicts_of([at(start + step * minute, str(step))], deduplicator)
    assert len(deduplicator) == CONFIRMATIONS + 48
    verdicts_of([at(start + 2 * DAY_US + 10 * minute, "n")], deduplicator)
    assert len(deduplicator) == 48


@both_forms
def test_10_000_and_more_entries(make: Make) -> None:
    """Each of many ids is found again, and no id is taken for another."""
    count = 2_000 if make is Plain else 50_000
    rows = [at(number % WINDOW, f"id-{number}", f"S{number % 7}") for number in range(count)]
    deduplicator = make(WINDOW)
    assert verdicts_of(rows, deduplicator) == [STORED] * count
    assert len(deduplicator) == count
    if make is GroupDeduplicator:
        assert verdicts_of(rows[::-1], deduplicator) == [DUPLICATE] * count
    assert verdicts_of([row._replace(symbol="T") for row in rows[:500]], deduplicator) == [STORED] * 500


@both_forms
@pytest.mark.parametrize("window_us", [1, 143, 10_000_000, DAY_US, 10**18, 2**63])
def test_window_setting(make: Make, window_us: int) -> None:
    """Any window is exact to the microsecond."""
    last = min(window_us, 2**60)
    rows = [at(5), at(5 + last), at(6 + last, "n"), at(6 + last)]
    assert verdicts_of(rows, make(window_us)) == [STORED, DUPLICATE, STORED, STORED]


def test_a_changed_window_setting_keeps_the_ids() -> None:
    """After the setting changed, clocks continue and the table's ids are judged by the new window."""
    held = confirmed(GroupDeduplicator, 1_000)
    assert isinstance(held, GroupDeduplicator)
    table = stored_ids([at(1_000), at(1_150)], reached=0)
    for window, time, verdict in [
        (10 * WINDOW, 2_150, DUPLICATE),
        (WINDOW // 10, 1_161, STORED),
        (WINDOW // 10, 1_152, DUPLICATE),
    ]:
        other = GroupDeduplicator(window, held.snapshot())
        other.absorb([table])
        assert verdicts_of([at(time)], other) == [verdict]


def by_the_rule(rows: list[Row], window: int) -> list[int]:
    """Judge rows against the list of all stored trades."""
    stored = list[Row]()
    verdicts = []
    for row in rows:
        name = row.exchange, row.symbol, row.trade_id
        twins = [one for one in stored if (one.exchange, one.symbol, one.trade_id) == name]
        prices = {one.price for one in twins if abs(one.kafka_timestamp - row.kafka_timestamp) <= window}
        if row.trade_id is None or not prices:
            stored.append(row)
            verdicts.append(STORED)
        else:
            verdicts.append(DUPLICATE if row.price in prices else CONFLICT)
    return verdicts


IDS = st.sampled_from(["1", "2", "3", "Ü", None])
NAMES = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, list[Row]]:
    """Generate a window, and rows at most that much older than the newest before them."""
    window = draw(st.sampled_from([1, 5, 24, 100]))
    step = st.tuples(st.integers(0, window), st.integers(0, window), IDS, NAMES, st.integers(1, 2), st.integers(0, 9))
    clock, rows = 1_000, list[Row]()
    for forward, back, trade_id, (exchange, symbol), price, timestamp in draw(st.lists(step, max_size=40)):
        clock += forward
        rows.append(at(clock - back, trade_id, symbol, exchange)._replace(price=price, timestamp=timestamp))
    return window, rows


@given(streams(), st.lists(st.integers(0, 40), max_size=4), st.sampled_from(["never", "kept", "lost"]))
def test_exact_within_the_window(stream: tuple[int, list[Row]], cuts: list[int], store: str) -> None:
    """Up to a window of disorder, verdicts follow the rule, however cut, over restarts with clocks kept or lost."""
    window, rows = stream
    deduplicator, verdicts = GroupDeduplicator(window), list[int]()
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        if store != "never":
            deduplicator = restarted(deduplicator, window, rows[:start], verdicts, is_lost=store == "lost")
        verdicts += verdicts_of(rows[start:end], deduplicator)
    assert verdicts == by_the_rule(rows, window)


def restarted(
    before: GroupDeduplicator, window: int, rows: list[Row], verdicts: list[int], *, is_lost: bool
) -> GroupDeduplicator:
    """Restart from the rows in the table, with or without a recovery store."""
    state = None if is_lost else pickle.loads(pickle.dumps(before.snapshot()))  # noqa: S301
    stored = [
        row for row, verdict in zip(rows, verdicts, strict=True) if verdict == STORED and row.trade_id is not None
    ]
    last_times = [row.kafka_timestamp for row in stored[-CONFIRMATIONS:]]
    after = GroupDeduplicator(window, state)
    after.absorb([stored_ids(stored, settled(last_times, rules_for(window)))])
    return after


@given(st.lists(st.tuples(st.integers(0, 600), IDS), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_cuts_change_no_verdict_under_any_disorder(rows: list[tuple[int, str | None]], cuts: list[int]) -> None:
    """Rows much older than the window get the same verdicts in one slice as in many."""
    rows_at = [at(time, trade_id) for time, trade_id in rows]
    deduplicator, verdicts = GroupDeduplicator(WINDOW), list[int]()
    bounds = [0, *sorted(cut % (len(rows_at) + 1) for cut in cuts), len(rows_at)]
    for start, end in pairwise(bounds):
        verdicts += verdicts_of(rows_at[start:end], deduplicator)
    assert verdicts == verdicts_of(rows_at)


@both_forms
def test_partitions_share_ids_but_not_clocks(make: Make) -> None:
    """A symbol's copy in another partition is found; a partition far ahead expires no ids of others."""
    deduplicator = confirmed(make, 1_000)
    verdicts_of([at(1_000)], deduplicator)
    verdicts_of([at(9_000, f"n{number}", "y") for number in range(CONFIRMATIONS)], deduplicator, partition=1)
    assert verdicts_of([at(1_050)], deduplicator, partition=0) == [DUPLICATE]
    assert verdicts_of([at(1_050)], deduplicator, partition=2) == [DUPLICATE]


@both_forms
def test_one_wrong_time_makes_no_id_too_old(make: Make) -> None:
    """Single times far ahead move no clock, however many occur; a hundred in succession do (as after a weekend)."""
    deduplicator = make(WINDOW)
    for start in range(300):
        far = [at(9_000_000 + start, f"far {start}")] * (start % 3)
        assert verdicts_of([*far, at(start, f"near {start}")], deduplicator)[-1] == STORED
        assert verdicts_of([at(start, f"near {start}")], deduplicator) == [DUPLICATE]
    held = len(deduplicator)
    verdicts_of([at(9_000_000, str(number)) for number in range(CONFIRMATIONS)], deduplicator)
    assert len(deduplicator) < held
    assert verdicts_of([at(9_000_001, "far 1"), at(9_000_001, "0")], deduplicator) == [DUPLICATE, DUPLICATE]


@both_forms
def test_an_id_too_old_to_be_judged_is_not_held(make: Make) -> None:
    """A trade far behind its partition is stored, and takes no memory."""
    deduplicator = confirmed(make, 1_000)
    held = len(deduplicator)
    assert verdicts_of([at(0), at(0)], deduplicator) == [STORED] * 2
    assert len(deduplicator) == held


def test_tracked_and_settled_rows_are_not_judged() -> None:
    """A row with a tracked number is never dropped by its id, and an id that was dropped earlier is not held."""
    deduplicator = GroupDeduplicator(WINDOW)
    piece = slice_of([Row(1, trade_id="t"), Row(2, trade_id="t"), Row(None, trade_id="t")])
    assert deduplicator.deduplicate(piece).verdicts.tolist() == [STORED] * 3
    assert len(deduplicator) == 1
    dropped = replace(slice_of([at(0, "u")]), verdicts=np.array([DUPLICATE], dtype=np.uint8))
    assert deduplicator.deduplicate(dropped) is dropped
    assert verdicts_of([at(0, "u")], deduplicator) == [STORED]


def test_rows_with_untracked_numbers_are_judged_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a venue whose numbers are not tracked, a row with a number is judged by its id."""
    venue = replace(VENUES["k2"], name="holes", mode=SequenceMode.MONOTONIC)
    monkeypatch.setitem(VENUES, "holes", venue)
    piece = slice_of([Row(1, trade_id="t"), Row(1, trade_id="t")], venue="holes")
    assert GroupDeduplicator(WINDOW).deduplicate(piece).verdicts.tolist() == [STORED, DUPLICATE]
    assert piece.verdicts.tolist() == [STORED, STORED]


def builtin(value: object) -> bool:
    """Return whether a value consists only of builtins."""
    if isinstance(value, dict):
        return all(builtin(key) and builtin(item) for key, item in value.items())
    if isinstance(value, list):
        return all(builtin(item) for item in value)
    return type(value) in {int, str, bytes}


def test_a_snapshot_consists_of_builtins_and_does_not_change() -> None:
    """A snapshot has no classes of k2 or NumPy, and later rows do not change it."""
    deduplicator = GroupDeduplicator(WINDOW)
    verdicts_of([at(0), at(1, "u", "y")], deduplicator)
    state = deduplicator.snapshot()
    before = pickle.dumps(state)
    verdicts_of([at(2, "v"), at(900, "w")], deduplicator)
    assert builtin(state)
    assert pickle.dumps(state) == before


def test_a_snapshot_has_no_ids() -> None:
    """What each epoch rewrites grows only with the partitions, under 100 bytes each, not with the ids."""
    deduplicator = GroupDeduplicator(WINDOW)
    empty_bytes = len(pickle.dumps(deduplicator.snapshot()))
    verdicts_of([at(0, str(number)) for number in range(10_000)], deduplicator)
    for partition in range(1, 20):
        verdicts_of([at(2**50, "x")], deduplicator, partition)
    assert len(pickle.dumps(deduplicator.snapshot())) - empty_bytes < 20 * 100


def test_an_unknown_format_is_rejected() -> None:
    """State of another version stops the job instead of being misread."""
    with pytest.raises(StateError) as caught:
        GroupDeduplicator(WINDOW, {**GroupDeduplicator(WINDOW).snapshot(), "format": 1})
    assert str(caught.value) == (
        "the recovery store's ids have format 1; this version reads 2: run the version that wrote it, or start without"
        " that store to rebuild the state"
    )


def test_positions_and_clocks_are_those_of_each_partition() -> None:
    """The offset after the last row judged, and the clock, are the same before and after a restart."""
    deduplicator = GroupDeduplicator(WINDOW)
    deduplicator.deduplicate(slice_of([at(50), at(40, "u")], first_offset=5))
    deduplicator.deduplicate(slice_of([at(7, "v"), at(900, "w")], topic="more", partition=7, first_offset=9))
    one, other = TopicPartition("trades", 0), TopicPartition("more", 7)
    for state in (deduplicator, GroupDeduplicator(WINDOW, deduplicator.snapshot())):
        assert state.positions == {one: 7, other: 11}
        assert state.clocks == {one: Reach(50, 50), other: Reach(7, 900)}


def test_ids_of_a_partition_can_be_absorbed_in_parts() -> None:
    """An unknown clock is set from the table, a known one stays, and no part makes ids of another expire."""
    here, parts = TopicPartition("trades", 0), [stored_ids([at(990, name)], reached=1_000) for name in ("t", "u")]
    lost, kept = GroupDeduplicator(WINDOW), confirmed(GroupDeduplicator, 970)
    for deduplicator, reach in ((lost, Reach(1_000, 990)), (kept, Reach(970, 990))):
        assert isinstance(deduplicator, GroupDeduplicator)
        deduplicator.absorb(parts)
        assert deduplicator.clocks == {here: reach}
        assert verdicts_of([at(990), at(990, "u")], deduplicator) == [DUPLICATE, DUPLICATE]


@pytest.mark.parametrize(
    ("time", "then", "verdict"),
    [
        (-5, WINDOW, DUPLICATE),
        (-5, WINDOW + 1, STORED),
        (2**61 + 500, 2**61, DUPLICATE),
        (2**61 + 500, 2**61 - WINDOW - 1, STORED),
    ],
)
def test_times_are_clamped_to_the_valid_range(time: int, then: int, verdict: int) -> None:
    """Times before the epoch count as the epoch, those too late as the latest, both in rows and in the table."""
    assert verdicts_of([at(time), at(then)]) == [STORED, verdict]
    deduplicator = GroupDeduplicator(WINDOW)
    deduplicator.absorb([stored_ids([at(time)], reached=0)])
    assert verdicts_of([at(then)], deduplicator) == [verdict]

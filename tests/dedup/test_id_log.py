"""The id log of the window against its specification, and its memory per id."""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core import config

from k2.dedup.id_log import ClockState, IdLog
from k2.dedup.trade_id_hash import TradeIdHasher, siphash
from k2.dedup.window import BUCKETS, Clock, Window, WindowRules, rules_for, settled
from k2.model.symbols import Symbols, as_bytes

RULES = WindowRules(window_us=20, bucket_us=4, confirmations=3)
Stored = tuple[int, ...]
"""The index of a topic partition, an id hash, and a time; and a content if it is not 0."""


class Logs:
    """Logs of some topic partitions, one for each symbol, fed row by row or many rows at once."""

    def __init__(self, rules: WindowRules) -> None:
        self.rules = rules
        self.logs: dict[int, IdLog] = {}

    def judge(self, source: int, rows: Sequence[Stored]) -> list[int]:
        """Judge rows of one partition."""
        symbols, id_keys, times = columns(rows)
        verdicts = np.zeros(len(rows), dtype=np.uint8)
        own = self.logs.setdefault(source, IdLog(self.rules))
        for log in self.logs.values():
            if log is not own:
                log.mark(symbols, id_keys, times, verdicts)
        own.judge(symbols, id_keys, times, verdicts)
        found: list[int] = verdicts.tolist()
        return found

    def __len__(self) -> int:
        return sum(map(len, self.logs.values()))


def columns(
    rows: Sequence[Stored],
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.int32]],
    np.ndarray[tuple[int, int], np.dtype[np.int64]],
    np.ndarray[tuple[int], np.dtype[np.int64]],
]:
    """Return rows as columns; the ids share their low words in pairs, and all ids are in few hash chains."""
    id_keys = np.array([[row[1] // 2, row[1], sum(row[3:])] for row in rows], dtype=np.int64).reshape(-1, 3)
    times = np.array([row[2] for row in rows], dtype=np.int64)
    return np.array([row[1] % 2 for row in rows], dtype=np.int32), id_keys, times


@st.composite
def streams(draw: st.DrawFn) -> list[Stored]:
    """Generate rows of three partitions, whose times advance, jump ahead for some rows or for good, and fall back."""
    clocks, rows = [1_000, 1_000, 1_500], list[Stored]()
    steps = st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from([0, 1, 3, 21, 45]), st.integers(0, 50))
    for source, identity, forward, back in draw(st.lists(steps, max_size=60)):
        clocks[source] += forward
        far = draw(st.sampled_from([0, 0, 0, 0, 100, 10_000]))
        content = draw(st.sampled_from([1, 1, 1, 2**32 - 1]))
        rows.append((source, identity, max(clocks[source] - back * (back > 35) + far, 0), content))
    return rows


def by_slice(rows: list[Stored], cuts: list[int]) -> list[list[Stored]]:
    """Cut rows at the given indexes, and where the partition changes."""
    bounds = {0, len(rows), *(cut for cut in cuts if cut < len(rows))}
    bounds |= {place for place in range(1, len(rows)) if rows[place][0] != rows[place - 1][0]}
    return [rows[start:end] for start, end in pairwise(sorted(bounds))]


@given(streams(), st.lists(st.integers(0, 59), max_size=6))
def test_the_log_agrees_with_the_specification(rows: list[Stored], cuts: list[int]) -> None:
    """For any rows and cuts, verdicts, clocks and ids of the compiled form are those of the plain form."""
    window, logs, clocks = Window(RULES), Logs(RULES), dict[int, Clock]()
    for piece in by_slice(rows, cuts):
        source = piece[0][0]
        found = logs.judge(source, piece)
        assert found == [window.judge(*row) for row in piece]
        clock = clocks.setdefault(source, Clock())
        for row in piece:
            clock.advance(row[2], RULES)
        assert (clock.reached, clock.ahead) == logs.logs[source].clock[::2]
        assert len(window) <= len(logs)


@given(streams(), st.integers(0, 60), st.booleans())
def test_a_window_rebuilt_from_stored_rows_gives_the_same_verdicts(
    rows: list[Stored],
    cut: int,
    shuffled: bool,  # noqa: FBT001
) -> None:
    """Later verdicts depend only on clocks and stored rows: the state need not contain ids."""
    window, logs, rebuilt = Window(RULES), Logs(RULES), Logs(RULES)
    stored = [row for row in rows[:cut] if not window.judge(*row)]
    for piece in by_slice(rows[:cut], []):
        logs.judge(piece[0][0], piece)
    for source, log in logs.logs.items():
        own = [row for row in stored if row[0] == source]
        rebuilt.logs[source] = IdLog(RULES, log.clock)
        rebuilt.logs[source].absorb(*columns(own[::-1] if shuffled else own))
    for piece in by_slice(rows[cut:], []):
        assert rebuilt.judge(piece[0][0], piece) == logs.judge(piece[0][0], piece)


@given(streams(), st.integers(0, 60))
def test_a_clock_from_the_table_is_never_ahead(rows: list[Stored], cut: int) -> None:
    """A clock made only from the last stored rows expires no id that the clock over all rows would keep."""
    window, clock = Window(RULES), Clock()
    own = [row for row in rows[:cut] if row[0] == 0]
    stored = []
    for row in own:
        clock.advance(row[2], RULES)
        if not window.judge(*row):
            stored.append(row[2])
    # Copies in between may have delayed the clock; they are not in the table.
    if len(stored) == len(own):
        assert settled(stored[-RULES.confirmations :], RULES) <= clock.reached


@pytest.mark.parametrize(
    ("times", "reached"),
    [([], 0), ([50, 60], 0), ([60, 50, 70], 50), ([60, 9_000, 61], 60)],
)
def test_settled_cases(times: list[int], reached: int) -> None:
    """Fewer rows than confirm a clock settle nothing; one wrong time among them changes little."""
    assert settled(times, RULES) == reached


def test_a_jump_of_the_clock_keeps_the_ids_that_were_ahead() -> None:
    """Rows with a new time before it is confirmed are held once it is, also if late rows are between them."""
    logs = Logs(RULES)
    rows = [(0, number, 100 + number % 3) for number in range(100, 130)]
    ahead = [(0, 1, 5_000), (0, 2, 100), (0, 3, 5_001), (0, 4, 5_001), (0, 5, 5_002)]
    assert not any(logs.judge(0, [(0, 9, 80), *rows, *ahead]))
    assert logs.logs[0].clock == ClockState(5_002, 5_002, 0)
    assert len(logs) == 4
    again = logs.judge(0, [*ahead, (0, 100, 100)])
    assert again == [True, False, True, True, True, False]


def test_an_expired_id_is_not_found_while_it_is_in_memory() -> None:
    """A late row's id, which is removed with the rows around it, counts only as long as its own time allows."""
    rows = [(0, 10 + number, 100) for number in range(3)] + [
        (0, 1, 64),
        (0, 1, 70),
        (0, 2, 110),
        (0, 1, 70),
        (0, 3, 65),
    ]
    window, logs = Window(RULES), Logs(RULES)
    assert logs.judge(0, rows) == [False, False, False, False, True, False, False, False]
    assert [window.judge(*row) for row in rows] == [False, False, False, False, True, False, False, False]
    assert (len(window), len(logs)) == (5, 6)


def test_one_time_far_ahead_delays_no_other_expiry() -> None:
    """An id with a wrong time is held until that time comes; those around it expire by buckets."""
    logs = Logs(RULES)
    logs.judge(0, [(0, number, 10) for number in range(3)])
    for at in range(10, 2_000):
        logs.judge(0, [(0, 10 + at, at)] + [(0, 5, 10_000)] * (at == 50))
        assert len(logs) <= 2 * RULES.window_us + 2 * RULES.bucket_us + 4
    assert logs.judge(0, [(0, 5, 10_001)]) == [True]


def test_ids_from_the_table_expire_at_their_own_times() -> None:
    """Absorbed ids, in whatever order, expire as if they had been judged when they arrived."""
    log = IdLog(RULES, ClockState(1_000, 1_000, 0))
    log.absorb(*columns([(0, at, at) for at in [*range(980, 1_001), *range(900, 980)]]))
    held = [len(log)]
    for at in range(1_001, 1_045):
        log.judge(*columns([(0, 1, at)]), np.ones(1, dtype=np.uint8))
        held.append(len(log))
    assert held == [
        1_000 - floor + 1 if floor <= 1_000 else 0 for floor in (RULES.floor(at) for at in range(1_000, 1_045))
    ]


def test_no_entry_is_lost_when_numbers_wrap_or_capacities_change() -> None:
    """Ids are found beyond 2^32 entries, whatever grows, shrinks and wraps in between."""
    rules = WindowRules(window_us=1_000, bucket_us=10, confirmations=1)
    log = IdLog(rules, ClockState(5_000, 5_000, 0))
    log._log.state[:2] = 2**32 - 40
    for start in range(0, 3_000, 300):
        rows = [(0, start + number, 5_000 + start + number) for number in range(300)]
        for wanted in (False, True):
            stored = np.zeros(300, dtype=np.uint8)
            log.judge(*columns(rows), stored)
            assert stored.tolist() == [wanted] * 300
    size_bytes = log.size_bytes
    log.judge(*columns([(0, 1, 50_000)]), np.zeros(1, dtype=np.uint8))
    log.judge(*columns([(0, 2, 50_000)]), np.zeros(1, dtype=np.uint8))
    assert len(log) == 2
    assert log.size_bytes < size_bytes


@pytest.mark.parametrize(
    ("count", "entries", "heads"), [(1, 64, 64), (64, 64, 64), (65, 81, 128), (128, 160, 128), (1_000, 1_250, 1_024)]
)
def test_capacity_grows_by_a_quarter(count: int, entries: int, heads: int) -> None:
    """There is capacity for a quarter more entries than exist, and a power of two of chains, at least one for each."""
    log = IdLog(rules_for(1_000))
    log.absorb(*columns([(0, number, 5) for number in range(count)]))
    assert (len(log), log._log.entries.shape, log._log.heads.shape) == (count, (entries, 4), (heads,))


def test_an_id_costs_less_than_50_bytes() -> None:
    """With a million ids, the memory of the process is bounded, and agrees with what the log reports."""
    # Uncompiled, a million takes minutes, and fewer ids cost the same each.
    count, piece = 40_000 if config.DISABLE_JIT else 1_000_000, 20_000
    rng = np.random.default_rng(7)
    symbols, log = np.zeros(piece, dtype=np.int32), IdLog(rules_for(10**15))
    tracemalloc.start()
    for start in range(0, count, piece):
        id_keys = rng.integers(0, 2**32, (piece, 3), dtype=np.int64)
        stored = np.zeros(piece, dtype=np.uint8)
        log.judge(symbols, id_keys, np.arange(start, start + piece), stored)
        assert not stored.any()
    del id_keys
    held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log) == count
    assert log.size_bytes <= held_bytes * 1.01
    assert held_bytes / count < 50
    assert peak_bytes / count < 90


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (0, "a3817f04ba25a8e66df67214c7550293"),
        (1, "da87c1d86b99af44347659119b22fc45"),
        (7, "a1f1ebbed8dbc153c0b84aa61ff08239"),
        (8, "3b62a9ba6258f5610f83e264f31497b4"),
        (15, "5493e99933b0a8117e08ec0f97cfc3d9"),
    ],
)
def test_the_hash_is_siphash(size: int, digest: str) -> None:
    """Vectors of the reference implementation: key 00 01 .. 0f, inputs 00 01 .. of each length."""
    key = np.frombuffer(bytes(range(16)), dtype="<u8")
    # Surrounded by other bytes: only the range counts.
    text = np.frombuffer(b"\xaa" + bytes(range(size)) + b"\xbb" * 9, dtype=np.uint8)
    assert np.array(siphash(key[0], key[1], text, 1, size), dtype="<u8").tobytes().hex() == digest


def test_hashes_distinguish_names_and_ids() -> None:
    """Names and ids that differ, if only in where one ends, have different hashes; another key gives others."""
    names = [("a", "xb"), ("ax", "b"), ("a", "x"), ("A", "x")]
    ids = ["c", "bc", "", "\x00", "\x00\x00", "c" * 8, "c" * 9]
    registry = Symbols()
    symbols = np.repeat([registry.intern(*name) for name in names], len(ids)).astype(np.int32)
    sizes = np.tile([len(one) for one in ids], len(names)).astype(np.int32)
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    text = as_bytes("".join(ids) * len(names))
    found = TradeIdHasher(registry, bytes(range(16))).of(text, starts, sizes, symbols)
    assert len(np.unique(found, axis=0)) == len(symbols)
    other = TradeIdHasher(registry, bytes(16)).of(text, starts, sizes, symbols)
    assert not (found == other).any()


def test_buckets_are_ten_minutes_of_a_day() -> None:
    """With a window of a day, ids expire at least every 10 minutes of Kafka time."""
    rules = rules_for(86_400 * 1_000_000)
    assert rules.bucket_us == 600 * 1_000_000
    assert rules.bucket_us * BUCKETS == rules.window_us

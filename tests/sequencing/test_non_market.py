"""Numbers of non-market trades: seen by the tracker, never stored, and known again after any loss of state."""

import pickle
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import TradeSlice
from k2.model.content import NON_MARKET_CONTENT
from k2.model.progress import PartitionProgress, TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Ledger, SessionKey, StoredSession
from k2.model.verdicts import CONFLICT, SKIPPED, STORED
from k2.sequencing.effective_time import effective_time
from k2.sequencing.non_market import NonMarketNumbers, joined
from k2.sequencing.owed_events import owed_events
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracker import GroupTracker
from k2.venues.decode import decode
from k2.venues.slices import split
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.stored_rows import StoredRows
from tests.sequencing.streams import bounded, streams
from tests.sequencing.test_owed_events import doubts_of, table_of
from tests.venues.messages import batch_of
from tests.venues.test_recorded_venues import message

MIN, MAX = -(2**63), 2**63 - 1
HERE = TopicPartition("trades", 0)


def marked_slice(rows: list[Row], non_market: list[bool], first_offset: int = 0) -> TradeSlice:
    """Return a slice in which some rows are non-market trades."""
    piece = slice_of(rows, first_offset=first_offset)
    return replace(piece, verdicts=np.where(non_market, SKIPPED, STORED).astype(np.uint8))


def test_a_non_market_number_is_no_gap() -> None:
    """It continues the numbering and is not stored, at the start, between trades, in a gap and as a copy."""
    rows = [Row(1, 1), Row(2, 2), Row(3, 3), Row(6, 6), Row(5, 6), Row(5, 6), Row(4, 6)]
    tracked = GroupTracker().track(marked_slice(rows, [True, False, True, False, True, True, False]))
    assert tracked.trade_slice.verdicts.tolist() == [SKIPPED, STORED, SKIPPED, STORED, SKIPPED, SKIPPED, STORED]
    assert [(event.event, event.first_sequence, event.last_sequence) for event in tracked.events] == [
        (EventKind.SESSION_STARTED, 1, 1),
        (EventKind.GAP_OPENED, 4, 5),
        (EventKind.GAP_FILLED, 5, 5),
        (EventKind.GAP_FILLED, 4, 4),
    ]


def test_decoding_marks_the_rows_before_anything_is_said_of_them() -> None:
    """Whatever the key group of a row, it is skipped if it is a non-market trade."""
    values = [
        message("binance-futures", {"s": f"S{place}", "X": "ADL" if place % 3 else "MARKET"}) for place in range(9)
    ]
    decoded = decode(batch_of(values, "binance-futures"))
    pieces = split(decoded.trades, decoded.non_market)
    found = {
        int(row): int(verdict) for piece in pieces for row, verdict in zip(piece.rows, piece.verdicts, strict=True)
    }
    assert found == {place: SKIPPED if place % 3 else STORED for place in range(9)}
    assert (len(decoded.skipped), len(pieces) > 1) == (0, True)


def tracked_in_session(numbers: list[int], first_offset: int = 0, session: int = 1) -> TradeSlice:
    """Return non-market rows as the tracker leaves them; each row's time is its offset."""
    rows = [Row(number, place) for place, number in enumerate(numbers, first_offset)]
    piece = marked_slice(rows, [True] * len(rows), first_offset)
    return replace(piece, sessions=np.full(len(rows), session, dtype=np.int32))


@given(st.lists(st.one_of(st.integers(0, 20), st.sampled_from([MIN, MIN + 1, -1, MAX - 1, MAX])), max_size=20))
def test_what_is_kept_comes_back(numbers: list[int]) -> None:
    """Through the property's text, 64-bit extremes included, in the ranges of a plain set."""
    kept = NonMarketNumbers()
    kept.add(tracked_in_session(numbers), {})
    stored = [*NonMarketNumbers(kept.text()).sessions()]
    found = {number for one in stored for first, last in one.ranges for number in range(first, last + 1)}
    assert found == {*numbers}
    assert [(one.key, one.topic_partition, one.latest, one.earliest, one.offset) for one in stored] == [
        (SessionKey("kraken", "BTC-USD", 1), HERE, len(numbers) - 1, 0, len(numbers) - 1)
    ] * bool(numbers)


def test_a_replay_adds_nothing() -> None:
    """Rows below the writer's progress are known; new ones are returned once, for the next commit."""
    kept = NonMarketNumbers()
    assert not kept.take_change()
    kept.add(tracked_in_session([7, 8, 9], first_offset=4), {HERE: PartitionProgress(6)})
    assert kept.take_change()
    assert [one.ranges for one in NonMarketNumbers(kept.text()).sessions()] == [((9, 9),)]
    assert not kept.take_change()
    kept.add(slice_of([Row(10, 10)], first_offset=9), {HERE: PartitionProgress(6)})
    assert not kept.take_change()


def test_a_copy_changes_no_time_of_its_session() -> None:
    """A copy with an old time would otherwise make the session look older after a start from the table."""
    rows = [*(Row(number, number) for number in range(11, 20)), Row(15, 1), Row(16, 99)]
    kept, flags = NonMarketNumbers(), [number in {4, 5, 9, 10} for number in range(11)]
    kept.add(GroupTracker().track(marked_slice(rows, flags)).trade_slice, {})
    (stored,) = kept.sessions()
    assert (stored.ranges, stored.earliest, stored.latest) == (((15, 16),), 15, 16)


def test_numbers_kept_are_bounded() -> None:
    """Beyond the bound the lowest numbers of the longest session are dropped, and the others stay."""
    kept = NonMarketNumbers(ranges_max=11)
    kept.add(tracked_in_session(list(range(0, 40, 2))), {})
    kept.add(tracked_in_session([4], session=2), {})
    assert kept.take_change()
    [first, second] = NonMarketNumbers(kept.text()).sessions()
    assert first.ranges == tuple((number, number) for number in range(20, 40, 2))
    assert second.ranges == ((4, 4),)


@pytest.mark.parametrize("text", ["", "{}", '{"format":2,"sessions":[]}', '{"format":1,"sessions":[{}]}'])
def test_a_text_of_another_shape_is_refused(text: str) -> None:
    """Numbers that cannot be read do not count as no numbers."""
    with pytest.raises(
        ValueError,
        match=r"^(Input data was truncated|Object missing required field `\w+`|has format 2; this version reads 1)",
    ):
        NonMarketNumbers(text)


def test_a_text_of_earlier_versions_says_no_earliest_time() -> None:
    """The latest time is used instead."""
    where = '"exchange":"a","symbol":"x","session":2,"topic":"trades","partition":0,"offset":5'
    [stored] = NonMarketNumbers(f'{{"format":1,"sessions":[{{{where},"latest":70,"edges":[4,2]}}]}}').sessions()
    assert stored == StoredSession(SessionKey("a", "x", 2), ((4, 6),), 70, 70, HERE, 5)


def test_a_session_is_joined_from_rows_and_skipped_numbers() -> None:
    """Its ranges and earliest time cover both, its coordinates are the later ones, and sessions are ascending."""
    one, two = SessionKey("a", "x", 1), SessionKey("a", "x", 2)
    rows = [StoredSession(one, ((1, 3), (9, 9)), 50, 20, HERE, 5)]
    others = [StoredSession(two, ((1, 1),), 70, 70, HERE, 7), StoredSession(one, ((4, 4), (6, 6)), 60, 30, HERE, 6)]
    joint = StoredSession(one, ((1, 4), (6, 6), (9, 9)), 60, 20, HERE, 6)
    assert joined([*others, *rows]) == joined([*rows, *others]) == [joint, others[0]]


def count_missing(missing: Counter[tuple[SessionKey, int]], events: Iterable[SequenceEvent]) -> None:
    """Count each number up when it is opened, and down when it is filled."""
    signs = {EventKind.GAP_OPENED: 1, EventKind.GAP_FILLED: -1, EventKind.SESSION_STARTED: 0}
    for event in events:
        for number in range(event.first_sequence, event.last_sequence + 1):
            missing[SessionKey(event.exchange, event.symbol, event.session), number] += signs[event.event]


@given(
    bounded(),
    st.integers(0, 900),
    st.integers(0, 900),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.booleans(),
)
def test_a_start_from_the_tables_opens_no_gap_for_them(
    rows: list[Row],
    one: int,
    other: int,
    flags: list[bool],
    lost: bool,  # noqa: FBT001
) -> None:
    """Store at one cut or lost, table at a later one: verdicts do not change, and the ledger owes what is missing."""
    stored_at, committed_at = sorted((one % (len(rows) + 1), other % (len(rows) + 1)))
    flags = (flags * len(rows))[: len(rows)]
    whole, table, ledger = GroupTracker(), StoredRows(), Counter[tuple[SessionKey, int]]()
    first = whole.track(marked_slice(rows[:stored_at], flags[:stored_at]))
    snapshot = pickle.loads(pickle.dumps(whole.snapshot()))  # noqa: S301
    second = whole.track(marked_slice(rows[stored_at:committed_at], flags[stored_at:committed_at], stored_at))
    kept, pieces = NonMarketNumbers(), [first.trade_slice, second.trade_slice]
    for piece in pieces:
        kept.add(piece, {})
        table.add(piece)
    verdicts = [verdict for piece in pieces for verdict in piece.verdicts.tolist()]
    sessions = [session for piece in pieces for session in piece.sessions.tolist()]
    stored = joined([*table_of(rows[:committed_at], verdicts, sessions), *kept.sessions()])

    rebuilt = GroupTracker(None if lost else snapshot, read_contents=table.read)
    rebuilt.absorb(stored, {HERE: committed_at}, doubts_of(pieces))
    count_missing(ledger, owed_events(stored, rebuilt, Ledger(frozenset(), {})))
    expected = Counter[tuple[SessionKey, int]]()
    count_missing(expected, [*first.events, *second.events])
    assert +ledger == +expected
    replay = rebuilt.track(marked_slice(rows[stored_at:committed_at], flags[stored_at:committed_at], stored_at))
    assert not replay.events
    rest = marked_slice(rows[committed_at:], flags[committed_at:], committed_at)
    found, wanted = rebuilt.track(rest), whole.track(rest)
    assert (found.trade_slice.verdicts.tolist(), found.events) == (wanted.trade_slice.verdicts.tolist(), wanted.events)
    assert found.trade_slice.doubts == wanted.trade_slice.doubts


def by_the_plain_form(rows: list[Row], flags: list[bool]) -> tuple[list[int], list[int]]:
    """Return verdicts and sessions by the specification."""
    sequences, verdicts, sessions = defaultdict[object, SymbolSequence](SymbolSequence), list[int](), list[int]()
    for row, is_non_market in zip(rows, flags, strict=True):
        if row.sequence is None:
            verdicts.append(SKIPPED if is_non_market else STORED)
            sessions.append(0)
            continue
        is_named = row.trade_id not in {None, str(row.sequence)} and not is_non_market
        content = 2 + hash((row.price, row.trade_id if is_named else None)) % 2**40
        at = effective_time(row.timestamp, row.kafka_timestamp)
        of = sequences[row.exchange, row.symbol]
        placement = of.place(row.sequence, at, NON_MARKET_CONTENT if is_non_market else content, is_named=is_named)
        verdicts.append(SKIPPED if is_non_market else placement.verdict)
        sessions.append(placement.session if verdicts[-1] != SKIPPED or placement.verdict == STORED else 0)
    return verdicts, sessions


@given(streams(), st.lists(st.booleans(), min_size=40, max_size=40), st.integers(0, 900))
def test_non_market_numbers_are_placed_as_the_plain_form_places_them(
    rows: list[Row], flags: list[bool], cut: int
) -> None:
    """All of them have the same content, so one sent again is a copy; in conflict with a trade, none is set aside."""
    flags = (flags * len(rows))[: len(rows)]
    tracker, verdicts, sessions = GroupTracker(), list[int](), list[int]()
    cut %= len(rows) + 1
    for start, end in ((0, cut), (cut, len(rows))):
        piece = tracker.track(marked_slice(rows[start:end], flags[start:end], start)).trade_slice
        verdicts += piece.verdicts.tolist()
        sessions += piece.sessions.tolist()
    assert (verdicts, sessions) == by_the_plain_form(rows, flags)


def test_a_trade_under_a_non_market_number_is_a_conflict() -> None:
    """The reverse is skipped: neither opens a gap or starts a session."""
    rows = [*(Row(number, number) for number in range(1, 6)), Row(2, 9), Row(4, 9)]
    tracked = GroupTracker().track(marked_slice(rows, [False, True, False, False, False, False, True]))
    assert tracked.trade_slice.verdicts.tolist() == [STORED, SKIPPED, STORED, STORED, STORED, CONFLICT, SKIPPED]
    assert [event.event for event in tracked.events] == [EventKind.SESSION_STARTED]

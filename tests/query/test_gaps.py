"""The gaps: what the ledger's events leave open, and what was filled."""

from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.model.state_source import SessionKey
from k2.ops.settings import Settings
from k2.query.gaps import GapFilter, gaps, missing_ranges
from k2.query.pool import open_engine
from k2.query.snapshots import NoSnapshotError
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of
from tests.query.tables import EPOCH, append, event, made

MINUTE = timedelta(minutes=1)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["gap_opened", "gap_filled"]),
        st.integers(0, 20),
        st.integers(0, 5),
        st.integers(0, 3),
        st.sampled_from(["A", "B"]),
    ),
    max_size=8,
)
Event = tuple[str, int, int, int, str]


def ranges(settings: Settings, **asked: Any) -> list[tuple[int, int, int]]:
    """Query gaps, one tuple a range."""
    found = gaps(settings, **asked)
    assert all(one.missing == one.last_sequence - one.first_sequence + 1 for one in found)
    return [(one.session, one.first_sequence, one.last_sequence) for one in found]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([("session_started", 1, 1)], []),
        ([("gap_opened", 5, 9)], [(5, 9)]),
        ([("gap_opened", 5, 9), ("gap_filled", 5, 9)], []),
        ([("gap_opened", 5, 9), ("gap_filled", 7, 7)], [(5, 6), (8, 9)]),
        ([("gap_opened", 5, 9), ("gap_filled", 5, 5), ("gap_filled", 9, 9)], [(6, 8)]),
        ([("gap_opened", 5, 9), ("gap_opened", 20, 20)], [(5, 9), (20, 20)]),
        ([("gap_opened", 5, 9), ("gap_opened", 5, 9), ("gap_filled", 6, 6)], [(5, 5), (7, 9)]),
        ([("gap_opened", -5, 2**62)], [(-5, 2**62)]),
        ([("gap_opened", 1 - 2**63, -1), ("gap_opened", 0, 2**63 - 2)], [(1 - 2**63, 2**63 - 2)]),
    ],
)
def test_missing_is_opened_minus_filled(
    settings: Settings, events: list[tuple[str, int, int]], expected: list[tuple[int, int]]
) -> None:
    """One row for each range missing now, also of more numbers than 64 bits count."""
    rows = [event(*one, **({"missing": 0} if one[1] < -5 else {})) for one in events]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    assert [one[1:] for one in ranges(settings)] == expected
    filled = ranges(settings, which=GapFilter.FILLED)
    assert sorted(ranges(settings) + filled) == ranges(settings, which=GapFilter.ALL)


def rows_of(events: list[Event]) -> list[dict[str, Any]]:
    """Return the ledger's rows for events, and one row that opens nothing."""
    rows = [
        event(kind, low, low + size, symbol=symbol, detected_at=EPOCH + minute * MINUTE)
        for kind, low, size, minute, symbol in events
    ]
    return [*rows, event("session_started", 0, 0)]


@given(events=EVENTS)
def test_missing_as_sets_of_numbers(events: list[Event]) -> None:
    """Whatever was opened and filled, by symbol: the ranges are the difference of the two sets."""
    with open_engine(Settings()) as engine:
        engine.register_arrow("sequence_events", pa.Table.from_pylist(rows_of(events)))
        found = missing_ranges(engine)
    for symbol in ("A", "B"):
        opened, filled = (numbers(events, kind, symbol) for kind in ("gap_opened", "gap_filled"))
        reported = found.get(SessionKey("binance", symbol, 0), ())
        assert [number for low, high in reported for number in range(low, high + 1)] == sorted(opened - filled)
    assert all(found.values())


def numbers(events: list[Event], kind: str, symbol: str) -> set[int]:
    """Return the numbers in events of a kind."""
    return {
        number
        for reported, low, size, _, of in events
        if (reported, of) == (kind, symbol)
        for number in range(low, low + size + 1)
    }


def test_gaps_are_separate_by_symbol_and_session(settings: Settings) -> None:
    """A fill of another symbol or session closes nothing; filters select."""
    rows = [
        event("gap_opened", 5, 9),
        event("gap_filled", 5, 9, session=1),
        event("gap_filled", 5, 9, symbol="ETHUSDT"),
        event("gap_opened", 1, 1, exchange="kraken"),
        event("gap_opened", 2, 2, session=1),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    assert ranges(settings, exchange="binance") == [(0, 5, 9), (1, 2, 2)]
    assert ranges(settings, exchange="kraken") == [(0, 1, 1)]
    assert ranges(settings, symbol="ETHUSDT") == []
    assert len(ranges(settings)) == 3
    assert ranges(settings, which=GapFilter.FILLED) == []


def test_how_long_each_was_open(settings: Settings) -> None:
    """From the commit that opened it to the one that filled it, or to the requested time; never negative."""
    rows = [
        event("gap_opened", 5, 9),
        event("gap_filled", 6, 6, detected_at=EPOCH + MINUTE),
        event("gap_filled", 8, 8, detected_at=EPOCH - MINUTE),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    found = gaps(settings, as_of=EPOCH + 2 * MINUTE, which=GapFilter.ALL)
    assert [astuple(one)[3:9] for one in found] == [
        (5, 5, 1, EPOCH, None, 120.0),
        (6, 6, 1, EPOCH, EPOCH + MINUTE, 60.0),
        (7, 7, 1, EPOCH, None, 120.0),
        (8, 8, 1, EPOCH, EPOCH - MINUTE, 0.0),
        (9, 9, 1, EPOCH, None, 120.0),
    ]
    (latest, *_) = gaps(settings)
    assert latest.open_seconds == pytest.approx((datetime.now(UTC) - EPOCH).total_seconds(), abs=60)


def test_as_of_a_time_is_the_ledger_until_then(settings: Settings, tmp_path: Any) -> None:
    """The result for an earlier time equals that of a ledger with the events detected by then, open and filled."""
    events: list[Event] = [
        ("gap_opened", 5, 4, 0, "A"),
        ("gap_filled", 6, 0, 1, "A"),
        ("gap_opened", 1, 1, 1, "B"),
        ("gap_filled", 5, 4, 2, "A"),
        ("gap_opened", 20, 3, 3, "A"),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows_of(events))
    for minute in range(-1, 4):
        then = Settings(data_dir=tmp_path / f"until {minute}")
        append(made(then, TableName.SEQUENCE_EVENTS), rows_of([one for one in events if one[3] <= minute]))
        as_of = EPOCH + minute * MINUTE
        for which in GapFilter:
            reported = gaps(settings, as_of=as_of, which=which)
            assert [astuple(one)[:8] for one in reported] == [astuple(one)[:8] for one in gaps(then, which=which)]
            assert reported == gaps(then, as_of=as_of, which=which)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("trades 0", [(5, 9)]),
        ("trades 1", [(5, 5), (7, 9)]),
        ("trades 2", [(5, 5), (7, 9), (20, 20)]),
        ("ledger 0", [(5, 9), (20, 20)]),
        ("ledger 1", [(5, 5), (7, 9), (20, 20)]),
    ],
)
def test_as_of_a_commit_is_what_its_messages_caused(
    tmp_path: Path, asked: str, expected: list[tuple[int, int]]
) -> None:
    """For a commit to the trades: the events of its messages, whenever recorded; for one to the ledger: that commit."""
    settings = settings_in(tmp_path)
    writer, trades, ledger = writer_of(settings), [], made(settings, TableName.SEQUENCE_EVENTS)
    for offset in (0, 4, 8):
        writer.write_batch([slice_of([row_at(offset)]), read_to(offset + 4)])
        writer.snapshot()
        trades.append(made(settings, TableName.TRADES).current_snapshot())
    late = {"detected_at": datetime.now(UTC) + MINUTE}
    snapshots = []
    for events in (
        [event("gap_opened", 5, 9, offset=0), event("gap_opened", 20, 20, offset=8, **late)],
        [event("gap_filled", 6, 6, offset=4, **late)],
    ):
        append(ledger, events)
        snapshots.append(ledger.current_snapshot())
    table, number = asked.split()
    snapshot = {"trades": trades, "ledger": snapshots}[table][int(number)]
    assert snapshot is not None
    assert [one[1:] for one in ranges(settings, as_of=snapshot.snapshot_id)] == expected


def test_as_of_a_commit_decisions_are_those_by_its_time(tmp_path: Path) -> None:
    """A decision has no message whose commit could be compared, so its time is."""
    settings = settings_in(tmp_path)
    writer = writer_of(settings)
    writer.write_batch([slice_of([row_at(0)]), read_to(4)])
    writer.snapshot()
    snapshot = made(settings, TableName.TRADES).current_snapshot()
    assert snapshot is not None
    decided = {"topic": "", "partition": -1, "offset": -1}
    rows = [
        event("gap_opened", 5, 9),
        event("gap_accepted", 5, 5, **decided),
        event("gap_accepted", 9, 9, **decided, detected_at=datetime.now(UTC) + MINUTE),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    assert [one[1:] for one in ranges(settings)] == [(6, 8)]
    assert [one[1:] for one in ranges(settings, as_of=snapshot.snapshot_id)] == [(6, 9)]


def test_an_unknown_commit_is_named(settings: Settings) -> None:
    """An id of neither table is an error, not an empty result."""
    for name in (TableName.TRADES, TableName.SEQUENCE_EVENTS):
        made(settings, name)
    with pytest.raises(NoSnapshotError, match=r"^as_of: 17 is no commit"):
        gaps(settings, as_of=17)

"""Explained gaps: their causes by ledger, trades and commit log, and until when they can be filled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from k2.iceberg.tables import TableName
from k2.model.progress import TopicPartition
from k2.model.state_source import SessionKey, StoredSession
from k2.ops.settings import Settings, TopicVenue
from k2.query import gap_causes
from k2.query.fill_deadlines import Newest, deadline, earliest_deadlines
from k2.query.gap_causes import explained
from k2.query.gap_incidents import incidents_of, sums_by_cause
from k2.query.gaps import Gap, GapFilter, gaps
from k2.storage.table_properties import REMOVED_ROWS
from k2.venues.table_fill import Fill
from tests.query.tables import EPOCH, append, event, job_commit, made, set_commit_notes, trade

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def opened(first: int, last: int, offset: int, seconds: float = 0, **values: Any) -> dict[str, Any]:
    """Return the event of a gap that the message at an offset showed."""
    return event("gap_opened", first, last, session=1, offset=offset, timestamp=EPOCH + seconds * SECOND, **values)


def stored(sequence: int, offset: int, seconds: float = 0, **values: Any) -> dict[str, Any]:
    """Return a trade of the message at an offset."""
    return trade(offset, sequence=sequence, session=1, timestamp=EPOCH + seconds * SECOND, **values)


def causes(settings: Settings, **selected: Any) -> dict[str, str | None]:
    """Return the cause of the gap of each symbol."""
    return {gap.symbol: gap.cause for gap in explained(settings, gaps(settings, **selected))}


def test_causes_by_the_trades_next_to_a_gap(settings: Settings) -> None:
    """A message that is no trade named the newest numbers; a jump takes no time; of anything else it is unknown."""
    append(made(settings, TableName.TRADES), [
        stored(4, 10, -900, symbol="LOSS"), stored(10, 11, -600, symbol="LOSS"),
        stored(4, 20, symbol="TAIL"),
        stored(4, 30, -0.5, symbol="JUMP"), stored(10_004, 31, symbol="JUMP"),
        stored(4, 40, 598, symbol="SLOW"), stored(10_004, 41, 600, symbol="SLOW"),
        # The venue's clock is ahead, so its event has the Kafka timestamp.
        stored(4, 50, symbol="AHEAD"), stored(10, 51, 3_600, symbol="AHEAD"),
    ])  # fmt: skip
    append(made(settings, TableName.SEQUENCE_EVENTS), [
        opened(5, 9, 11, -600, symbol="LOSS"),
        opened(5, 9, 21, 100, symbol="TAIL"),
        opened(5, 10_003, 31, symbol="JUMP"),
        opened(5, 10_003, 41, 600, symbol="SLOW"),
        opened(5, 9, 51, 300, symbol="AHEAD"),
    ])  # fmt: skip
    unknown = dict.fromkeys(("LOSS", "SLOW", "AHEAD"), "unknown")
    assert causes(settings) == {"TAIL": "tail", "JUMP": "venue", **unknown}


def test_what_is_not_stored_is_not_always_a_head_number(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A non-market trade opens gaps and is not stored; of a day that was removed it is not known."""
    trades = made(settings, TableName.TRADES)
    append(trades, [stored(4, 20)])
    append(made(settings, TableName.SEQUENCE_EVENTS), [opened(5, 9, 21)])
    assert causes(settings) == {"BTCUSDT": "tail"}
    key = SessionKey("binance", "BTCUSDT", 1)
    with monkeypatch.context() as patched:
        skipped = StoredSession(key, ((10, 10),), 0, 0, TopicPartition("trades", 0), 21)
        patched.setattr(gap_causes, "joined", lambda _: [skipped])
        assert causes(settings) == {"BTCUSDT": "unknown"}
    removed = REMOVED_ROWS.read(trades.metadata.properties)
    with trades.transaction() as transaction:
        later = msgspec.structs.replace(removed, before=EPOCH.date() + DAY)
        transaction.set_properties(REMOVED_ROWS.set_to(later))
    assert causes(settings) == {"BTCUSDT": "unknown"}


def test_abandoned_offsets(settings: Settings) -> None:
    """By the commit log, if they are between the trades next to the gap."""
    trades = made(settings, TableName.TRADES)
    append(trades, [stored(4, 10), stored(10, 91), stored(4, 85, symbol="B"), stored(10, 92, symbol="B")])
    commit = msgspec.structs.replace(job_commit(1, EPOCH), remark="given_up trades:0 50-80; started with no state")
    set_commit_notes(trades, [commit])
    append(made(settings, TableName.SEQUENCE_EVENTS), [opened(5, 9, 91), opened(5, 9, 92, 300, symbol="B")])
    assert causes(settings) == {"BTCUSDT": "kafka", "B": "unknown"}


def test_a_filled_gap_keeps_its_incident(settings: Settings) -> None:
    """Incidents are of all gaps that were ever opened, so that a name stays when others of it are filled."""
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    append(ledger, [opened(5, 9, 1, second, symbol=name) for second, name in enumerate("ABC")])
    append(ledger, [event("connection_gap", 1, 2, symbol="c", timestamp=EPOCH + 300 * SECOND)])
    append(ledger, [opened(5, 9, 2, 310, symbol="D")])
    before = explained(settings, gaps(settings))
    assert {gap.symbol: gap.cause for gap in before} == dict.fromkeys("ABCD", "connection")
    (first, second) = incidents_of(before)
    assert (first.incident, first.symbols, first.gaps, first.missing) == (
        "connection:binance:2024-08-09T00:00",
        3,
        3,
        15,
    )
    assert (first.first_at, first.last_at) == (EPOCH, EPOCH + 2 * SECOND)
    assert second.incident == "connection:binance:2024-08-09T00:05"
    append(ledger, [event("gap_filled", 5, 9, session=1, symbol=name) for name in "AB"])
    (left, _) = explained(settings, gaps(settings))
    assert (left.symbol, left.incident) == ("C", first.incident)
    assert {gap.incident for gap in explained(settings, gaps(settings, symbol="A", which=GapFilter.FILLED))} == {
        first.incident
    }
    (sums,) = sums_by_cause(before)
    assert (sums.cause, sums.symbols, sums.gaps, sums.missing) == ("connection", 4, 4, 20)


def test_a_part_of_a_gap_has_its_opening(settings: Settings) -> None:
    """Also if a late trade filled its middle, or a later event opened the numbers next to it."""
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    append(
        ledger, [opened(5, 9, 1), event("gap_filled", 7, 7, session=1), opened(10, 12, 2, 100), opened(20, 29, 3, 200)]
    )
    found = explained(settings, gaps(settings))
    assert [(gap.first_sequence, gap.last_sequence, gap.timestamp) for gap in found] == [
        (5, 6, EPOCH),
        (8, 12, EPOCH),
        (20, 29, EPOCH + 200 * SECOND),
    ]


def gap(first: int, last: int, **values: Any) -> Gap:
    """Return an open gap that was shown at the epoch of the tests."""
    return Gap("x", "S", 1, first, last, last - first + 1, EPOCH, None, 0.0, timestamp=EPOCH, **values)


@pytest.mark.parametrize(
    ("fill", "newest", "expected"),
    [
        (Fill(), None, (None, None)),
        (Fill(days=90), None, (EPOCH + 90 * DAY, None)),
        (Fill(trades=100), None, (None, None)),
        # Ten numbers in a day, and 5 + 100 - 1 - 19 numbers are left.
        (Fill(trades=100), Newest(19, EPOCH + DAY), (EPOCH + DAY + 8.5 * DAY, 85)),
        (Fill(trades=100), Newest(104, EPOCH + DAY), (EPOCH + DAY, 0)),
        (Fill(trades=100), Newest(500, EPOCH + DAY), (EPOCH + DAY, 0)),
        (Fill(trades=100), Newest(9, EPOCH), (None, 95)),
        (Fill(days=2, trades=100), Newest(19, EPOCH + DAY), (EPOCH + 2 * DAY, 85)),
    ],
)
def test_deadlines(fill: Fill, newest: Newest | None, expected: tuple[datetime | None, int | None]) -> None:
    """By days from the trade that showed the gap, or by the number of newer trades, with an estimate of the time."""
    assert deadline(gap(5, 9), fill, newest) == expected


def test_deadlines_by_venue(settings: Settings) -> None:
    """The venue is that of the topic, or a built-in one of the exchange; accepted and filled gaps have none."""
    append(made(settings, TableName.TRADES), [stored(4, 0, exchange="kucoin"), stored(60, 1, 100, exchange="kucoin")])
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    append(ledger, [opened(5, 9, 2, exchange=name) for name in ("kraken-futures", "kucoin", "okx", "binance")])
    append(ledger, [opened(5, 9, 2, exchange="mine", topic="perps"), opened(50, 59, 2, exchange="okx", symbol="done")])
    append(ledger, [event("gap_filled", 50, 59, session=1, exchange="okx", symbol="done")])
    watched = settings.model_copy(update={"topics": (TopicVenue("perps", "kraken-futures"),)})
    found = {(one.exchange, one.symbol): one for one in explained(watched, gaps(watched, which=GapFilter.ALL))}
    until = {name: one.fillable_until for name, one in found.items()}
    assert until[("kraken-futures", "BTCUSDT")] == until[("mine", "BTCUSDT")] == EPOCH + 7 * DAY
    assert until[("okx", "BTCUSDT")] == EPOCH + 90 * DAY
    assert until[("okx", "done")] is until[("binance", "BTCUSDT")] is None
    assert found[("kucoin", "BTCUSDT")].fillable_numbers == 5 + 100 - 1 - 60
    assert earliest_deadlines([*found.values()], EPOCH) == {
        "kraken-futures": EPOCH + 7 * DAY,
        "kucoin": until[("kucoin", "BTCUSDT")],
        "mine": EPOCH + 7 * DAY,
        "okx": EPOCH + 90 * DAY,
    }
    assert [*earliest_deadlines([*found.values()], EPOCH + 8 * DAY)] == ["okx"]
    assert earliest_deadlines([*found.values()], datetime.now(UTC)) == {}

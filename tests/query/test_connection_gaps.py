"""Messages of connections that were lost: what the ledger leaves as missing, apart from the numbers of trades."""

from datetime import timedelta

import pytest

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.connection_gaps import ConnectionLoss, connection_gaps, losses
from k2.query.engine import QueryError
from k2.query.gaps import gaps, has_ledger_events
from k2.query.names import unknown_names
from k2.query.tables import NoTableError
from tests.query.tables import EPOCH, append, event, made


@pytest.fixture
def ledger(settings: Settings) -> None:
    """Write a ledger with gaps of two connections and one of trades."""
    one, other = {"exchange": "dydx", "symbol": "c-1", "session": 1}, {"exchange": "x", "symbol": "t:0", "session": 2}
    later = {"detected_at": EPOCH + timedelta(minutes=1)}
    rows = [
        event("connection_gap", 5, 9, offset=12, partition=3, **one),
        event("connection_gap_filled", 6, 7, **one, **later),
        # Twice, as a crash may leave it, and with the same number in another topic.
        event("connection_gap", 5, 9, offset=12, partition=3, **one),
        event("connection_gap", 6, 6, topic="other", **one),
        event("connection_gap", 1, 100, **other, **later),
        event("gap_opened", 1, 3),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)


def test_missing_messages(ledger: None, settings: Settings) -> None:
    """A range for each that is missing now, with the message after it; an exchange or an earlier time selects."""
    found = connection_gaps(settings, "dydx")
    assert [(one.topic, one.connection, one.session, one.first_number, one.last_number) for one in found] == [
        ("other", "c-1", 1, 6, 6),
        ("trades", "c-1", 1, 5, 5),
        ("trades", "c-1", 1, 8, 9),
    ]
    assert [(one.missing, one.partition, one.offset, one.timestamp, one.detected_at) for one in found[1:]] == [
        (1, 3, 12, EPOCH, EPOCH),
        (2, 3, 12, EPOCH, EPOCH),
    ]
    assert [one.missing for one in connection_gaps(settings)] == [1, 1, 2, 100]
    assert [one.missing for one in connection_gaps(settings, as_of=EPOCH)] == [1, 5]
    assert losses(connection_gaps(settings)) == [ConnectionLoss("dydx", 4, 3), ConnectionLoss("x", 100, 1)]
    assert (
        ConnectionLoss("dydx", 4, 3).sentence == "loss between venue and Kafka: 4 messages of dydx, of unknown content"
    )


def test_snapshots_are_refused(ledger: None, settings: Settings) -> None:
    """In one sentence that names the way."""
    with pytest.raises(QueryError, match="as of snapshot 7: messages of connections are only known as of a time"):
        connection_gaps(settings, as_of=7)


def test_connections_are_no_symbols(ledger: None, settings: Settings) -> None:
    """Their numbers are not those of trades, and their names are not offered as symbols."""
    assert [(one.exchange, one.first_sequence, one.last_sequence) for one in gaps(settings)] == [("binance", 1, 3)]
    assert has_ledger_events(settings, "binance")
    assert not has_ledger_events(settings, "dydx")
    [unknown] = unknown_names(settings, None, "c-2")
    assert unknown.close == ()


def test_without_a_ledger_there_is_no_answer(settings: Settings) -> None:
    """As with the gaps of trades."""
    with pytest.raises(NoTableError):
        connection_gaps(settings)

"""Reading the status: the evidence that the tables, the files and the settings give, without a broker."""

import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from k2.iceberg.tables import TableName
from k2.model.errors import SettingsError
from k2.ops.settings import Settings, read_settings
from k2.status import reader as module
from k2.status.findings import Cause, Verdict
from k2.status.gather import patience_seconds
from k2.status.reader import Status, StatusReader
from k2.storage.commit_log import Commit
from tests.model.dead_letters import dead_letter
from tests.query.replays import record_replays
from tests.query.tables import EPOCH, append, conflict, event, made, progress, set_progress, trade, write_letters


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a folder of their own, and no broker."""
    return Settings(data_dir=tmp_path / "data")


def causes(found: Status) -> list[Cause]:
    """Return the causes but one: no broker is configured here."""
    return [reason.cause for reason in found.reasons if reason.cause is not Cause.BROKER_NOT_ASKED]


def market(settings: Settings, **counts: int) -> None:
    """Create tables with four trades of one partition."""
    trades = made(settings, TableName.TRADES)
    append(trades, [trade(offset) for offset in range(4)])
    made(settings, TableName.SEQUENCE_EVENTS)
    set_progress(trades, progress(**{"offset": 4, "received": 4, "stored": 4, **counts}))


def test_without_a_broker_it_cannot_be_known(settings: Settings) -> None:
    """Counts that are sound, and a verdict that says what is not known."""
    market(settings)
    found = StatusReader(settings).read()
    assert (found.verdict, found.unread, found.broker) == (Verdict.UNKNOWN, None, None)
    assert [reason.cause for reason in found.reasons] == [Cause.BROKER_NOT_ASKED]
    assert (found.received, found.stored, found.missing) == (4, 4, 0)
    (partition,) = found.partitions
    assert (partition.topic, partition.offset, partition.verdict) == ("trades", 4, Verdict.UNKNOWN)


def test_nothing_stored(settings: Settings) -> None:
    """A job that has never run is no error."""
    found = StatusReader(settings).read()
    assert (found.verdict, causes(found)) == (Verdict.UNKNOWN, [Cause.NOTHING_STORED])
    assert f"K2_DATA_DIR={settings.data_dir}" in found.reasons[0].sentence


def test_a_table_that_cannot_be_read(settings: Settings) -> None:
    """The error is the reason, and it comes in place of a status of the past."""
    market(settings)
    reader = StatusReader(settings)
    assert causes(reader.read()) == []
    shutil.rmtree(settings.data_dir / "warehouse")
    found = StatusReader(settings).read()
    assert (found.verdict, causes(found)) == (Verdict.UNKNOWN, [Cause.TABLE_UNREADABLE])
    assert found.reasons[0].sentence


def test_rows_are_compared_with_the_progress(settings: Settings) -> None:
    """Rows that another writer added, and rows that are gone."""
    market(settings)
    trades = made(settings, TableName.TRADES)
    append(trades, [trade(9)])
    assert causes(StatusReader(settings).read()) == [Cause.ROWS_ADDED]
    set_progress(made(settings, TableName.TRADES), progress(offset=9, received=9, stored=9))
    assert causes(StatusReader(settings).read()) == [Cause.ROWS_LOST]


def test_dead_letters_are_named_and_their_files_checked(settings: Settings) -> None:
    """The commonest error of the topic, and files that are gone or cut."""
    market(settings, offset=10, received=10, dead_letters=6)
    write_letters(settings, [dead_letter(4 + at) for at in range(6)])
    found = StatusReader(settings).read()
    assert causes(found) == [Cause.MESSAGES_REJECTED]
    assert "6 of 10 messages of topic trades were not stored" in found.reasons[0].sentence
    assert dead_letter(4).error in found.reasons[0].sentence
    assert "k2 dlq show trades 0 4" in found.reasons[0].next_step
    (file,) = settings.dead_letter_folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert causes(StatusReader(settings).read()) == [Cause.MESSAGES_REJECTED, Cause.DEAD_LETTERS_LOST]
    file.unlink()
    found = StatusReader(settings).read()
    assert causes(found) == [Cause.MESSAGES_REJECTED, Cause.DEAD_LETTERS_LOST]
    assert file.name in found.reasons[1].sentence


def test_dead_letters_that_were_replayed_are_not_rejected_messages(settings: Settings) -> None:
    """Nor is their error named; a message that is rejected again is a dead letter that waits."""
    market(settings, offset=10, received=10, dead_letters=6)
    letters = [dead_letter(4 + at, error="other" if at == 5 else "mended") for at in range(6)]
    write_letters(settings, letters)
    reader = StatusReader(settings)
    assert "mended" in reader.read().reasons[0].sentence
    record_replays(settings, [(letter, 10 + at) for at, letter in enumerate(letters[:5])])
    found = reader._read(None)
    assert causes(found) == [Cause.MESSAGES_REJECTED]
    assert "1 of 10 messages of topic trades were not stored" in found.reasons[0].sentence
    assert "other" in found.reasons[0].sentence
    record_replays(settings, [(letters[5], 15)])
    assert causes(reader._read(None)) == []


def test_missing_numbers_and_conflicts(settings: Settings) -> None:
    """Sums over all symbols, and the largest range."""
    market(settings, offset=6, received=6, dead_letters=2)
    append(
        made(settings, TableName.SEQUENCE_EVENTS),
        [event("gap_opened", 5, 7), event("gap_opened", 20, 29, symbol="ETHUSDT"), event("gap_filled", 6, 6)],
    )
    write_letters(settings, [conflict(4, EPOCH), conflict(5, EPOCH)])
    found = StatusReader(settings).read()
    assert (found.missing, found.conflicts) == (12, 2)
    sentences = {reason.cause: reason.sentence for reason in found.reasons}
    assert sentences[Cause.NUMBERS_MISSING].startswith("12 sequence numbers of 2 symbols are missing in 3 ranges")
    assert sentences[Cause.NUMBERS_MISSING].endswith("binance ETHUSDT 20-29")
    assert sentences[Cause.CONFLICTS] == "2 trades contradict stored trades of binance BTCUSDT"


def test_a_full_disk_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its free space, not by an attempt to write."""
    market(settings)
    usage = type("Usage", (), {"total": 10**12, "free": 4_096})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = StatusReader(settings).read()
    assert causes(found) == [Cause.DISK_FULL, Cause.DISK_FULL]
    assert str(settings.data_dir) in found.reasons[0].sentence


def test_a_reader_reads_again_only_what_has_changed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients share a status for two seconds; gaps are read once for each version of the ledger."""
    market(settings)
    calls: list[Any] = []
    monkeypatch.setattr(module, "gaps", lambda *_, **__: calls.append(0) or [])
    reader = StatusReader(settings)
    first = reader.read()
    assert reader.read() is first
    monkeypatch.setattr(module, "SHARE_SECONDS", -1.0)
    reader = StatusReader(settings)
    calls.clear()
    assert reader.read() is not reader.read()
    assert len(calls) == 1
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 5, 7)])
    reader.read()
    assert len(calls) == 2


def test_a_changed_verdict_is_logged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with its cause and the next step; an unchanged one is not."""
    monkeypatch.setattr(module, "SHARE_SECONDS", -1.0)
    market(settings)
    reader = StatusReader(settings, logs_changes=True)
    with structlog.testing.capture_logs() as logs:
        reader.read()
        reader.read()
        append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 5, 7)])
        reader.read()
        reader.read()
    assert [(entry["event"], entry["verdict"], entry["cause"], entry.get("before")) for entry in logs] == [
        ("verdict_changed", "unknown", "broker_not_asked", None),
        ("verdict_changed", "missing", "numbers_missing", "unknown"),
    ]
    assert {entry["log_level"] for entry in logs} == {"warning"}


def test_a_broker_that_does_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address and the cause are named, and the tables are read all the same."""
    market(settings)
    monkeypatch.setattr("k2.kafka.unread.ANSWER_SECONDS_MAX", 0.5)
    asked = read_settings({"K2_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, data_dir=settings.data_dir)
    found = StatusReader(asked).read()
    assert (found.verdict, causes(found)) == (Verdict.UNKNOWN, [Cause.BROKER_UNREACHABLE])
    assert "no Kafka broker answers at 127.0.0.1:1" in found.reasons[0].sentence
    assert (found.broker, found.received, found.unread) == ("127.0.0.1:1", 4, None)


def test_a_property_that_librdkafka_rejects(settings: Settings, tmp_path: Path) -> None:
    """It is said of the broker, and the tables are read all the same; a file that cannot be read is an error."""
    market(settings)
    file = tmp_path / "kafka.properties"
    file.write_text("security.protocol=nonsense\nbootstrap.servers=127.0.0.1:1\n")
    configured = read_settings({"K2_KAFKA_CONFIG": str(file)}, data_dir=settings.data_dir)
    found = StatusReader(configured).read()
    assert (found.verdict, causes(found)) == (Verdict.UNKNOWN, [Cause.BROKER_UNREACHABLE])
    assert "librdkafka rejects the configuration" in found.reasons[0].sentence
    assert (found.received, found.unread) == (4, None)
    file.unlink()
    with pytest.raises(SettingsError, match="K2_KAFKA_CONFIG"):
        StatusReader(configured).read()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([], 20.0),
        ([0], 20.0),
        ([0, 10, 20, 30], 25.0),
        ([0, 60, 120, 180], 150.0),
        ([0, 10, 20, 30, 3_600, 7_200, 7_210], 25.0),
        ([0, 86_400], 600.0),
    ],
    ids=["none", "one", "every 10 s", "every minute", "with pauses", "a pause alone"],
)
def test_how_long_a_commit_may_take(seconds: Sequence[int], expected: float) -> None:
    """Two and a half of the usual intervals, not less than 20 s and not more than 10 minutes."""
    assert patience_seconds([_commit(second) for second in seconds]) == expected


def test_the_intervals_of_writers_are_their_own() -> None:
    """Two writers that commit by turns do not halve the interval."""
    commits = [_commit(10 * at, str(at % 2)) for at in range(8)]
    assert patience_seconds(commits) == 50.0


def _commit(second: int, writer: str = "0") -> Commit:
    at = (EPOCH + timedelta(seconds=second) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return Commit(second + 1, None, second + 1, at, writer, 0, 0, 0, [])


def test_one_version_of_the_table_is_compared_with_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that lands during the reading counts as a whole in the next one."""
    market(settings)
    trades = made(settings, TableName.TRADES)
    append(made(settings, TableName.TRADES), [trade(4)])
    set_progress(made(settings, TableName.TRADES), progress(offset=5, received=5, stored=5))
    monkeypatch.setattr(module, "existing_table", lambda *_: trades)
    found = StatusReader(settings).read()
    assert (causes(found), found.stored) == ([], 4)


def test_yesterday_is_judged_by_the_venue_time_of_its_trades(settings: Settings) -> None:
    """Only numbers that a trade of the day before today found missing, and that no late trade has filled."""
    market(settings)
    midnight = datetime(2026, 11, 28, tzinfo=UTC)
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    opened = [(10, 14, -30), (20, 29, -1), (40, 41, 0), (50, 50, -86_401)]
    events = [
        event("gap_opened", first, last, timestamp=midnight + timedelta(seconds=seconds))
        for first, last, seconds in opened
    ]
    append(ledger, [*events, event("gap_filled", 12, 12, timestamp=midnight + timedelta(hours=1))])
    found = StatusReader(settings, lambda: midnight + timedelta(hours=9)).read()
    assert found.missing == 17
    assert (found.yesterday.day, found.yesterday.missing) == (date(2026, 11, 27), 14)
    assert found.yesterday.is_read is None

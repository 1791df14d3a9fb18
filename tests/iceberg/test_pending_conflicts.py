"""Stored trades that conflicts contradict: looked up in the epoch and in the table, with no dead letter at risk."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2.iceberg import pending_conflicts
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.dead_letter import DeadLetter
from k2.model.verdicts import CONFLICT
from k2.ops.metrics import CONFLICTS
from k2.ops.settings import Settings
from k2.sequencing.conflicts import StoredKey
from k2.storage.catalog import open_catalog
from k2.storage.dead_letters.files import read_dead_letters
from k2.storage.dead_letters.local_folder import LocalFolder
from tests.iceberg.trades_table import SCALE, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import Row, slice_of

STORED = "is stored in session 1 with price 1, quantity 1, side buy; this trade has price 2, quantity 1, side buy"
NOT_READ = "does not fit session 1, whose stored trade was not read"
ABSENT = "cannot be placed: session 1 stores no trade under it"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a job in a folder of its own."""
    return settings_in(tmp_path)


@pytest.fixture
def writer(settings: Settings) -> Iterator[TradesWriter]:
    """Return a writer whose buffer holds four rows."""
    made = writer_of(settings, flush_rows=4)
    yield made
    made.close()


def contradicting(row: Row, offset: int) -> Row:
    """Return the row at another offset with another price, as a conflict."""
    return row._replace(offset=offset, price=2 * SCALE, verdict=CONFLICT)


def epoch(writer: TradesWriter, rows: Sequence[Row], next_offset: int, session: int = 1) -> None:
    """Write rows and commit them."""
    writer.write_batch([slice_of(rows, session=session), read_to(next_offset)])
    writer.snapshot()


def errors(settings: Settings) -> list[str]:
    """Return the errors of all dead letters without their last sentence."""
    return [one.error.partition(". ")[0] for one in letters(settings)]


def letters(settings: Settings) -> list[DeadLetter]:
    """Return all dead letters."""
    return list(read_dead_letters(LocalFolder(settings.dead_letter_folder), pytest.fail))


def test_stored_trades_are_found_wherever_they_are(settings: Settings, writer: TradesWriter) -> None:
    """A stored trade is found in the buffer, in a file of the epoch that no commit has yet, and in the table."""
    rows = [row_at(offset, sequence=offset) for offset in range(10)]
    counted = CONFLICTS.labels("kraken")._value.get()
    epoch(writer, [*rows, contradicting(rows[1], 10), contradicting(rows[9], 11)], 12)
    epoch(writer, [row_at(12, sequence=12), contradicting(rows[5], 13), contradicting(row_at(0, sequence=12), 14)], 15)
    assert errors(settings) == [f"sequence {number} of kraken BTC-USD {STORED}" for number in (1, 9, 5, 12)]
    assert CONFLICTS.labels("kraken")._value.get() == counted + 4
    found = [(one.exchange, one.symbol, one.sequence, one.session, one.offset) for one in letters(settings)]
    assert found == [
        ("kraken", "BTC-USD", number, 1, offset) for number, offset in ((1, 10), (9, 11), (5, 13), (12, 14))
    ]


def test_other_symbols_and_sessions_do_not_match(settings: Settings, writer: TradesWriter) -> None:
    """The same number of another symbol, or of another session, is not what a conflict contradicts."""
    epoch(writer, [row_at(0, symbol="ETH-USD", sequence=7, price=5 * SCALE)], 1)
    epoch(writer, [row_at(1, sequence=7, price=6 * SCALE)], 2, session=2)
    epoch(writer, [contradicting(row_at(0, sequence=7), 2)], 3)
    assert [error.startswith(f"sequence 7 of kraken BTC-USD {ABSENT}") for error in errors(settings)] == [True]


def test_stored_trades_are_found_by_id(settings: Settings, writer: TradesWriter) -> None:
    """A conflict of trade ids finds the stored trade in the epoch and in the table."""
    rows = [row_at(offset, sequence=None, trade_id=f"t{offset}") for offset in range(3)]
    epoch(writer, [*rows, contradicting(rows[1], 3)], 4, session=0)
    epoch(writer, [contradicting(rows[2], 4)], 5, session=0)
    what = STORED.replace(" in session 1", "")
    assert errors(settings) == [f"trade id '{name}' of kraken BTC-USD {what}" for name in ("t1", "t2")]


def test_values_are_exact(settings: Settings, writer: TradesWriter) -> None:
    """A price of 38 digits is shown completely, from the buffer and from the table."""
    price = -(10**38 - 1)
    row = row_at(0, sequence=1, price=price)
    epoch(writer, [row, contradicting(row, 1)], 2)
    epoch(writer, [contradicting(row, 2)], 3)
    assert all("price -99999999999999999999.999999999999999999," in error for error in errors(settings))


def test_equal_content_is_reported_as_a_copy(settings: Settings, writer: TradesWriter) -> None:
    """A conflict with the stored content says that it cannot be distinguished from a copy."""
    epoch(writer, [row_at(0, sequence=1)], 1)
    epoch(writer, [row_at(1, sequence=1, timestamp=20_001 * 86_400_000_000, verdict=CONFLICT)], 2)
    (error,) = errors(settings)
    assert "is either a copy of the trade stored in session 1" in error


@pytest.mark.parametrize("limit", ["LOOKUPS_MAX", "PENDING_BYTES_MAX"])
def test_beyond_the_limits_nothing_is_looked_up(
    settings: Settings, writer: TradesWriter, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Conflicts beyond the limits lose their stored values, not their dead letters."""
    monkeypatch.setattr(pending_conflicts, limit, 2 if limit == "LOOKUPS_MAX" else -1)
    rows = [row_at(offset, sequence=offset) for offset in range(5)]
    epoch(writer, rows, 5)
    epoch(writer, [contradicting(row, 5 + row.offset) for row in rows], 10)
    looked_up = sum(STORED in error for error in errors(settings))
    unread = sum(NOT_READ in error for error in errors(settings))
    assert (looked_up, unread) == ((2, 3) if limit == "LOOKUPS_MAX" else (0, 5))


def test_a_failing_lookup_loses_no_dead_letter(
    settings: Settings, writer: TradesWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the store fails the dead letters say that the stored trade was not read, and the commit continues."""

    def fails(*_: object, **__: object) -> None:
        raise OSError("the store is gone")

    epoch(writer, [row_at(0, sequence=1)], 1)
    with monkeypatch.context() as patch:
        patch.setattr(Table, "scan", fails)
        epoch(writer, [contradicting(row_at(0, sequence=1), 1)], 2)
    (error,) = errors(settings)
    assert NOT_READ in error


def test_a_slow_lookup_is_cut_off_and_paused(
    settings: Settings, writer: TradesWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the store hangs the commit waits a limited time, and the next lookups are skipped for a while."""
    hang, reads = threading.Event(), []

    def hangs(*_: object, **__: object) -> None:
        reads.append(1)
        hang.wait(60)
        raise OSError("the store is gone")

    monkeypatch.setattr(pending_conflicts, "LOOKUP_SECONDS_MAX", 0.05)
    monkeypatch.setattr(pending_conflicts, "_PAUSED_SECONDS_MIN", 0.01)
    monkeypatch.setattr(pending_conflicts, "PAUSE_FACTOR", 1_000)
    epoch(writer, [row_at(0, sequence=1)], 1)
    with monkeypatch.context() as patch:
        patch.setattr(Table, "scan", hangs)
        for offset in (1, 2):
            epoch(writer, [contradicting(row_at(0, sequence=1), offset)], offset + 1)
        hang.set()
        for thread in threading.enumerate():
            if thread.name == "conflict-lookup":
                thread.join()
    assert len(reads) == 1
    assert [NOT_READ in error for error in errors(settings)] == [True, True]


def test_a_table_of_many_files_is_read_until_the_deadline(settings: Settings, writer: TradesWriter) -> None:
    """Reading stops between two files at the deadline, and keeps what it has found."""
    days = range(20_000, 20_004)
    rows = [row_at(at, sequence=at, timestamp=day * 86_400_000_000) for at, day in enumerate(days)]
    epoch(writer, rows, 4)
    wanted = {StoredKey("kraken", "BTC-USD", 1, number) for number in range(4)}
    ticks = iter([0.0, 0.0, 9.0])
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    reading = pending_conflicts._Lookup(table, [], wanted, 5.0, lambda: next(ticks))
    # The newest days come first.
    assert {key.number for key in reading.wait(60)} == {2, 3}
    assert reading.is_complete is False

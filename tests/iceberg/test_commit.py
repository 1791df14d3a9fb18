"""Commits with a misbehaving catalog: applied but reported as failed, in doubt, in conflict, fenced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ServiceUnavailableError
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from k2.iceberg.commit import Committer
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.errors import FencedError, TableError, UnreachableError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import dlq_of, offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

HERE = TopicPartition("trades", 0)
FAULTS: list[Exception] = [
    CommitFailedException("reported as rejected"),
    CommitStateUnknownException("500"),
    ServiceUnavailableError("503"),
    ConnectionError("reset"),
    TimeoutError("slow"),
    requests.exceptions.ReadTimeout("slow"),
    OperationalError("COMMIT", {}, Exception("database is locked")),
    RuntimeError("nobody knows"),
]


class Catalog:
    """A real catalog whose responses to commits a test controls."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits: list[float] = []
        self.retries: list[str] = []
        self.commits = 0
        handle = TableHandle(settings, TableName.TRADES, self.retries.append)
        self.table = open_table(open_catalog(settings), settings, TableName.TRADES)
        committer = handle._committer = Committer(handle.committer().table, self.retries.append, self.waits.append)
        self._catalog = committer.table.catalog
        self._commit = self._catalog.commit_table
        self._monkeypatch = monkeypatch
        self.writer = TradesWriter("0", handle, committer.progress().of("0"), dlq_of(settings))

    def answer(self, answer: Callable[[Callable[[], Any], int], Any]) -> None:
        """Let `answer(commit, number)` decide the outcome of each commit."""

        def commit_table(*arguments: Any) -> Any:
            self.commits += 1
            return answer(lambda: self._commit(*arguments), self.commits)

        self._monkeypatch.setattr(self._catalog, "commit_table", commit_table)

    def land(self, first: int = 0, stop: int = 4) -> None:
        """Write rows and close the epoch."""
        self.writer.write_batch([slice_of([row_at(offset) for offset in range(first, stop)]), read_to(stop)])
        self.writer.snapshot()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job in a folder of its own."""
    return settings_in(tmp_path)


@pytest.fixture
def catalog(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """Return a catalog whose responses the test controls."""
    return Catalog(settings, monkeypatch)


def is_once(table: Table, stop: int = 4) -> bool:
    """Return whether the table can be scanned and contains each offset once, and its progress agrees."""
    progress = progress_of(table.refresh()).of("0")[HERE]
    return offsets_of(table) == list(range(stop)) and (progress.offset, progress.stored) == (stop, stop)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_an_applied_commit_is_not_repeated(catalog: Catalog, fault: Exception) -> None:
    """Whatever the response to an applied commit, it is found, once, and none of its files is deleted."""

    def applied(commit: Callable[[], Any], _number: int) -> Any:
        commit()
        raise fault

    catalog.answer(applied)
    catalog.land()
    catalog.land(4, 8)
    assert is_once(catalog.table, 8)
    assert (catalog.commits, len(catalog.table.snapshots())) == (2, 2)


@pytest.mark.parametrize("fault", FAULTS[:-1], ids=lambda fault: type(fault).__name__)
def test_a_commit_that_was_not_applied_is_retried(catalog: Catalog, fault: Exception) -> None:
    """A fault before the catalog did anything costs a wait and a retry, and no row."""

    def at_first_lost(commit: Callable[[], Any], number: int) -> Any:
        if number < 3:
            raise fault
        return commit()

    catalog.answer(at_first_lost)
    catalog.land()
    assert is_once(catalog.table)
    if isinstance(fault, CommitFailedException):
        assert max(catalog.waits) < 1
    else:
        assert catalog.waits == [2, 4]
        assert len(catalog.retries) == 2


def test_a_commit_applied_late_is_found_by_the_next_try(catalog: Catalog) -> None:
    """The first try is applied after the lookup: the second is rejected, and finds the first."""
    held: list[Callable[[], Any]] = []

    def late(commit: Callable[[], Any], number: int) -> Any:
        if number == 1:
            held.append(commit)
            raise TimeoutError("slow")
        held.pop()()
        return commit()

    catalog.answer(late)
    catalog.land()
    assert is_once(catalog.table)
    assert len(catalog.table.snapshots()) == 1


def test_a_catalog_that_stays_absent_ends_the_job(catalog: Catalog) -> None:
    """After three retries, 2 to 30 seconds apart, the error is named with the fault as its cause; nothing is stored."""

    def away(_commit: Callable[[], Any], _number: int) -> Any:
        raise ConnectionError("refused")

    catalog.answer(away)
    with pytest.raises(UnreachableError, match=r"market_data\.trades failed 4 times.*refused") as caught:
        catalog.land()
    assert (catalog.waits, catalog.commits) == ([2, 4, 8], 4)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert catalog.table.refresh().snapshots() == []


def test_a_permanent_fault_is_not_retried(catalog: Catalog) -> None:
    """Any other exception ends the process unchanged."""

    def broken(_commit: Callable[[], Any], _number: int) -> Any:
        raise KeyError("bug")

    catalog.answer(broken)
    with pytest.raises(KeyError):
        catalog.land()
    assert (catalog.waits, catalog.commits) == ([], 1)


def test_a_commit_is_rebased_on_those_of_others(settings: Settings, catalog: Catalog) -> None:
    """A foreign append and another property that are committed first are kept, and so is our commit."""
    catalog.land()
    foreign = open_table(open_catalog(settings), settings, TableName.TRADES)
    row = foreign.scan().to_arrow().slice(0, 1)

    def beaten(commit: Callable[[], Any], number: int) -> Any:
        if number <= 2:
            foreign.refresh().append(row)
        return commit()

    catalog.answer(beaten)
    catalog.land(4, 8)
    assert offsets_of(catalog.table) == sorted([*range(8), 0, 0])
    assert len(catalog.table.snapshots()) == 4


def test_a_second_instance_is_fenced(settings: Settings, catalog: Catalog) -> None:
    """Of two instances of one writer the first to commit continues; the other stops with the reason."""
    second = writer_of(settings)
    catalog.land()
    second.write_batch([slice_of([row_at(offset) for offset in range(6)]), read_to(6)])
    with pytest.raises(FencedError, match=r"writer 0: trades:0 is at offset 4 .* left it at none"):
        second.snapshot()
    catalog.land(4, 8)
    assert is_once(catalog.table, 8)


def test_a_second_instance_with_the_same_offsets_is_fenced(settings: Settings, catalog: Catalog) -> None:
    """The same progress by another instance is not mistaken for one's own commit."""
    second = writer_of(settings)
    catalog.land()
    second.write_batch([slice_of([row_at(offset) for offset in range(4)]), read_to(4)])
    with pytest.raises(FencedError):
        second.snapshot()
    assert is_once(catalog.table)


def test_a_recreated_table_stops_the_job(settings: Settings, catalog: Catalog) -> None:
    """A table that was dropped, or dropped and created again, is no longer written to."""
    catalog.land()
    other = open_catalog(settings)
    other.drop_table(catalog.table.name())
    with pytest.raises(TableError, match="was dropped while the job ran"):
        catalog.land(4, 8)
    open_table(other, settings, TableName.TRADES)
    with pytest.raises(TableError, match="not the one that the job started with"):
        catalog.land(4, 8)

"""A running writer and others on the same table, alike on SQLite, PostgreSQL and a REST catalog."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from typing import Final

import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table

from k2.iceberg.snapshot_retention import REMOVED_MIN
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName, connect
from k2.model.errors import FencedError, TableError
from k2.ops.failpoints import arm
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from tests.catalogs.fixtures import KINDS, SERVED, CatalogNamespace
from tests.iceberg.running import HERE, Running, assert_in_once, assert_whole, table_of
from tests.iceberg.trades_table import offsets_of

EVERYWHERE: Final = pytest.mark.parametrize("namespace", KINDS, indirect=True)
EPOCHS: Final = 20


@pytest.fixture
def writer(namespace: CatalogNamespace) -> Iterator[Running]:
    """Yield a writer that has committed offsets 0 to 7, four in each commit."""
    writer = Running(namespace.settings)
    writer.land(0, 4)
    writer.land(4, 8)
    yield writer
    arm(None)


def _append(table: Table) -> None:
    table.append(table.scan(row_filter=EqualTo("offset", 0)).to_arrow())


def _compact(table: Table) -> None:
    table.overwrite(table.scan().to_arrow())


def _delete(table: Table) -> None:
    table.delete(EqualTo("offset", 1))


def _expire(table: Table) -> None:
    *old, _ = [snapshot.snapshot_id for snapshot in table.snapshots()]
    table.maintenance.expire_snapshots().by_ids(old).commit()
    assert len(table.refresh().snapshots()) == 1


CHANGES: Final[dict[Callable[[Table], None], list[int]]] = {
    _append: [0, *range(12)],
    _compact: list(range(12)),
    _delete: [0, *range(2, 12)],
    _expire: list(range(12)),
}
"""What others do to the table at offsets 0 to 7, and the offsets stored once 8 to 11 are committed."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
@pytest.mark.parametrize("moment", ["between", "during"])
@EVERYWHERE
def test_changes_of_other_programs_are_kept(
    namespace: CatalogNamespace, writer: Running, moment: str, change: Callable[[Table], None]
) -> None:
    """Between two commits, or while one is under way: nothing is lost or doubled on either side."""
    if moment == "between":
        change(table_of(namespace.settings))
    else:
        _once("commit.staged", lambda: change(table_of(namespace.settings)))
    writer.land(8, 12)
    table = table_of(namespace.settings)
    assert offsets_of(table) == CHANGES[change]
    assert progress_of(table).of("0")[HERE].stored == 12
    assert_whole(table)


@EVERYWHERE
def test_a_commit_in_doubt_is_found_after_its_snapshot_expired(namespace: CatalogNamespace, writer: Running) -> None:
    """Applied with a lost response, then followed and expired by others before the lookup: it is stored once."""

    def lose_the_answer() -> None:
        table = table_of(namespace.settings)
        _append(table)
        _expire(table)
        raise ConnectionResetError("the answer is lost")

    _once("commit.landed", lose_the_answer)
    writer.land(8, 12)
    table = table_of(namespace.settings)
    assert offsets_of(table) == [0, *range(12)]
    assert progress_of(table).of("0")[HERE].stored == 12
    assert writer.waits == []


def _once(point: str, act: Callable[[], None]) -> None:
    def at(name: str) -> None:
        if name == point:
            arm(None)
            act()

    arm(at)


@EVERYWHERE
def test_of_two_live_instances_one_is_fenced(namespace: CatalogNamespace, writer: Running) -> None:
    """The first to commit continues, the other stops and names both sides, also with the same rows."""
    second = Running(namespace.settings)
    writer.land(8, 12)
    with pytest.raises(FencedError, match=r"writer 0: trades:0 is at offset 12 .* left it at 8 "):
        second.land(8, 12)
    writer.land(12, 16)
    assert_in_once(namespace.settings, 16, commits=4)


@EVERYWHERE
def test_a_recreated_table_stops_the_writer(namespace: CatalogNamespace, writer: Running) -> None:
    """A table that was dropped, or dropped and created again, is no longer written to."""
    catalog = open_catalog(namespace.settings)
    catalog.drop_table(table_of(namespace.settings).name())
    with pytest.raises(TableError, match="was dropped while the job ran"):
        writer.land(8, 12)
    made = connect(namespace.settings, TableName.TRADES)
    with pytest.raises(TableError, match="not the one that the job started with"):
        writer.land(8, 12)
    assert made.refresh().snapshots() == []


def _land_many(settings: Settings, number: int, together: Barrier) -> None:
    """Write every second offset in a process of its own, one in each epoch."""
    writer = Running(settings, str(number))
    together.wait()
    for epoch in range(EPOCHS):
        writer.land(2 * epoch + number, 2 * epoch + number + 1)


@pytest.mark.parametrize("namespace", SERVED, indirect=True)
def test_writers_in_two_processes_keep_each_others_commits(namespace: CatalogNamespace) -> None:
    """Twenty epochs each in parallel: forty commits, each row once, and complete progress of both."""
    settings = namespace.settings.model_copy(update={"writers": 2})
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(2, timeout=120)
    writers = [spawn.Process(target=_land_many, args=(settings, number, together)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    table = table_of(settings)
    assert offsets_of(table) == list(range(2 * EPOCHS))
    found = progress_of(table)
    assert [found.of(writer)[HERE].stored for writer in ("0", "1")] == [EPOCHS, EPOCHS]
    assert [found.of(writer)[HERE].offset for writer in ("0", "1")] == [2 * EPOCHS - 1, 2 * EPOCHS]
    assert len(table.snapshots()) == 2 * EPOCHS
    assert_whole(table)


@pytest.mark.parametrize("moment", ["quiet", "expiry during"])
@EVERYWHERE
def test_a_commit_removes_old_snapshots(namespace: CatalogNamespace, writer: Running, moment: str) -> None:
    """A commit that adds rows and removes snapshots is applied, also if others removed them just before."""
    with table_of(namespace.settings).transaction() as transaction:
        transaction.set_properties(
            {"history.expire.min-snapshots-to-keep": "1", "history.expire.max-snapshot-age-ms": "0"}
        )
    stop = 8 + REMOVED_MIN - 1
    for first in range(8, stop):
        writer.land(first, first + 1)
    assert len(table_of(namespace.settings).snapshots()) == REMOVED_MIN + 1
    if moment == "expiry during":
        _once("commit.staged", lambda: _expire(table_of(namespace.settings)))
    writer.land(stop, stop + 1)
    assert_in_once(namespace.settings, stop + 1, commits=2)

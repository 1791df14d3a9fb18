"""The reports: they match what the tables and files contain."""

from collections.abc import Callable, Sequence
from dataclasses import astuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType

from k2.iceberg.tables import TableName
from k2.model.errors import TableError
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.query.completeness import by_day
from k2.query.engine import Engine
from k2.query.gaps import gaps
from k2.query.pool import FilesGoneError
from k2.query.reconcile import Reconciliation, reconcile, summary
from k2.query.tables import NoTableError
from k2.storage.catalog import open_catalog
from tests.model.dead_letters import dead_letter
from tests.query.tables import (
    EPOCH,
    append,
    event,
    made,
    missing_now,
    progress,
    set_progress,
    trade,
    write_letters,
)


@pytest.mark.parametrize("report", [reconcile, gaps, summary, by_day, audit])
def test_reports_without_tables_raise(settings: Settings, report: Callable[[Settings], object]) -> None:
    """If nothing was ever stored no report says that nothing is missing, and none creates a folder."""
    with pytest.raises(NoTableError, match=r"K2_DATA_DIR=.*: there is no catalog in it"):
        report(settings)
    assert not settings.data_dir.exists()


def test_a_table_with_missing_columns_is_rejected(settings: Settings) -> None:
    """A table that lacks a column is not the job's."""
    catalog = open_catalog(settings)
    catalog.create_namespace("market_data")
    for name in ("trades", "sequence_events"):
        catalog.create_table(f"market_data.{name}", Schema(NestedField(1, "topic", StringType(), required=False)))
    for name, report in (("trades", reconcile), ("trades", by_day), ("sequence_events", gaps)):
        with pytest.raises(
            TableError, match=rf"market_data.{name} has no column \w+; use a table that the job created"
        ):
            report(settings)


def test_empty_tables(settings: Settings) -> None:
    """Tables without rows give empty reports."""
    made(settings, TableName.TRADES)
    made(settings, TableName.SEQUENCE_EVENTS)
    assert [report(settings) for report in (reconcile, gaps, summary, by_day)] == [[]] * 4


def test_summary(settings: Settings) -> None:
    """Each exchange has its counts, first and last time, and volume."""
    append(made(settings, TableName.TRADES), [trade(1), trade(3, symbol="ETHUSDT"), trade(2, exchange="kraken")])
    binance, kraken = summary(settings)
    second = timedelta(seconds=1)
    assert astuple(binance) == ("binance", 2, 2, EPOCH + second, EPOCH + 3 * second, 10.0)
    assert (kraken.exchange, kraken.trades, kraken.volume) == ("kraken", 1, 5.0)


@pytest.mark.parametrize(
    ("report", "name"),
    [
        *((report, TableName.TRADES) for report in (reconcile, summary, by_day)),
        (missing_now, TableName.SEQUENCE_EVENTS),
    ],
)
def test_files_deleted_meanwhile_are_planned_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, report: Callable[[Settings], list[Any]], name: TableName
) -> None:
    """A compaction between planning and reading is not an error: the report is that of the new files."""
    append(made(settings, TableName.TRADES), [trade(1), trade(3)])
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 2, 2)])
    table, expected = made(settings, name), report(settings)
    planned = [Path(task.file.file_path.removeprefix("file://")) for task in table.scan().plan_files()]
    show, todo = Engine.register, [lambda: table.overwrite(table.scan().to_arrow()), *(file.unlink for file in planned)]

    def shown(*given: Any, **named: Any) -> None:
        show(*given, **named)
        while todo:
            todo.pop(0)()

    monkeypatch.setattr(Engine, "register", shown)
    assert report(settings) == expected != []
    assert not todo


def test_a_lost_file_is_named(settings: Settings) -> None:
    """If a table's file is lost for good, a report raises rather than ignoring it."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(1)])
    (file,) = (task.file.file_path for task in table.scan().plan_files())
    Path(file.removeprefix("file://")).unlink()
    with pytest.raises(FilesGoneError, match="a file of the table cannot be read"):
        by_day(settings)


STORED = [trade(0), trade(1), trade(3), trade(5, index=0), trade(5, index=1)]
SAID = {"offset": 8, "received": 9, "stored": 5, "duplicates": 1, "dead_letters": 2, "skipped": 1}


def lay_out(
    settings: Settings,
    rows: list[dict[str, Any]],
    letters: list[Any],
    said: dict[str, int],
    uncounted: Sequence[Any] = (),
) -> Reconciliation:
    """Store rows, dead letters and progress, and reconcile the one partition."""
    table = made(settings, TableName.TRADES)
    append(table, rows)
    set_progress(table, progress(**said))
    write_letters(settings, letters, uncounted=uncounted)
    (row,) = reconcile(settings)
    return row


def test_an_equation_that_holds(settings: Settings) -> None:
    """Counted rows and dead letters that match the progress hold; uncommitted dead letters do not count yet."""
    row = lay_out(
        settings, STORED, [dead_letter(2), dead_letter(7)], SAID, [dead_letter(8), dead_letter(0, partition=1)]
    )
    assert row == Reconciliation("trades", 0, 9, 5, 1, 2, 1, holds=True)


@pytest.mark.parametrize(
    ("rows", "letters", "said"),
    [
        (STORED[:-1], [dead_letter(2), dead_letter(7)], SAID),
        ([*STORED, STORED[0]], [dead_letter(2), dead_letter(7)], SAID),
        ([*STORED[:-1], STORED[0]], [dead_letter(2), dead_letter(7)], SAID),
        (STORED, [dead_letter(2)], SAID),
        (STORED, [dead_letter(2), dead_letter(7), dead_letter(6)], SAID),
        (STORED, [dead_letter(2), dead_letter(2)], SAID),
        (STORED, [dead_letter(2), dead_letter(3)], SAID),
        (STORED, [dead_letter(2), dead_letter(5, index=1)], SAID),
        (STORED, [dead_letter(2), dead_letter(7)], {**SAID, "received": 10}),
        (STORED, [dead_letter(2), dead_letter(7)], {**SAID, "duplicates": 0}),
        (STORED, [dead_letter(2), dead_letter(7)], {**SAID, "skipped": 2}),
        (STORED[:-1], [dead_letter(2), dead_letter(6), dead_letter(7)], SAID),
    ],
    ids=[
        "a row deleted",
        "a row doubled",
        "a row doubled for one deleted",
        "a letter removed",
        "a letter more",
        "a letter doubled for one removed",
        "a letter for a stored row",
        "a letter for a stored row of a message that has several",
        "more received",
        "duplicates fewer",
        "skipped more",
        "a letter for a row: the sum comes out, the parts differ",
    ],
)
def test_an_equation_that_does_not_hold(
    settings: Settings, rows: list[dict[str, Any]], letters: list[Any], said: dict[str, int]
) -> None:
    """Each way in which rows, dead letters and progress can differ is detected."""
    assert not lay_out(settings, rows, letters, said).holds


def test_progress_is_summed_over_writers(settings: Settings) -> None:
    """Two writers' totals of a partition are one row."""
    where = TopicPartition("trades", 0)
    table = made(settings, TableName.TRADES)
    append(table, [trade(0), trade(1)])
    writers = {
        "0": {where: PartitionProgress(3, received=2, stored=1, dead_letters=1)},
        "1": {where: PartitionProgress(3, received=1, stored=1)},
    }
    set_progress(table, Progress(writers))
    write_letters(settings, [dead_letter(2)])
    assert reconcile(settings) == [Reconciliation("trades", 0, 3, 2, 0, 1, 0, holds=True)]


def test_rows_without_progress_do_not_hold(settings: Settings) -> None:
    """Rows of a partition without progress are listed, and do not hold."""
    append(made(settings, TableName.TRADES), [trade(0, partition=3)])
    assert reconcile(settings) == [Reconciliation("trades", 3, 0, 1, 0, 0, 0, holds=False)]

"""Additive evolution: columns of others are left alone, and a column of ours is added to an older table."""

from pathlib import Path

import pytest
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IntegerType, LongType, StringType

from k2.iceberg.tables import _DESIGNS, TableName, open_table
from k2.model.columns import TRADES
from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.query.market import open_market
from k2.query.query_builders import trades
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import read_to, row_at, rows_of, settings_in, writer_of
from tests.model.trade_slices import slice_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job in a folder of its own."""
    return settings_in(tmp_path)


def opened(settings: Settings) -> Table:
    """Open the table `trades` as a start of the job does."""
    return open_table(open_catalog(settings), settings, TableName.TRADES)


def made_by_an_earlier_version(settings: Settings) -> Table:
    """Make the table `trades` without the columns that later versions added."""
    catalog, design = open_catalog(settings), _DESIGNS[TableName.TRADES]
    catalog.create_namespace_if_not_exists(settings.namespace)
    later = {column.name for column in TRADES if column.is_later}
    fields = [field for field in design.schema.fields if field.name not in later]
    return catalog.create_table(
        f"{settings.namespace}.trades",
        Schema(*fields),
        partition_spec=design.spec,
        sort_order=design.sort_order,
        properties={"k2.writers": "1", "format-version": "2"},
    )


def store(settings: Settings, offset: int) -> None:
    """Commit one trade as the job does, in a process that starts now."""
    writer = writer_of(settings)
    writer.write_batch([slice_of([row_at(offset, sequence=offset)]), read_to(offset + 1)])
    writer.snapshot()
    writer.close()


def test_an_older_table_gets_later_columns(settings: Settings) -> None:
    """The next start adds them as optional columns, once; queries read older and newer files."""
    table = made_by_an_earlier_version(settings)
    assert "origin" not in table.schema().column_names
    assert opened(settings).schema().column_names[-2:] == ["origin", "first_sequence"]
    assert len(opened(settings).metadata.schemas) == 2
    store(settings, 0)
    assert [row["origin"] for row in rows_of(opened(settings))] == [None]


def test_a_column_of_others_is_left_alone(settings: Settings) -> None:
    """The job goes on, its rows have null there, and every query still answers."""
    store(settings, 0)
    with opened(settings).update_schema() as update:
        update.add_column("note", StringType())
    store(settings, 1)
    table = opened(settings)
    assert [(row["offset"], row["note"]) for row in rows_of(table)] == [(0, None), (1, None)]
    with open_market(settings) as market:
        found = market.table(trades()).to_pylist()
    assert [(row["offset"], row["note"]) for row in found] == [(0, None), (1, None)]
    assert all(partition.holds for partition in reconcile(settings))


def test_a_column_added_while_the_job_runs_does_not_stop_it(settings: Settings) -> None:
    """A writer that was started before goes on with its own columns."""
    writer = writer_of(settings)
    writer.write_batch([slice_of([row_at(0, sequence=0)]), read_to(1)])
    with opened(settings).update_schema() as update:
        update.add_column("note", LongType())
    writer.snapshot()
    writer.write_batch([slice_of([row_at(1, sequence=1)]), read_to(2)])
    writer.snapshot()
    assert [row["note"] for row in rows_of(opened(settings))] == [None, None]


def test_a_name_that_others_took_keeps_their_field_id(settings: Settings) -> None:
    """An `origin` of the right type that another program added is the job's; one of another type is refused."""
    with made_by_an_earlier_version(settings).update_schema() as update:
        update.add_column("note", LongType())
        update.add_column("origin", StringType())
    assert opened(settings).schema().find_field("origin").field_id == len(TRADES)
    store(settings, 0)


@pytest.mark.parametrize("name", ["origin", "side"])
def test_other_changes_are_refused(settings: Settings, name: str) -> None:
    """A column of the job with another type names the difference and the way out."""
    with opened(settings).update_schema(allow_incompatible_changes=True) as update:
        update.delete_column(name)
    with opened_as_is(settings).update_schema() as update:
        update.add_column(name, IntegerType())
    with pytest.raises(TableError, match=rf"column '{name}' is optional int.*K2_NAMESPACE"):
        opened(settings)


def test_a_required_column_of_others_is_refused(settings: Settings) -> None:
    """The job could not write its rows."""
    with opened(settings).update_schema(allow_incompatible_changes=True) as update:
        update.add_column("note", LongType(), required=True)
    with pytest.raises(TableError, match="column 'note', which the job does not know, is required"):
        opened(settings)


def opened_as_is(settings: Settings) -> Table:
    """Load the table `trades` without any check."""
    return open_catalog(settings).load_table(f"{settings.namespace}.trades")

"""Creating the tables, alone and in a race, and rejecting tables that are not the job's."""

import multiprocessing
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from k2.iceberg.snapshot_retention import PROPERTIES
from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName, connect, open_table
from k2.model.errors import SettingsError, TableError
from k2.model.progress import Progress
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import settings_in


def open_all(folder: Path) -> list[str]:
    """Open all tables as a process of its own; return their UUIDs."""
    settings = settings_in(folder)
    return [str(connect(settings, which).metadata.table_uuid) for which in TableName]


def test_processes_that_race_to_create_the_tables_all_succeed(tmp_path: Path) -> None:
    """Several processes at once end up with the same tables."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(open_all, [tmp_path / "data"] * 3)
    assert found == [found[0]] * 3


@pytest.mark.parametrize(
    ("which", "column"),
    [(TableName.TRADES, "exchange"), (TableName.SEQUENCE_EVENTS, "exchange"), (TableName.COMMITS, "table_uuid")],
)
def test_a_table_with_another_schema_is_rejected(tmp_path: Path, which: TableName, column: str) -> None:
    """The error names the first difference and the command or setting that helps."""
    settings = settings_in(tmp_path)
    catalog = open_catalog(settings)
    catalog.create_namespace("market_data")
    catalog.create_table(f"market_data.{which}", Schema(NestedField(1, column, LongType(), required=True)))
    with pytest.raises(
        TableError, match=rf"column '{column}' is required long with id 1, not required string.*K2_NAMESP"
    ):
        open_table(catalog, settings, which)


def test_a_table_with_another_partitioning_is_rejected(tmp_path: Path) -> None:
    """Files of one day and exchange do not fit a table without partitions."""
    settings = settings_in(tmp_path)
    catalog = open_catalog(settings)
    schema = open_table(catalog, settings, TableName.TRADES).schema()
    catalog.drop_table("market_data.trades")
    catalog.create_table("market_data.trades", schema, partition_spec=UNPARTITIONED_PARTITION_SPEC)
    with pytest.raises(TableError, match=r"partitioning is none, not day\(timestamp\), identity\(exchange\)"):
        open_table(catalog, settings, TableName.TRADES)


def test_the_number_of_writers_is_fixed(tmp_path: Path) -> None:
    """A `K2_WRITERS` other than the table's is rejected, with both numbers; the ledger does not depend on it."""
    catalog = open_catalog(settings_in(tmp_path))
    for which in TableName:
        open_table(catalog, settings_in(tmp_path, writers=2), which)
    with pytest.raises(SettingsError, match=r"K2_WRITERS=3.*created for 2 writers"):
        open_table(catalog, settings_in(tmp_path, writers=3), TableName.TRADES)
    open_table(catalog, settings_in(tmp_path, writers=3), TableName.SEQUENCE_EVENTS)


def test_the_number_of_key_groups_is_fixed(tmp_path: Path) -> None:
    """A table with another number is rejected; one of a version that recorded none counts as having this number."""
    settings = settings_in(tmp_path)
    catalog = open_catalog(settings)
    table = open_table(catalog, settings, TableName.TRADES)
    assert table.properties["k2.key_groups"] == "16"
    with table.transaction() as transaction:
        transaction.remove_properties("k2.key_groups")
    table = open_table(catalog, settings, TableName.TRADES)
    with table.transaction() as transaction:
        transaction.set_properties({"k2.key_groups": "32"})
    with pytest.raises(TableError, match=r"created for 32 key groups, this version has 16"):
        open_table(catalog, settings, TableName.TRADES)


@pytest.mark.parametrize("which", list(TableName))
def test_new_tables_turn_off_vectorized_reads(tmp_path: Path, which: TableName) -> None:
    """Spark's vectorized reader fails on the encoding of trade ids."""
    settings = settings_in(tmp_path)
    table = open_table(open_catalog(settings), settings, which)
    assert table.properties["read.parquet.vectorization.enabled"] == "false"


@pytest.mark.parametrize("which", list(TableName))
def test_retention_rules_are_table_properties(tmp_path: Path, which: TableName) -> None:
    """A new table has the rules, for other tools as well; an invalid value is rejected by name."""
    settings = settings_in(tmp_path)
    catalog = open_catalog(settings)
    table = open_table(catalog, settings, which)
    assert PROPERTIES.items() <= table.properties.items()
    with table.transaction() as transaction:
        transaction.set_properties({"history.expire.min-snapshots-to-keep": "all"})
    with pytest.raises(TableError, match=rf"invalid snapshot retention .*{which}.*min-snapshots-to-keep.*all; correct"):
        open_table(catalog, settings, which)


def test_reading_progress_creates_nothing(tmp_path: Path) -> None:
    """Reading the progress creates neither folder, nor catalog, nor table."""
    settings = settings_in(tmp_path / "data")
    assert read_progress(settings) == Progress()
    assert not (tmp_path / "data").exists()
    catalog = open_catalog(settings)
    assert read_progress(settings) == Progress()
    assert catalog.list_namespaces() == []


def test_a_foreign_writer_with_the_schema_may_append(tmp_path: Path) -> None:
    """PyIceberg accepts an append whose required columns are not nullable."""
    settings = settings_in(tmp_path)
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    table.append(pa.Table.from_pylist([], schema=table.schema().as_arrow()))
    assert table.scan().to_arrow().num_rows == 0

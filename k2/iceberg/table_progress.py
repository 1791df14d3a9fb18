"""Read the progress recorded in a table."""

from pyiceberg.table import Table

from k2.iceberg.tables import TableName
from k2.model.progress import Progress
from k2.ops.settings import Settings
from k2.storage.catalog import find_table
from k2.storage.table_properties import PROGRESS

__all__ = ["progress_of", "read_progress"]


def read_progress(settings: Settings, which: TableName = TableName.TRADES) -> Progress:
    """Return a table's progress; if the table or the catalog does not exist, it is empty, and nothing is created.

    Raises:
        TableError: the progress in the table can't be read.
        UnreachableError: the catalog does not answer, after retries.
    """
    table = find_table(settings, which)
    return Progress() if table is None else progress_of(table)


def progress_of(table: Table) -> Progress:
    """Return the progress that the table's metadata, as loaded, has."""
    return PROGRESS.read(table.metadata.properties)

"""Reading what is in a table from the table itself."""

from pyiceberg.table import Table

from k2.iceberg.catalog import find_table
from k2.iceberg.tables import TableName
from k2.model.progress import Progress
from k2.ops.settings import Settings

__all__ = ["progress_of", "read_progress"]


def read_progress(settings: Settings, which: TableName = TableName.TRADES) -> Progress:
    """Return what is in the table; nothing is made where the table, or the catalog, is not there.

    Raises:
        TableError: the progress in the table can't be read.
        UnreachableError: the catalog does not answer, after retries.
    """
    table = find_table(settings, which)
    return Progress() if table is None else progress_of(table)


def progress_of(table: Table) -> Progress:
    """Return the progress that the table's metadata, as loaded, has."""
    return Progress.in_properties(table.metadata.properties)

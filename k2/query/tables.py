"""The job's tables, looked up where they must be."""

from collections.abc import Iterable

from pyiceberg.table import Table

from k2.model.errors import SettingsError, TableError
from k2.ops.settings import Settings
from k2.query.pool import EnginePool
from k2.storage.catalog import catalog_exists, find_table

__all__ = ["NoTableError", "check_columns", "existing_table", "find_job_table", "no_table_error"]


class NoTableError(SettingsError):
    """There is no such table where the settings say: another one than was meant, or the job has never run."""


def find_job_table(settings: Settings, name: str, pool: EnginePool | None = None) -> Table | None:
    """Return one of the job's tables as it is now, or None; a pool lends a catalog that is already open.

    Raises:
        UnreachableError: the catalog does not answer, after retries.
    """
    return find_table(settings, name) if pool is None else pool.find_table(name)


def existing_table(settings: Settings, name: str, pool: EnginePool | None = None) -> Table:
    """Return one of the job's tables likewise.

    Raises:
        NoTableError: there is none; one sentence that names the settings which say where it is.
        UnreachableError: the catalog does not answer, after retries.
    """
    table = find_job_table(settings, name, pool)
    if table is None:
        raise no_table_error(settings, name)
    return table


def no_table_error(settings: Settings, name: str) -> NoTableError:
    """Say that a table is not there."""
    if not catalog_exists(settings):
        return NoTableError(
            f"K2_DATA_DIR={settings.data_dir}: there is no catalog in it, so no table {settings.namespace}.{name}; "
            "mend it (or K2_CATALOG), or let the job run, which makes it"
        )
    return NoTableError(
        f"K2_NAMESPACE={settings.namespace}: there is no table {settings.namespace}.{name} in catalog "
        f"{settings.catalog!r}; mend it (or K2_CATALOG, K2_DATA_DIR), or let the job run, which makes it"
    )


def check_columns(table: Table, columns: Iterable[str]) -> None:
    """Refuse a table of the job's name that is not the job's.

    Raises:
        TableError: it lacks a column.
    """
    lacking = sorted({*columns} - {*table.schema().column_names})
    if lacking:
        name = ".".join(table.name())
        raise TableError(f"table {name} has no column {lacking[0]}: it is of another shape than the job makes")

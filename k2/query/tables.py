"""Lookup of the job's tables, with errors that name the settings."""

from collections.abc import Iterable

from pyiceberg.table import Table

from k2.model.errors import SettingsError, TableError
from k2.ops.settings import Settings
from k2.query.pool import EnginePool
from k2.storage.catalog import catalog_exists, find_table

__all__ = ["NoTableError", "check_columns", "existing_table", "find_job_table", "no_table_error"]


class NoTableError(SettingsError):
    """The table does not exist: the settings are wrong, or the job has never run."""


def find_job_table(settings: Settings, name: str, pool: EnginePool | None = None) -> Table | None:
    """Return the current version of one of the job's tables, through `pool` if given; None if it does not exist.

    Raises:
        UnreachableError: the catalog does not respond, after retries.
    """
    return find_table(settings, name) if pool is None else pool.find_table(name)


def existing_table(settings: Settings, name: str, pool: EnginePool | None = None) -> Table:
    """Return the current version of one of the job's tables.

    Raises:
        NoTableError: the table does not exist; the message names the settings of its location.
        UnreachableError: the catalog does not respond, after retries.
    """
    table = find_job_table(settings, name, pool)
    if table is None:
        raise no_table_error(settings, name)
    return table


def no_table_error(settings: Settings, name: str) -> NoTableError:
    """Return the error for a table that does not exist."""
    if not catalog_exists(settings):
        return NoTableError(
            f"K2_DATA_DIR={settings.data_dir}: there is no catalog in it, so no table {settings.namespace}.{name}; "
            "correct it (or K2_CATALOG), or start the job (`k2 run`), which creates the table"
        )
    return NoTableError(
        f"K2_NAMESPACE={settings.namespace}: there is no table {settings.namespace}.{name} in catalog "
        f"{settings.catalog!r}; correct it (or K2_CATALOG, K2_DATA_DIR), or start the job (`k2 run`), which creates "
        "the table"
    )


def check_columns(table: Table, columns: Iterable[str]) -> None:
    """Raise if a table was not created by the job.

    Raises:
        TableError: a column is missing.
    """
    lacking = sorted({*columns} - {*table.schema().column_names})
    if lacking:
        name = ".".join(table.name())
        raise TableError(f"table {name} has no column {lacking[0]}; use a table that the job created")

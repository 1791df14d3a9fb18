"""Checks of `k2 run` before the job starts. The recovery store is created last, when all else is well."""

from pathlib import Path
from typing import Final

import typer

from k2.iceberg.table_progress import read_progress
from k2.kafka.client import topic_partitions
from k2.kafka.schema_registry import open_schema_registry
from k2.model.errors import SettingsError
from k2.ops.settings import read_settings
from k2.restore.recovery_store import lock_and_check
from k2.storage.dead_letters.folders import check_dead_letters
from k2.storage.recovery.backup import make_store
from k2.storage.recovery.store import partition_files

__all__ = ["check_start"]

PARTITIONS_MIN: Final = 4
"""Partitions of a new store, at least: as many workers can share it later."""


def check_start(recovery_directory: str | None, process: int, processes: int, workers: int) -> Path:
    """Check settings, catalog, topics and recovery store, and return the folder of the store.

    Raises:
        SettingsError: a setting is invalid, a topic does not exist, or a folder cannot be written.
        UnreachableError: the broker or the catalog does not answer.
        StateError: another execution uses the store, or it cannot be resumed from.
        TableError: the table is not the job's.
    """
    settings = read_settings()
    folder = settings.data_dir / "recovery" if recovery_directory is None else Path(recovery_directory)
    check_dead_letters(settings)
    open_schema_registry(settings)
    read_progress(settings)
    topic_partitions(settings)
    if process:
        _make_folder(folder)
        return folder
    if not partition_files(folder):
        store = make_store(folder, max(PARTITIONS_MIN, workers * processes))
        typer.echo(f"k2: created the recovery store {folder} with {store.partitions} partitions", err=True)
    # The job takes the lock again: this program's own ends with it.
    lock_and_check(settings, folder, process, processes)
    return folder


def _make_folder(folder: Path) -> None:
    """Create the folder of a process whose peer has all partitions; Bytewax requires one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder}: a recovery store cannot be put there: {error.strerror}") from error

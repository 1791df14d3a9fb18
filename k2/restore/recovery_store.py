"""The recovery store before the dataflow runs: held by this execution alone, this job's, and whole."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from k2.iceberg.partition_counts import check_recovered
from k2.iceberg.table_progress import progress_of, read_progress
from k2.iceberg.tables import TableName
from k2.model.errors import SettingsError
from k2.model.progress import TopicPartition
from k2.model.state_source import Positions
from k2.ops.settings import Settings
from k2.ops.signals import is_job
from k2.storage.catalog import find_table
from k2.storage.recovery.backup import delete_unfinished_epoch
from k2.storage.recovery.lock import lock_store
from k2.storage.recovery.store import Store, check_store, partition_files, read_store

__all__ = ["NO_STORE", "ResumeInfo", "prepare_recovery_store"]

_LOG = structlog.get_logger()


class ResumeInfo(NamedTuple):
    """What the recovery store brings to this run."""

    is_resumed: bool = False
    """Whether states may be resumed from it; a process whose peers have the partitions cannot know, and says so."""
    sources: frozenset[TopicPartition] = frozenset()
    """The topic partitions of which it holds a state."""
    written: Mapping[str, Positions] | None = None
    """How far the table was at the resume epoch, by writer; None where a part of the store lies with peers."""


NO_STORE: Final = ResumeInfo()


def prepare_recovery_store(settings: Settings) -> ResumeInfo:
    """See to the store that `python -m bytewax.run` was given, before anything is touched.

    It is locked for as long as the process lives, and refused where it is none, another flow's, or not whole. What
    an epoch that was cut off left in it is removed. That the table has progress of which no store knows is said.

    Raises:
        SettingsError: the folder is no recovery store.
        StateError: another execution runs on it, it cannot be resumed from, or it is ahead of the table.
    """
    arguments = _arguments()
    if arguments is None:
        return NO_STORE
    if arguments.recovery_directory is None:
        _warn_of_lost(settings, "no recovery store is given (-r), but the table has progress: going on from the table")
        return NO_STORE
    store = _held(settings, Path(arguments.recovery_directory), arguments.process_id or 0, _processes(arguments))
    held = _brought(store)
    if store is not None and not held.is_resumed:
        _warn_of_lost(
            settings,
            "the recovery store is empty, but the table has progress: going on from the table",
            store=str(store.folder),
        )
    return held


def _brought(store: Store | None) -> ResumeInfo:
    if store is None:
        return ResumeInfo(is_resumed=True)
    if store.execution is None and not store.missing:
        return NO_STORE
    written = None if store.missing else store.written
    return ResumeInfo(is_resumed=True, sources=store.sources, written=written)


def _held(settings: Settings, folder: Path, process: int, processes: int) -> Store | None:
    """Lock and check a folder; None for that of a process whose peers have all partitions."""
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; make a recovery store by `k2 recovery init {folder}`")
    if process and not partition_files(folder):
        return None
    read_store(folder)
    # Never closed: the lock is to last as long as the process.
    lock_store(folder, process)
    store = read_store(folder)
    if processes > 1 and store.missing and not store.problem:
        _LOG.warning(
            "partitions of the recovery store lie with other processes: give all to process 0, or they are not found "
            "when there are fewer processes",
            store=str(folder),
            missing=store.missing,
        )
        return store
    check_store(store)
    _check_ahead(settings, store)
    removed = 0 if process else delete_unfinished_epoch(store)
    _LOG.info("recovery store", store=str(folder), resume_epoch=store.resume_epoch, unfinished_removed=removed)
    return store


def _check_ahead(settings: Settings, store: Store) -> None:
    """Refuse a store that knows of more than the table holds, before the ledger is brought back to the table."""
    table = find_table(settings, TableName.TRADES)
    if table is None:
        return
    name, table_id, progress = ".".join(table.name()), str(table.metadata.table_uuid), progress_of(table)
    for writer, offsets in store.written.items():
        check_recovered(offsets, store.table, progress.of(writer), name, table_id)


def _arguments() -> Namespace | None:
    """Return the arguments as Bytewax's own parser reads them; None where it is not `bytewax.run` that runs."""
    if not is_job():
        return None
    arguments = sys.modules["__main__"]._parse_args()  # noqa: SLF001  it alone knows the variables next to the options
    assert isinstance(arguments, Namespace)
    return arguments


def _processes(arguments: Namespace) -> int:
    return len(arguments.addresses.split(";")) if arguments.addresses else 1


def _warn_of_lost(settings: Settings, what: str, **more: str) -> None:
    if read_progress(settings).partitions():
        _LOG.warning(what, **more)

"""Prepare the recovery store before the dataflow runs: lock it, check it, and delete its unfinished epoch."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from pyiceberg.table import Table

from k2.iceberg.resume_state import check_recovered
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

__all__ = [
    "NO_STORE",
    "Cluster",
    "ResumeInfo",
    "check_ahead",
    "find_cluster",
    "is_permitted_part",
    "is_resumed",
    "lock_and_check",
    "prepare_recovery_store",
]

_LOG = structlog.get_logger()


class ResumeInfo(NamedTuple):
    """What the recovery store contributes to this execution."""

    is_resumed: bool = False
    """Whether state may be resumed; also true for a process whose peers have all partitions, because it cannot know."""
    sources: frozenset[TopicPartition] = frozenset()
    """The topic partitions that the store has a state of."""
    written: Mapping[str, Positions] | None = None
    """The table's offsets at the resume epoch, by writer; None if peers have a part of the store."""
    executions: int = 0
    """Number of earlier executions that the store has."""


NO_STORE: Final = ResumeInfo()


def prepare_recovery_store(settings: Settings) -> ResumeInfo:
    """Prepare the store passed to `python -m bytewax.run`, before anything else is touched.

    Lock the store for the life of the process. Reject a folder that is not a store, belongs to another flow, or is
    incomplete. Delete what an interrupted epoch left in it. Log a warning if the table has progress, but the store has
    none.

    Raises:
        SettingsError: the folder is not a recovery store.
        StateError: another execution uses it, it cannot be resumed from, or it is ahead of the table.
    """
    arguments = _arguments()
    if arguments is None:
        return NO_STORE
    if arguments.recovery_directory is None:
        _warn_if_table_has_progress(settings, "recovery_store_absent")
        return NO_STORE
    cluster = _cluster_of(arguments)
    store = lock_and_check(settings, Path(arguments.recovery_directory), cluster.process, cluster.size)
    if store is not None:
        _clean_up(store, cluster.process)
    resume_info = _resume_info(store)
    if store is not None and not resume_info.is_resumed:
        _warn_if_table_has_progress(settings, "recovery_store_empty", store=str(store.folder))
    return resume_info


class Cluster(NamedTuple):
    """The processes that this one is configured to run with, itself included."""

    addresses: tuple[str, ...]
    """HOST:PORT of each, by number; none if this is the only process."""
    process: int

    @property
    def size(self) -> int:
        """The number of processes."""
        return len(self.addresses) or 1


def find_cluster() -> Cluster:
    """Return the cluster of this process, by the arguments of Bytewax."""
    arguments = _arguments()
    return Cluster((), 0) if arguments is None else _cluster_of(arguments)


def _cluster_of(arguments: Namespace) -> Cluster:
    addresses = tuple(arguments.addresses.split(";")) if arguments.addresses else ()
    return Cluster(addresses, arguments.process_id or 0)


def _resume_info(store: Store | None) -> ResumeInfo:
    if store is None:
        return ResumeInfo(is_resumed=True)
    if not is_resumed(store):
        return NO_STORE
    written = None if store.missing else store.written
    executions = 0 if store.execution is None else store.execution + 1
    return ResumeInfo(is_resumed=True, sources=store.sources, written=written, executions=executions)


def is_resumed(store: Store) -> bool:
    """Return whether a start resumes states; also true for a part of a store, because it cannot know."""
    return store.execution is not None or bool(store.missing)


def is_permitted_part(store: Store, *, is_cluster: bool) -> bool:
    """Return whether a store lacks only partitions that other processes of a cluster may have."""
    return is_cluster and bool(store.missing) and not store.problem


def lock_and_check(settings: Settings, folder: Path, process: int, process_count: int) -> Store | None:
    """Lock a store for this program and check it; None for a process whose peers have all partitions.

    A part of a store, whose other partitions may be with peers, is only checked for being readable.

    Raises:
        SettingsError: the folder is not a recovery store.
        StateError: another execution uses it, it cannot be resumed from, or it is ahead of the table.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder; create a recovery store with `k2 recovery init {folder}`")
    if process and not partition_files(folder):
        return None
    read_store(folder)
    # Never closed: the lock must last as long as the process.
    lock_store(folder, process)
    store = read_store(folder)
    if not is_permitted_part(store, is_cluster=process_count > 1):
        check_store(store)
        table = find_table(settings, TableName.TRADES)
        if table is not None:
            check_ahead(table, store)
    return store


def _clean_up(store: Store, process: int) -> None:
    """Delete what an interrupted epoch left in a store that was checked; leave a part of a store as it is."""
    if store.missing:
        _LOG.warning(
            "recovery_partitions_elsewhere",
            store=str(store.folder),
            missing=store.missing,
            effect="not found if the job is restarted with fewer processes; keep all partitions with process 0",
        )
        return
    removed = 0 if process else delete_unfinished_epoch(store)
    _LOG.info(
        "recovery_store_ready", store=str(store.folder), resume_epoch=store.resume_epoch, unfinished_removed=removed
    )


def check_ahead(table: Table, store: Store) -> None:
    """Reject a store that is ahead of the table `trades`, before the ledger is rolled back to the table.

    Raises:
        StateError: the store is ahead of the table, or of another table.
    """
    name, table_id, progress = ".".join(table.name()), str(table.metadata.table_uuid), progress_of(table)
    for writer, offsets in store.written.items():
        check_recovered(offsets, store.table, progress.of(writer), name, table_id)


def _arguments() -> Namespace | None:
    """Return the arguments as parsed by Bytewax; None if the process was not started by `bytewax.run`."""
    if not is_job():
        return None
    arguments = sys.modules["__main__"]._parse_args()  # noqa: SLF001  it alone knows the variables next to the options
    assert isinstance(arguments, Namespace)
    return arguments


def _warn_if_table_has_progress(settings: Settings, event: str, **fields: str) -> None:
    if read_progress(settings).partitions():
        _LOG.warning(event, **fields, effect="the table has progress: continuing from the table")

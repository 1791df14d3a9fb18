"""Check of the recovery store: whether a start can resume from it, and whether it fits the table."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyiceberg.table import Table

from k2.doctor.findings import Finding, Shared, failed, ok, warning
from k2.doctor.tables import Found
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName
from k2.model.errors import StateError
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.restore.recovery_store import check_ahead, is_permitted_part, is_resumed
from k2.storage.recovery.lock import is_locked
from k2.storage.recovery.store import Store, partition_files, read_store, resume_problem

__all__ = ["Start", "check_recovery_store"]


class Start(NamedTuple):
    """What a start gets besides the settings."""

    recovery_directory: Path | None = None
    """None for that of `K2_DATA_DIR`, which need not exist."""
    is_cluster: bool = False
    """Whether it is one of several processes, each of which may have a part of the store."""
    process: int | None = None
    """The number of the process in its cluster; None if that was not given."""


def check_recovery_store(
    settings: Settings, start: Start, shared: Shared[Found], resumed: Shared[bool]
) -> Iterator[Finding]:
    """Check the store that a start would resume from, and share whether it would.

    Raises:
        SettingsError: the folder that was named does not exist.
        StateError: the store cannot be read.
    """
    check = "recovery store"
    folder = settings.data_dir / "recovery" if start.recovery_directory is None else start.recovery_directory
    if not partition_files(folder) and (start.recovery_directory is None or folder.is_dir()):
        if not start.is_cluster:
            resumed.set(False)
        yield _no_store(check, folder, start)
        return
    store = read_store(folder)
    resumed.set(is_resumed(store))
    use = "in use by a running job" if is_locked(store.folder) else "not in use"
    if is_permitted_part(store, is_cluster=start.is_cluster):
        yield warning(check, f"{folder}, {use}, {_part(store)}")
        return
    problem = resume_problem(store)
    if problem is not None:
        is_part = is_permitted_part(store, is_cluster=True)
        unless = "unless other processes of a cluster have the rest (then add its -a), " if is_part else ""
        yield failed(check, f"{unless}{problem}")
        return
    yield ok(check, f"{store.folder}, {use}, resumes from epoch {store.resume_epoch}")
    trades = shared.get()[TableName.TRADES]
    compared = "recovery store progress"
    if trades is None:
        # A start would take offsets for committed that no table has.
        if store.offsets:
            text = f"{store.folder} has offsets, but there is no table; run `k2 recovery status {store.folder}`"
            yield failed(compared, text)
        return
    try:
        check_ahead(trades, store)
    except StateError as error:
        yield failed(compared, str(error))
        return
    yield ok(compared, f"{format_count(_replayed(store, trades), 'message')} of the table will be replayed")


def _no_store(check: str, folder: Path, start: Start) -> Finding:
    if start.process:
        return ok(check, f"{folder} has no partition: process 0 has them, and process {start.process} needs none")
    if start.recovery_directory is None:
        return ok(check, f"there is none in {folder}; `k2 run` creates one")
    lost = "if process 0 had a store, name its folder by -r, or put its files back"
    if start.process is not None:
        return warning(check, f"{folder} has no partition of a recovery store; `k2 run` creates one there; {lost}")
    # As of processes whose peers have all partitions; Bytewax requires a folder also of them.
    return warning(
        check,
        f"{folder} has no partition of a recovery store, which is right for processes 1 and later of a cluster, to "
        f"which `k2 run` gives such a folder (add its -i); {lost}",
    )


def _part(store: Store) -> str:
    names = ", ".join(map(str, store.missing))
    return (
        f"lacks partition {names} of {store.partitions_expected}, which is right if other processes of the cluster "
        "have it; keep all partitions with process 0, so that a start with fewer processes finds them"
    )


def _replayed(store: Store, trades: Table) -> int:
    progress = progress_of(trades)
    return sum(
        max(0, (progress.next_offset(one, progress.writers) or 0) - offset) for one, offset in store.offsets.items()
    )

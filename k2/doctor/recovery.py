"""Check of the recovery store: whether a start can resume from it, and whether it fits the table."""

from collections.abc import Iterator
from pathlib import Path

from pyiceberg.table import Table

from k2.doctor.findings import Finding, Shared, failed, ok
from k2.doctor.tables import Found
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName
from k2.model.errors import StateError
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.restore.recovery_store import check_ahead
from k2.storage.recovery.lock import is_locked
from k2.storage.recovery.store import Store, check_store, partition_files, read_store

__all__ = ["check_recovery_store"]


def check_recovery_store(settings: Settings, folder: Path | None, shared: Shared[Found]) -> Iterator[Finding]:
    """Check a store; without a folder that of `K2_DATA_DIR`, which need not exist.

    Raises:
        SettingsError: the folder that was named is not a recovery store.
        StateError: the store cannot be read, or resumed from, or is ahead of the table.
    """
    check = "recovery store"
    default = settings.data_dir / "recovery"
    if folder is None and not partition_files(default):
        yield ok(check, f"there is none in {default}; `k2 run` creates one")
        return
    store = read_store(default if folder is None else folder)
    check_store(store)
    use = "in use by a running job" if is_locked(store.folder) else "not in use"
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


def _replayed(store: Store, trades: Table) -> int:
    progress = progress_of(trades)
    return sum(
        max(0, (progress.next_offset(one, progress.writers) or 0) - offset) for one, offset in store.offsets.items()
    )

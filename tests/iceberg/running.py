"""A writer of the trades table as the job runs it, and the table as another program sees it."""

from collections.abc import Callable
from typing import Final

from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName
from k2.iceberg.trades_writer import TradesWriter
from k2.model.progress import TopicPartition
from k2.ops.retry import COMMIT_CONFLICT
from k2.ops.settings import Settings
from k2.storage.catalog import find_table
from tests.iceberg.trades_table import dlq_of, offsets_of, read_to, row_at
from tests.model.trade_slices import slice_of

HERE: Final = TopicPartition("trades", 0)


class Running:
    """An opened writer whose waits are recorded instead of slept."""

    def __init__(self, settings: Settings, writer: str = "0") -> None:
        self.waits: list[float] = []
        self.on_wait: Callable[[], None] | None = None
        """Called instead of a wait."""
        handle = TableHandle(settings, TableName.TRADES, None)
        committer = handle._committer = Committer(handle.committer().table, None, self._wait)
        self._writer = TradesWriter(writer, handle, committer.progress().of(writer), dlq_of(settings))

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.on_wait is not None:
            self.on_wait()

    @property
    def retries(self) -> list[float]:
        """The waits before retries; those after a commit conflict are below a second."""
        return [wait for wait in self.waits if wait > COMMIT_CONFLICT.wait_seconds_max]

    def land(self, first: int, stop: int, step: int = 1) -> None:
        """Write rows with these offsets, report all up to `stop` as read, and close the epoch."""
        self._writer.write_batch([slice_of([row_at(offset) for offset in range(first, stop, step)]), read_to(stop)])
        self._writer.snapshot()


def table_of(settings: Settings) -> Table:
    """Load the trades table again."""
    table = find_table(settings, TableName.TRADES)
    assert table is not None
    return table


def assert_whole(table: Table) -> None:
    """Check that all files of a live snapshot exist."""
    for snapshot in table.snapshots():
        for manifest in snapshot.manifests(table.io):
            for entry in manifest.fetch_manifest_entry(table.io):
                assert table.io.new_input(entry.data_file.file_path).exists(), entry.data_file.file_path


def assert_in_once(settings: Settings, stop: int, commits: int) -> None:
    """Check that offsets 0 to `stop` are stored once each, in this many commits, and that the progress agrees."""
    table = table_of(settings)
    progress = progress_of(table).of("0")[HERE]
    assert offsets_of(table) == list(range(stop))
    assert (progress.offset, progress.received, progress.stored) == (stop, stop, stop)
    assert len(table.snapshots()) == commits
    assert_whole(table)

"""Abandoned offsets: messages that expired unread are skipped on command, and the sums still hold."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2.iceberg.abandon_offsets import abandon_offsets
from k2.iceberg.table_progress import read_progress
from k2.iceberg.trades_writer import TradesWriter
from k2.model.errors import FencedError, OffsetError
from k2.model.last_message import LastMessage
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.settings import Settings
from k2.storage.commit_log import Remark
from tests.iceberg.trades_table import offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

HERE = TopicPartition("trades", 0)


def started_writers(settings: Settings) -> list[TradesWriter]:
    """Return the table's writers, all at offset 4; writer 0 has stored the rows."""
    writers = [writer_of(settings, str(number)) for number in range(settings.writers)]
    for writer in writers:
        writer.write_batch(
            [slice_of([row_at(row) for row in range(4)]), read_to(4)] if writer is writers[0] else [read_to(4)]
        )
        writer.snapshot()
    return writers


@pytest.mark.parametrize("writers", [1, 2])
def test_progress_moves_past_expired_offsets(tmp_path: Path, writers: int) -> None:
    """Every writer resumes at the offset, nothing else is counted, and the commit log records the range."""
    settings = settings_in(tmp_path, writers=writers)
    table = started_writers(settings)[0]._committer.table
    assert abandon_offsets(writer_of(settings)._committer, HERE, 50, writers) == 4
    progress = read_progress(settings)
    assert progress.next_offset(HERE, progress.writers) == 50
    assert (progress.counts(HERE).received, progress.counts(HERE).holds) == (4, True)
    said = [
        snapshot.summary[Remark.ABANDONED_OFFSETS]
        for snapshot in table.refresh().snapshots()[-writers:]
        if snapshot.summary
    ]
    assert said == ["trades:0 4-49"] * writers
    after = writer_of(settings)
    after.write_batch([slice_of([row_at(50)]), replace(read_to(51), first_offset=50)])
    after.snapshot()
    assert offsets_of(table) == [0, 1, 2, 3, 50]


def test_a_running_job_is_fenced(tmp_path: Path) -> None:
    """It would continue from another offset than the table's."""
    settings = settings_in(tmp_path)
    (running,) = started_writers(settings)
    abandon_offsets(writer_of(settings)._committer, HERE, 50, 1)
    running.write_batch([slice_of([row_at(4)]), read_to(5)])
    with pytest.raises(FencedError):
        running.snapshot()


@pytest.mark.parametrize("offset", [3, 4])
def test_stored_offsets_are_not_abandoned(tmp_path: Path, offset: int) -> None:
    """An offset that the table has is rejected, and nothing is committed."""
    settings = settings_in(tmp_path)
    started_writers(settings)
    with pytest.raises(OffsetError, match="already at offset 4 of trades:0"):
        abandon_offsets(writer_of(settings)._committer, HERE, offset, 1)
    assert read_progress(settings).of("0")[HERE].offset == 4


@pytest.mark.parametrize("writers", [1, 2])
def test_a_log_is_accepted_as_it_is(tmp_path: Path, writers: int) -> None:
    """At the offset to be read next: nothing is abandoned, the last message is forgotten, the commit log says so."""
    settings = settings_in(tmp_path, writers=writers)
    for number in range(writers):
        writer = writer_of(settings, str(number))
        writer.write_batch([replace(read_to(4), last_message=LastMessage(3, "0" * 16))])
        writer.snapshot()
    committer = writer_of(settings)._committer
    with pytest.raises(OffsetError, match="already at offset 4 of trades:0"):
        abandon_offsets(committer, HERE, 3, writers)
    assert abandon_offsets(committer, HERE, 4, writers) == 4
    progress = read_progress(settings)
    assert [progress.of(str(number))[HERE] for number in range(writers)] == [PartitionProgress(4, start=4)] * writers
    said = [snapshot.summary for snapshot in committer.table.refresh().snapshots()[-writers:]]
    assert [summary and summary[Remark.ACCEPTED_LOG] for summary in said] == ["trades:0 from 4"] * writers
    with pytest.raises(OffsetError, match="already at offset 4 of trades:0"):
        abandon_offsets(committer, HERE, 4, writers)


def test_an_unread_partition_starts_at_the_offset(tmp_path: Path) -> None:
    """A recovery store may contain a partition that the table does not have."""
    settings = settings_in(tmp_path)
    assert abandon_offsets(writer_of(settings)._committer, HERE, 50, 1) is None
    assert read_progress(settings).of("0")[HERE] == PartitionProgress(50, start=50)

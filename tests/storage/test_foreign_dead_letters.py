"""Dead letters of a commit that another instance makes while this one starts are counted, so they stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException

from k2.iceberg.sink import TradesSink
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.errors import FencedError
from k2.ops.settings import Settings
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from k2.storage.dead_letters.local_folder import LocalFolder
from tests.iceberg.trades_table import read_to, settings_in


def writer_in(settings: Settings) -> TradesWriter:
    """Start an instance, up to its writer."""
    sink = TradesSink(settings)
    sink.list_parts()
    return sink.build_part("out", "00", None)


def land(writer: TradesWriter, offset: int) -> None:
    """Write an unreadable message and close the epoch."""
    writer.write_batch([read_to(offset + 1, rejected=[offset])])
    writer.snapshot()


def contents(settings: Settings) -> dict[str, bytes]:
    """Return the content of every dead-letter file."""
    folder = settings.dead_letter_folder
    return {file.name: (folder / file.name).read_bytes() for file in LocalFolder(folder).files()}


def assert_holds(settings: Settings, letters: int) -> None:
    """Check that the table counts exactly the dead letters in the files."""
    (row,) = reconcile(settings)
    assert (row.dead_letters, row.holds) == (letters, True)


def test_dead_letters_committed_since_the_table_was_read_stay(tmp_path: Path) -> None:
    """If another instance commits and ends after this one read the table, its dead letters stay; this one is fenced."""
    settings = settings_in(tmp_path)
    older = writer_in(settings)
    land(older, 0)
    ours = TradesSink(settings)
    ours.list_parts()
    land(older, 1)
    older.close()
    before = contents(settings)
    with pytest.raises(FencedError, match="trades:0 is at offset 2"):
        ours.build_part("out", "00", None)
    assert contents(settings) == before
    assert_holds(settings, 2)
    land(writer_in(settings), 2)
    assert_holds(settings, 3)


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_commit_under_way_is_fenced_before_its_dead_letters_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    """A process died while its commit was under way to the catalog; when it arrives late, it is rejected."""
    settings = settings_in(tmp_path)
    older = writer_in(settings)
    for offset in range(epochs):
        land(older, offset)
    catalog, late = older._committer.table.catalog, list[Callable[[], Any]]()
    commit = catalog.commit_table

    def die(*request: Any) -> None:
        late.append(lambda: commit(*request))
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "commit_table", die)
    with pytest.raises(KeyboardInterrupt):
        land(older, epochs)
    older.close()
    ours = writer_in(settings)
    with pytest.raises(CommitFailedException):
        late[0]()
    land(ours, epochs)
    assert_holds(settings, epochs + 1)


def test_a_start_that_cuts_nothing_commits_nothing(tmp_path: Path) -> None:
    """If all dead letters are counted, no commit needs to be fenced."""
    settings = settings_in(tmp_path)
    older = writer_in(settings)
    land(older, 0)
    older.close()
    writer_in(settings).close()
    assert len(open_table(open_catalog(settings), settings, TableName.TRADES).snapshots()) == 1

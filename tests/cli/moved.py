"""A data folder with the job's tables and dead letters, and what is compared after `k2 catalog move`."""

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pyiceberg.table import Table
from typer.testing import Result

from k2.iceberg.table_binding import bind_tables
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.model.errors import CatalogError
from k2.ops.settings import Settings
from k2.query.market import open_market
from k2.query.query_builders import trades as all_trades
from k2.query.reconcile import reconcile
from k2.storage.catalog import find_table
from k2.storage.catalog_register import register_tables
from tests.model.dead_letters import dead_letter
from tests.query.tables import append, correction, event, made, progress, set_progress, trade, write_letters

__all__ = [
    "contents",
    "is_equal",
    "is_unfinished",
    "killed",
    "opened",
    "parsed",
    "refused",
    "rows",
    "store",
    "versions",
]


def store(settings: Settings) -> Table:
    """Store rows of two days, an event, a correction and a dead letter; return `trades`."""
    ledger = TableHandle(settings, TableName.SEQUENCE_EVENTS, None).committer()
    bind_tables(TableHandle(settings, TableName.TRADES, None).committer(), ledger, is_resumed=False)
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 2, 2)])
    append(made(settings, TableName.CORRECTIONS), [correction(3, index=1)])
    table = made(settings, TableName.TRADES)
    append(table, [trade(0), trade(1, exchange="okx", side=None)])
    append(table, [trade(3), trade(100_000)])
    write_letters(settings, [dead_letter(2)])
    set_progress(table.refresh(), progress(offset=4, received=6, stored=4, dead_letters=1, corrections=1))
    return table


def opened(settings: Settings, name: str = "trades") -> Table:
    """Return one of the job's tables as it is now."""
    table = find_table(settings, name)
    assert table is not None
    return table


def rows(table: Table, snapshot_id: int | None = None) -> list[dict[str, Any]]:
    """Return all rows of a snapshot as PyIceberg reads them."""
    return table.scan(snapshot_id=snapshot_id).to_arrow().sort_by("offset").to_pylist()


def versions(table: Table) -> list[int]:
    """Return the ids of a table's snapshots."""
    return [snapshot.snapshot_id for snapshot in table.metadata.snapshots]


def is_equal(old: Settings, new: Settings) -> bool:
    """Return whether PyIceberg and DuckDB read the same of the job's tables, at every snapshot."""
    for name in TableName:
        one, other = opened(old, name), opened(new, name)
        assert (versions(other), other.metadata.refs) == (versions(one), one.metadata.refs)
        assert (other.metadata.snapshot_log, other.schema()) == (one.metadata.snapshot_log, one.schema())
        for version in versions(one):
            assert rows(other, version) == rows(one, version)
    with open_market(old) as here, open_market(new) as there:
        for version in versions(opened(old)):
            assert there.table(all_trades(as_of=version)) == here.table(all_trades(as_of=version))
    return reconcile(new) == reconcile(old)


def is_unfinished(settings: Settings) -> bool:
    """Return whether a folder is refused because a move to it is not finished."""
    with pytest.raises(CatalogError, match=r"the move to .* is not finished; run `k2 catalog move .*` again"):
        find_table(settings, "trades")
    with pytest.raises(CatalogError, match="is not finished"):
        register_tables(settings)
    return True


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder, without locks and what SQLite keeps next to a database."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((".lock", "-wal", "-shm"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def parsed(result: Result) -> Any:
    """Return the document of a command that succeeded."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(result: Result, code: int, words: str) -> None:
    """Check that a command failed with one sentence and no result."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def killed(*_: Any, **__: Any) -> NoReturn:
    """Stand for a function in which the command is killed."""
    raise KeyboardInterrupt

"""`k2 maintain`: its fields, its exit codes, and what a dry run leaves as it is."""

import json
import os
from collections.abc import Callable

import pytest
from pyiceberg.table import Table
from typer.testing import Result

from k2.cli import maintain
from k2.model.errors import UnreachableError
from k2.ops.settings import Settings
from tests.query.tables import append, trade

K2 = Callable[..., Result]


def test_compact(settings: Settings, k2: K2, table: Table) -> None:
    """A record for each group of files, with the documented fields; a dry run changes nothing."""
    append(table, [trade(100)])
    append(table, [trade(101)])
    before = len(table.scan().to_arrow())
    planned = json.loads(k2("maintain", "compact", "--table", "trades", "--dry-run", "--json").stdout)
    assert all(one["new_files"] is None for one in planned)
    done = json.loads(k2("maintain", "compact", "--table", "trades", "--json").stdout)
    fields = ["table", "partition", "rows", "files", "bytes", "new_files", "new_bytes"]
    assert [[*one] for one in done] == [fields] * len(planned)
    assert [{**one, "new_files": None, "new_bytes": None} for one in done] == planned
    assert {one["new_files"] for one in done} == {1}
    table.refresh()
    assert len(table.scan().to_arrow()) == before
    shown = k2("maintain", "compact")
    assert shown.exit_code == 0
    assert "rewrote 0 files" in shown.stderr


def test_retain(settings: Settings, k2: K2, table: Table) -> None:
    """One record with the documented fields; days whose messages are recent stay, and are named on stderr."""
    planned = k2("maintain", "retain", "--days", "3", "--dry-run", "--json")
    record = json.loads(planned.stdout)
    assert [*record] == ["before", "days", "files", "bytes", "rows", "kept_days", "committed"]
    assert record["committed"] is False
    assert len(record["days"]) + len(record["kept_days"]) == 2
    assert ("stay for now" in planned.stderr) is bool(record["kept_days"])
    assert k2("maintain", "retain").exit_code == 2


def test_orphans(settings: Settings, k2: K2, table: Table) -> None:
    """A record for each file; a short age must be confirmed."""
    orphan = settings.data_dir / "warehouse" / "market_data" / "trades" / "data" / "x.parquet"
    orphan.write_bytes(b"1234")
    os.utime(orphan, (0, 0))
    planned = json.loads(k2("maintain", "orphans", "--dry-run", "--json").stdout)
    assert [*planned[0]] == ["table", "file", "bytes", "modified"]
    assert [one["file"] for one in planned] == [f"file://{orphan}"]
    refused = k2("maintain", "orphans", "--older-than-hours", "0.5")
    assert (refused.exit_code, orphan.exists()) == (2, True)
    assert "confirm with --force" in refused.stderr
    assert "deleted 1 orphan with 4 bytes" in k2("maintain", "orphans").stderr
    assert not orphan.exists()


def test_no_table(settings: Settings, k2: K2) -> None:
    """The error names the settings."""
    result = k2("maintain", "compact")
    assert result.exit_code == 2
    assert "there is no catalog in it" in result.stderr


def test_expire(k2: K2, table: Table) -> None:
    """A record for each table with the documented fields; snapshots of the last hour cannot be selected."""
    append(table, [trade(100)])
    planned = json.loads(k2("maintain", "expire", "--dry-run", "--json").stdout)
    assert [*planned[0]] == ["table", "snapshots", "expired", "committed"]
    assert {one["committed"] for one in planned} == {False}
    assert k2("maintain", "expire", "--older-than-hours", "0.5").exit_code == 2
    assert k2("maintain", "expire").exit_code == 0


def test_all(k2: K2, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands follow one another; with --every they do again, and an error ends one round only."""
    append(table, [trade(100)])
    once = k2("maintain", "all", "--days", "9000")
    assert once.exit_code == 0
    assert "rewrote" in once.stderr
    assert "deleted 0 orphans" in once.stderr
    lines = k2("maintain", "all", "--json").stdout.splitlines()
    assert [type(json.loads(line)) for line in lines] == [list, list, list]
    rounds = iter([UnreachableError("the catalog is away"), None])
    pauses = list[float]()

    def one_round(**_options: bool) -> None:
        error = next(rounds)
        if error is not None:
            raise error

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(maintain, "compact", one_round)
    monkeypatch.setattr(maintain.time, "sleep", pause)
    ended = k2("maintain", "all", "--every", "1h")
    assert "the catalog is away; trying again in the next round" in ended.stderr
    assert all(3_500 < seconds <= 3_600 for seconds in pauses)
    for text in ("soon", "0s", "1.5h"):
        refused = k2("maintain", "all", "--every", text)
        assert (refused.exit_code, "not a time such as 30m" in refused.stderr) == (2, True)

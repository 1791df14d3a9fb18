"""`k2 gaps` and `k2 reconcile`: fields, filters and exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from connectors.iceberg.tables import TableName
from runtime.settings import Settings
from tests.query.tables import append, event, letter, made, progress, set_progress, trade, write_letters


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Give settings with an own folder, as the environment says."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    return Settings(data_dir=tmp_path / "data")


def k2(*arguments: str) -> Result:
    """Run `k2`."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_gaps(settings: Settings) -> None:
    """A row a missing range, with the documented fields."""
    rows = [event("gap_opened", 5, 9), event("gap_filled", 6, 6), event("gap_opened", 1, 1, exchange="kraken")]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    result = k2("gaps", "--exchange", "binance", "--symbol", "BTCUSDT", "--json")
    where = {"exchange": "binance", "symbol": "BTCUSDT", "session": 0}
    assert json.loads(result.stdout) == [
        {**where, "first_sequence": 5, "last_sequence": 5, "missing": 1},
        {**where, "first_sequence": 7, "last_sequence": 9, "missing": 3},
    ]
    assert json.loads(k2("gaps", "--as-of", "2024-08-08T23:59:59", "--json").stdout) == []
    shown = k2("gaps")
    assert shown.exit_code == 0
    assert "kraken" in shown.stdout
    assert "5 missing in 3 ranges" in shown.stderr


def test_a_time_that_is_none(settings: Settings) -> None:
    """A bad time is wrong usage, and the sentence names the option."""
    result = k2("gaps", "--as-of", "yesterday")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--as-of 'yesterday'" in result.stderr


@pytest.mark.parametrize(("letters", "holds"), [([1], True), ([], False)])
def test_reconcile(settings: Settings, letters: list[int], *, holds: bool) -> None:
    """A row a topic partition, with the documented fields; exit code 1 where it does not hold."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0)])
    set_progress(table, progress(offset=4, received=4, stored=1, duplicates=1, dead_letters=1, skipped=1))
    write_letters(settings, map(letter, letters))
    result = k2("reconcile", "--json")
    assert json.loads(result.stdout) == [
        {
            "topic": "trades",
            "partition": 0,
            "received": 4,
            "stored": 1,
            "duplicates": 1,
            "dead_letters": len(letters),
            "skipped": 1,
            "holds": holds,
        }
    ]
    assert result.exit_code == (0 if holds else 1)
    shown = k2("reconcile")
    assert shown.exit_code == result.exit_code
    assert ("NO" in shown.stdout) is not holds


def test_nothing_to_report(settings: Settings) -> None:
    """Before anything is stored: empty results, exit code 0, a word on stderr, and no folder made."""
    for command in ("gaps", "reconcile"):
        result = k2(command, "--json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "nothing is stored yet" in k2("reconcile").stderr
    assert not settings.data_dir.exists()


def test_wrong_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting ends with exit code 2 and its name."""
    monkeypatch.setenv("K2_WRITERS", "none")
    result = k2("reconcile")
    assert result.exit_code == 2
    assert "K2_WRITERS" in result.stderr

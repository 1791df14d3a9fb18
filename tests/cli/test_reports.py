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


@pytest.mark.parametrize("command", ["gaps", "reconcile"])
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"K2_DATA_DIR": "absent"}, "K2_DATA_DIR=absent: there is no catalog in it"),
        ({"K2_DATA_DIR": "file"}, "K2_DATA_DIR=file: there is no catalog in it"),
        ({"K2_NAMESPACE": "absent"}, "K2_NAMESPACE=absent: there is no table absent."),
    ],
)
def test_a_table_that_was_never_made_is_a_wrong_setting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: str, environment: dict[str, str], says: str
) -> None:
    """Exit code 2 and the setting's name, where "nothing is missing" would be false; nothing on stdout or made."""
    made(settings, TableName.TRADES)
    monkeypatch.chdir(settings.data_dir)
    Path("file").touch()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = k2(command, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert not Path("absent").exists()


def test_empty_tables_are_an_answer(settings: Settings) -> None:
    """Before the first message: empty results, exit code 0, and a word on stderr."""
    made(settings, TableName.TRADES)
    made(settings, TableName.SEQUENCE_EVENTS)
    for command in ("gaps", "reconcile"):
        result = k2(command, "--json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "nothing is stored yet" in k2("reconcile").stderr
    assert "0 missing in 0 ranges" in k2("gaps").stderr


def test_rows_without_progress_do_not_hold(settings: Settings) -> None:
    """Rows that the job did not write are no sum of its: exit code 1, and the reason on stderr."""
    append(made(settings, TableName.TRADES), [trade(0), trade(1, partition=2)])
    result = k2("reconcile", "--json")
    assert result.exit_code == 1
    assert [(row["stored"], row["received"], row["holds"]) for row in json.loads(result.stdout)] == [(1, 0, False)] * 2
    assert "rows of trades:0, trades:2 are in the table without any progress" in result.stderr


def test_letters_that_are_looked_for_in_no_folder_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum that fails for a wrong K2_DLQ_DIR names it."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0)])
    set_progress(table, progress(offset=2, received=2, stored=1, dead_letters=1))
    monkeypatch.setenv("K2_DLQ_DIR", "absent")
    result = k2("reconcile")
    assert result.exit_code == 1
    assert "there is no folder absent, so no dead letter was counted; K2_DLQ_DIR names it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exchange", "binanc"], "no sequence number of 'binanc' was ever seen"),
        (["--exchange", "kraken", "--symbol", "BTCUSDT"], "no sequence number of 'kraken' and 'BTCUSDT' was ever seen"),
        (["--exchange", "binance", "--symbol", "BTCUSDT"], ""),
    ],
)
def test_a_name_that_is_not_in_the_ledger_is_told(settings: Settings, arguments: list[str], says: str) -> None:
    """A misspelt symbol has no gaps; one whose numbers are all there has none either, and is told apart."""
    rows = [event("session_started", 1, 1), event("session_started", 1, 1, exchange="kraken", symbol="X")]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    result = k2("gaps", *arguments, "--json")
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert says in result.stderr
    assert ("ever seen" in result.stderr) is bool(says)


@pytest.mark.parametrize("value", ["", "\udcff"])
def test_a_name_that_cannot_be_meant_is_wrong_usage(settings: Settings, value: str) -> None:
    """An unset shell variable, or bytes that are no text."""
    result = k2("gaps", "--exchange", value)
    assert result.exit_code == 2
    assert "Invalid value for '--exchange'" in result.stderr


def test_wrong_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting ends with exit code 2 and its name."""
    monkeypatch.setenv("K2_WRITERS", "none")
    result = k2("reconcile")
    assert result.exit_code == 2
    assert "K2_WRITERS" in result.stderr

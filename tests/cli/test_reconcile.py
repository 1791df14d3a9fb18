"""`k2 reconcile`: fields and exit codes; and what all reports print if there are no tables."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.model.partition_starts import PartitionStart
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.storage.table_properties import PARTITION_STARTS
from tests.model.dead_letters import dead_letter
from tests.query.tables import append, made, progress, set_progress, trade, write_letters


def k2(*arguments: str) -> Result:
    """Run `k2`."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.mark.parametrize(("letters", "holds"), [([1], True), ([], False)])
def test_reconcile(settings: Settings, letters: list[int], *, holds: bool) -> None:
    """One row for each topic partition, with the documented fields; exit code 1 if one does not hold."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0)])
    set_progress(table, progress(offset=4, received=4, stored=1, duplicates=1, dead_letters=1, skipped=1))
    write_letters(settings, map(dead_letter, letters))
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
            "removed": 0,
            "corrections": 0,
            "left_out": 0,
        }
    ]
    assert result.exit_code == (0 if holds else 1)
    shown = k2("reconcile")
    assert shown.exit_code == result.exit_code
    assert ("NO" in shown.stdout) is not holds


def test_what_the_start_left_out_is_listed(settings: Settings) -> None:
    """Also of a partition of which nothing is committed; it counts as never received, so the sums hold."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(4)])
    set_progress(table, progress(offset=5, received=1, stored=1))
    starts = {
        TopicPartition("trades", 0): PartitionStart(4, 0, "latest"),
        TopicPartition("trades", 1): PartitionStart(9, 7, "latest"),
        TopicPartition("trades", 2): PartitionStart(0, 0, "latest"),
    }
    with table.transaction() as transaction:
        transaction.set_properties(PARTITION_STARTS.set_to(starts))
    result = k2("reconcile", "--json")
    rows = [(row["partition"], row["received"], row["left_out"], row["holds"]) for row in json.loads(result.stdout)]
    assert (result.exit_code, rows) == (0, [(0, 1, 4, True), (1, 0, 2, True)])


@pytest.mark.parametrize(
    ("received", "says"),
    [(7, "3 of 7 received are not accounted for"), (3, "1 more are accounted for"), (4, "the sum holds, but")],
)
def test_the_difference_of_a_sum_is_reported(settings: Settings, received: int, says: str) -> None:
    """By topic partition, on stderr."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0), trade(1)])
    set_progress(table, progress(offset=4, received=received, stored=1, duplicates=2))
    assert f"trades:0: {says}" in k2("reconcile").stderr


@pytest.mark.parametrize("command", ["gaps", "completeness", "audit", "reconcile"])
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"K2_DATA_DIR": "absent"}, "K2_DATA_DIR=absent: there is no catalog in it"),
        ({"K2_DATA_DIR": "file"}, "K2_DATA_DIR=file: there is no catalog in it"),
        ({"K2_NAMESPACE": "absent"}, "K2_NAMESPACE=absent: there is no table absent."),
    ],
)
def test_a_missing_table_is_a_wrong_setting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: str, environment: dict[str, str], says: str
) -> None:
    """Exit code 2 and the setting's name, as "nothing is missing" would be false; nothing on stdout or created."""
    made(settings, TableName.TRADES)
    monkeypatch.chdir(settings.data_dir)
    Path("file").touch()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = k2(command, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert not Path("absent").exists()


def test_empty_tables_are_a_valid_result(settings: Settings) -> None:
    """Before the first message: empty results, exit code 0, and a note on stderr."""
    made(settings, TableName.TRADES)
    made(settings, TableName.SEQUENCE_EVENTS)
    for command in ("gaps", "completeness", "audit", "reconcile"):
        result = k2(command, "--json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "nothing is stored yet" in k2("reconcile").stderr
    assert "0 missing in 0 ranges" in k2("gaps").stderr


def test_rows_without_progress_do_not_hold(settings: Settings) -> None:
    """Rows that the job did not write are in no sum: exit code 1, and the reason on stderr."""
    append(made(settings, TableName.TRADES), [trade(0), trade(1, partition=2)])
    result = k2("reconcile", "--json")
    assert result.exit_code == 1
    assert [(row["stored"], row["received"], row["holds"]) for row in json.loads(result.stdout)] == [(1, 0, False)] * 2
    assert "rows of trades:0, trades:2 are in the table without any progress" in result.stderr


def test_a_missing_dead_letter_folder_is_reported(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a sum fails because of a wrong K2_DLQ_DIR, the report names it."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0)])
    set_progress(table, progress(offset=2, received=2, stored=1, dead_letters=1))
    monkeypatch.setenv("K2_DLQ_DIR", "absent")
    result = k2("reconcile")
    assert result.exit_code == 1
    assert "dead letters were not counted: folder absent does not exist; set K2_DLQ_DIR" in result.stderr


def test_wrong_settings_are_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting is exit code 2 and its name."""
    monkeypatch.setenv("K2_WRITERS", "none")
    result = k2("reconcile")
    assert result.exit_code == 2
    assert "K2_WRITERS" in result.stderr

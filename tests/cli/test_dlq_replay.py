"""`k2 dlq replay`: what is chosen and shown, transforms of users, and the ends without a broker."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli.dlq_transform import TransformError, load_transform
from k2.cli.main import app
from k2.model.errors import SettingsError
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.model.replay import WHOLE, intended_batch, settled_batch
from k2.ops.child_process import free_port
from k2.ops.settings import Settings
from k2.storage.dead_letters.folders import replay_journal
from tests.model.dead_letters import DEAD_LETTERED_AT, dead_letter
from tests.query.tables import write_letters

LETTERS = [
    dead_letter(0),
    dead_letter(1, partition=1, reason=Reason.INVALID, error="price: 5 is odd"),
    dead_letter(2, value="/wAK", value_encoding="base64"),
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with a few committed dead letters, and with a broker that is not there."""
    variables = {"K2_DATA_DIR": str(tmp_path), "K2_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = Settings(data_dir=tmp_path)
    write_letters(found, LETTERS, uncounted=[dead_letter(9)])
    return found


def k2(*arguments: str) -> Result:
    """Run `k2 dlq`."""
    return CliRunner().invoke(app, ["dlq", *arguments], env={"COLUMNS": "200"})


def dry_run(*arguments: str) -> dict[str, int]:
    """Return the counts of a run that sends nothing."""
    result = k2("replay", "--dry-run", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    found: dict[str, int] = json.loads(result.stdout)
    return found


def record(settings: Settings, *, is_settled: bool) -> None:
    """Record that the first letter was published, or is about to be."""
    journal, where = replay_journal(settings), TopicPartition("trades", 0)
    batch = intended_batch(
        journal.new_batch(DEAD_LETTERED_AT), "id", DEAD_LETTERED_AT, [(LETTERS[0].coordinates, WHOLE)], {where: 0}
    )
    journal.intend(batch)
    if is_settled:
        settled = settled_batch(batch, {(where, 0, WHOLE): 20})
        assert settled is not None
        journal.settle(settled)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 3),
        (["--reason", "malformed"], 2),
        (["--topic", "trades", "--partition", "1"], 1),
        (["--error", "price: … is odd"], 1),
        (["--since", "2024-08-09"], 3),
        (["--since", "2024-08-09T00:00:01Z"], 0),
    ],
)
def test_a_dry_run_counts_what_is_chosen(settings: Settings, arguments: list[str], count: int) -> None:
    """Of what commits have counted; without a broker, and nothing is recorded."""
    assert dry_run(*arguments) == {"to_publish": count, "left": 0, "failed": 0}
    assert replay_journal(settings).entries() == []


def test_a_dry_run_for_people(settings: Settings) -> None:
    """A row for each topic partition, and a sentence if a replay was stopped before its outcome was recorded."""
    record(settings, is_settled=False)
    shown = k2("replay", "--dry-run")
    assert shown.exit_code == 0
    assert "To be published" in shown.stdout
    assert "a replay was stopped, and 1 of its dead letters count as waiting here" in shown.stderr


def test_what_was_replayed_does_not_wait(settings: Settings) -> None:
    """Neither for a replay nor in the list of those that wait; all are listed otherwise."""
    record(settings, is_settled=True)
    assert dry_run()["to_publish"] == 2
    waiting = k2("list", "--waiting", "--json").stdout.splitlines()
    assert [json.loads(line)["offset"] for line in waiting] == [1, 2, 9]
    assert len(k2("list", "--json").stdout.splitlines()) == 4
    assert "3 waiting; 1 replayed: 1 not read yet\n" in k2("stats").stdout


def test_nothing_to_publish_is_a_success(settings: Settings) -> None:
    """It says so, and contacts no broker."""
    result = k2("replay", "--reason", "too_large", "--json")
    assert (result.exit_code, json.loads(result.stdout)["published"]) == (0, 0)
    assert "no waiting dead letter is chosen, so there is nothing to publish" in result.stderr


@pytest.mark.slow
def test_a_broker_that_is_away_is_named(settings: Settings) -> None:
    """Exit code 3, and nothing is recorded: all letters wait as before."""
    result = k2("replay", "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no Kafka broker answers at 127.0.0.1:" in result.stderr
    assert replay_journal(settings).entries() == []


def test_an_unreadable_journal_is_an_error(settings: Settings) -> None:
    """Nothing is published before it is known what was; the reports name it, and go on."""
    record(settings, is_settled=True)
    (path,) = settings.dead_letter_folder.glob("replays-*.jsonl")
    path.write_text("nonsense")
    result = k2("replay")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"the journal of replays cannot be read: {path}: " in result.stderr
    listed = k2("list", "--waiting", "--json")
    assert (listed.exit_code, len(listed.stdout.splitlines())) == (0, 4)
    assert f"journal of replays cannot be read: {path}: " in listed.stderr


def test_a_transform_mends_leaves_or_fails(settings: Settings, tmp_path: Path) -> None:
    """Bytes or a str are published, None leaves the letter waiting, an error names letter and file; exit code 1."""
    path = tmp_path / "mend.py"
    path.write_text(
        "def transform(letter):\n"
        "    if letter.offset == 0:\n"
        "        return letter.value + '}'\n"
        "    return None if letter.offset == 1 else 1 / 0\n"
    )
    result = k2("replay", "--dry-run", "--json", "--transform", str(path))
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"to_publish": 1, "left": 1, "failed": 1})
    assert f"dead letter trades:0:2 stays waiting: transform of {path}: ZeroDivisionError" in result.stderr
    mend = load_transform(path)
    assert (mend(LETTERS[0]), mend(LETTERS[1])) == (b"{}", None)
    path.write_text("def transform(letter):\n    return 5 if letter.partition else b'\\xff'\n")
    mend = load_transform(path)
    assert mend(LETTERS[0]) == b"\xff"
    with pytest.raises(TransformError, match="it returned a value of type int; return bytes, a str, or None"):
        mend(LETTERS[1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "the file cannot be run: FileNotFoundError"),
        ("x = (", "the file cannot be run: SyntaxError"),
        ("def mend(letter): ...", r"there is no function transform\(letter\) in it; add it"),
        ("transform = 5", r"there is no function transform\(letter\) in it; add it"),
    ],
)
def test_a_file_without_a_transform_is_a_wrong_setting(tmp_path: Path, text: str | None, says: str) -> None:
    """Nothing is read or sent."""
    path = tmp_path / "mend.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_transform(path)

"""`k2 dlq`: what people and programs see of the dead letters."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from runtime.settings import Settings
from tests.query.tables import EPOCH, letter, write_letters
from trades.dead_letter import DeadLetter
from trades.reasons import Reason

LETTERS = [
    letter(0),
    letter(
        1, partition=1, reason=Reason.INVALID, value="é\x1b[31m [bold]", dead_lettered_at=EPOCH + timedelta(hours=1)
    ),
    letter(2, value="/wAK", value_encoding="base64", key="k"),
    letter(2, index=1, topic="other", value=None),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a data folder with a few dead letters, the last line half-written, named by the environment."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    settings = Settings(data_dir=tmp_path)
    write_letters(settings, LETTERS)
    with (settings.dead_letter_folder / "dlq-00000001.jsonl").open("ab") as stream:
        stream.write(letter(3).line()[:-1])
    return settings.dead_letter_folder


def k2(*arguments: str) -> Result:
    """Run `k2 dlq`."""
    return CliRunner().invoke(app, ["dlq", *arguments], env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [0, 1, 2, 3]),
        (["--limit", "2"], [0, 1]),
        (["--limit", "0"], []),
        (["--reason", "invalid"], [1]),
        (["--topic", "trades"], [0, 1, 2]),
        (["--partition", "0", "--topic", "trades"], [0, 2]),
        (["--topic", "absent"], []),
    ],
)
def test_list_chooses(folder: Path, arguments: list[str], expected: list[int]) -> None:
    """With --json: the chosen letters, a line each, as in the files."""
    result = k2("list", "--json", *arguments)
    assert result.exit_code == 0
    assert [DeadLetter.parse(line.encode()) for line in result.stdout.splitlines()] == [LETTERS[i] for i in expected]
    assert result.stderr == ""


def test_list_for_people(folder: Path) -> None:
    """A table shows what the message held, and lets none of it steer the terminal."""
    result = k2("list")
    assert result.exit_code == 0
    assert "é\N{REPLACEMENT CHARACTER}[31m [bold]" in result.stdout
    assert "\x1b[31m" not in result.stdout


def test_unknown_reason(folder: Path) -> None:
    """A reason that is none of the closed set is wrong usage."""
    assert k2("list", "--reason", "odd").exit_code == 2


def test_an_unreadable_line_is_named(folder: Path) -> None:
    """A line that cannot be read is told on stderr by file and line, and the others are listed."""
    path = folder / "dlq-00000001.jsonl"
    path.write_bytes(path.read_bytes() + b"\nnonsense\n" + letter(9).line())
    result = k2("list", "--json")
    assert result.exit_code == 0
    assert [json.loads(line)["offset"] for line in result.stdout.splitlines()] == [0, 1, 2, 2, 3, 9]
    assert f"{path}:6: " in result.stderr


def test_stats(folder: Path) -> None:
    """Counts by reason and by topic partition, and the times of the oldest and newest letter."""
    assert json.loads(k2("stats", "--json").stdout) == {
        "dead_letters": 4,
        "reasons": {"invalid": 1, "malformed": 3},
        "partitions": [
            {"topic": "other", "partition": 0, "dead_letters": 1},
            {"topic": "trades", "partition": 0, "dead_letters": 2},
            {"topic": "trades", "partition": 1, "dead_letters": 1},
        ],
        "oldest": "2024-08-09T00:00:00Z",
        "newest": "2024-08-09T01:00:00Z",
    }
    shown = k2("stats")
    assert shown.exit_code == 0
    assert "4 in all" in shown.stdout


def test_nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder there are no letters, and none is made."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "absent"))
    assert json.loads(k2("stats", "--json").stdout)["dead_letters"] == 0
    assert k2("list", "--json").stdout == ""
    assert [k2(command).exit_code for command in ("list", "stats")] == [0, 0]
    assert not (tmp_path / "absent").exists()


def test_show_gives_the_very_bytes(folder: Path) -> None:
    """The message's bytes come out as they were, and nothing else."""
    assert k2("show", "trades", "0", "2", "--value").stdout_bytes == b"\xff\x00\n"
    assert k2("show", "trades", "0", "2", "--key").stdout_bytes == b"k"
    assert DeadLetter.parse(k2("show", "other", "0", "2", "--index", "1").stdout.encode()) == LETTERS[3]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["trades", "0", "7"], 1, "no dead letter"),
        (["other", "0", "2", "--value"], 1, "null"),
        (["trades", "0", "2", "--value", "--key"], 2, "choose one"),
        (["trades", "0"], 2, "offset"),
    ],
)
def test_show_refuses(folder: Path, arguments: list[str], code: int, says: str) -> None:
    """What cannot be shown is said on stderr, with nothing on stdout."""
    result = k2("show", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr

"""`k2 dlq`: what people and programs see of the dead letters."""

import json
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.model.dead_letter import DeadLetter
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from tests.model.dead_letters import dead_letter
from tests.query.tables import EPOCH, write_letters

LETTERS = [
    dead_letter(0),
    dead_letter(
        1, partition=1, reason=Reason.INVALID, value="é\x1b[31m [bold]", dead_lettered_at=EPOCH + timedelta(hours=1)
    ),
    dead_letter(2, value="/wAK", value_encoding="base64", key="k"),
    dead_letter(2, index=1, topic="other", value=None),
]

NO_REPLAYS = dict.fromkeys(("replayed", "stored", "rejected_again", "corrections", "unread", "other"), 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data folder with a few dead letters, the last line half-written, set in the environment."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    settings = Settings(data_dir=tmp_path)
    write_letters(settings, LETTERS)
    with only_file(settings.dead_letter_folder).open("ab") as stream:
        stream.write(dead_letter(3).line()[:-1])
    return settings.dead_letter_folder


def only_file(folder: Path) -> Path:
    """Return the folder's one file of dead letters."""
    (path,) = folder.glob("dlq-*.jsonl")
    return path


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
def test_list_selects(folder: Path, arguments: list[str], expected: list[int]) -> None:
    """With --json: the selected dead letters, one line each, as in the files."""
    result = k2("list", "--json", *arguments)
    assert result.exit_code == 0
    assert [DeadLetter.parse(line.encode()) for line in result.stdout.splitlines()] == [LETTERS[i] for i in expected]
    assert result.stderr == ""


def test_list_for_people(folder: Path) -> None:
    """A table shows the content of the message, without control of the terminal."""
    result = k2("list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "base64: /wAK" in result.stdout
    assert "é\N{REPLACEMENT CHARACTER}[31m [bold]" in result.stdout
    assert "\x1b[31m" not in result.stdout


@pytest.mark.parametrize(
    "arguments", [["--reason", "odd"], ["--topic", ""], ["--topic", "\udcff"], ["--limit", "9" * 30], ["--limit", "-1"]]
)
def test_invalid_options_are_usage_errors(folder: Path, arguments: list[str]) -> None:
    """An unknown reason, the empty value of an unset variable, bytes that are not text, absurd numbers."""
    result = k2("list", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for '{arguments[0]}'" in result.stderr


def test_a_truncated_table_says_so(folder: Path) -> None:
    """How many rows are shown, and how to get the others; a list that ends exactly at the limit is complete."""
    assert "the oldest 3 are shown, and there are more" in k2("list", "--limit", "3").stderr
    assert k2("list", "--limit", "4").stderr == ""


def test_an_offset_is_shown_as_the_command_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without commas, so that it can be copied from the list to `show`."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    write_letters(Settings(data_dir=tmp_path), [dead_letter(1234567)])
    assert "1234567" in k2("list").stdout
    assert "\noffset            1234567\n" in k2("show", "trades", "0", "1234567").stdout


def test_an_unreadable_line_is_named(folder: Path) -> None:
    """An unreadable line is reported on stderr by file and line, and the others are listed."""
    path = only_file(folder)
    path.write_bytes(path.read_bytes() + b"\nnonsense\n" + dead_letter(9).line())
    result = k2("list", "--json")
    assert result.exit_code == 0
    assert [json.loads(line)["offset"] for line in result.stdout.splitlines()] == [0, 1, 2, 2, 3, 9]
    assert f"{path}:6: " in result.stderr


def test_stats(folder: Path) -> None:
    """Counts by reason and by topic partition, and the times of the oldest and newest dead letter."""
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
        "replays": NO_REPLAYS | {"waiting": 4},
    }
    shown = k2("stats")
    assert shown.exit_code == 0
    assert "4 in all, from 2024-08-09 00:00:00 to 2024-08-09 01:00:00\n" in shown.stdout


def test_stats_by_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that differ in quoted texts, numbers and times only are one, with the first dead letter as an example."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    errors = [
        "side: neither buy nor sell: 'b\\'1'",
        'side: neither buy nor sell: "it\'s"',
        "price: 12.50 at 2024-08-09T00:00:00Z",
    ]
    letters = [dead_letter(number, reason=Reason.INVALID, error=error) for number, error in enumerate(errors)]
    write_letters(Settings(data_dir=tmp_path), [dead_letter(7, error="price: 3 at 9"), *letters])
    where = {"topic": "trades", "partition": 0}
    assert json.loads(k2("stats", "--by", "error", "--json").stdout) == {
        "dead_letters": 4,
        "errors": [
            {"reason": "invalid", "error": "side: neither buy nor sell: …", "dead_letters": 2, **where, "offset": 0},
            {"reason": "invalid", "error": "price: … at …", "dead_letters": 1, **where, "offset": 2},
            {"reason": "malformed", "error": "price: … at …", "dead_letters": 1, **where, "offset": 7},
        ],
        "oldest": "2024-08-09T00:00:00Z",
        "newest": "2024-08-09T00:00:00Z",
        "replays": NO_REPLAYS | {"waiting": 4},
    }
    shown = k2("stats", "--by", "error")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "side: neither buy nor sell: …" in shown.stdout
    assert "4 in all, from 2024-08-09 00:00:00" in shown.stdout
    monkeypatch.setattr("k2.cli.dlq.ERRORS_MAX", 1)
    assert "the commonest 1 of 3 errors are shown; use --json" in k2("stats", "--by", "error").stderr
    assert k2("stats", "--by", "topic").exit_code == 2


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "json"])
def test_a_file(folder: Path, tmp_path: Path, suffix: str) -> None:
    """It has the rows that --json prints, with null for the fields that a dead letter lacks; stdout has none."""
    path = tmp_path / f"letters.{suffix}"
    result = k2("list", "--topic", "trades", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"3 rows in {path}\n"
    if suffix == "json":
        found = [
            {name: value for name, value in row.items() if value is not None} for row in json.loads(path.read_text())
        ]
        printed = [json.loads(line) for line in k2("list", "--topic", "trades", "--json").stdout.splitlines()]
        assert found == [
            {"index": 0, **{name: value for name, value in row.items() if value is not None}} for row in printed
        ]
    if suffix == "parquet":
        assert pq.read_table(path).column("reason").to_pylist() == ["malformed", "invalid", "malformed"]


def test_the_origin_of_a_letter_is_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that was replayed and failed again says which it was before; that of a live message is null."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    write_letters(Settings(data_dir=tmp_path), [dead_letter(1), dead_letter(2, origin="replay trades:0:1")])
    path = tmp_path / "letters.parquet"
    assert k2("list", "--output", str(path)).exit_code == 0
    assert pq.read_table(path).column("origin").to_pylist() == [None, "replay trades:0:1"]


def test_a_limited_and_an_invalid_file(folder: Path, tmp_path: Path) -> None:
    """A limit applies to a file as well; a name without a format is refused before anything is read."""
    path = tmp_path / "letters.csv"
    assert k2("list", "--limit", "2", "--output", str(path)).stderr == f"2 rows in {path}\n"
    refused = k2("list", "--output", "letters.txt")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--output letters.txt: its name must end with one of" in refused.stderr


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"K2_DATA_DIR": "absent"}, "K2_DATA_DIR=absent: there is no folder of dead letters absent/dlq"),
        ({"K2_DLQ_DIR": "absent"}, "K2_DLQ_DIR=absent: there is no folder of dead letters absent"),
        ({"K2_DLQ_DIR": "file"}, "K2_DLQ_DIR=file: there is no folder of dead letters file"),
    ],
)
@pytest.mark.parametrize("arguments", [["list"], ["stats"], ["show", "trades", "0", "0"]])
def test_a_missing_folder_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], says: str
) -> None:
    """Exit code 2 and the setting's name, because "none" would be false; nothing on stdout, and nothing created."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = k2(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert not Path("absent").exists()


def test_an_empty_folder_has_no_dead_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job creates it at its start: an empty folder is a valid result."""
    monkeypatch.setenv("K2_DLQ_DIR", str(tmp_path))
    assert json.loads(k2("stats", "--json").stdout)["dead_letters"] == 0
    listed = k2("list", "--json")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "")
    assert [k2(command).exit_code for command in ("list", "stats")] == [0, 0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, without a traceback."""
    monkeypatch.setenv("K2_DLQ_DIR", str(tmp_path))
    path = tmp_path / "dlq-00000001.jsonl"
    path.mkdir()
    result = k2("stats")
    assert result.exit_code == 2
    assert result.stderr == f"k2: {path} cannot be read: Is a directory\n"


def test_show_writes_the_exact_bytes(folder: Path) -> None:
    """The message's bytes are written unchanged, and nothing else."""
    assert k2("show", "trades", "0", "2", "--value").stdout_bytes == b"\xff\x00\n"
    assert k2("show", "trades", "0", "2", "--key").stdout_bytes == b"k"
    shown = k2("show", "other", "0", "2", "--index", "1", "--json")
    assert DeadLetter.parse(shown.stdout_bytes) == LETTERS[3]


def test_show_for_people(folder: Path) -> None:
    """One line for each field, without control of the terminal by the message."""
    shown = k2("show", "trades", "1", "1")
    assert shown.exit_code == 0
    assert "\nvalue             é\\x1b[31m [bold]\n" in shown.stdout
    assert "\nkey               -\n" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["trades", "0", "7"], 1, "no dead letter"),
        (["other", "0", "2", "--value"], 1, "null"),
        (["trades", "0", "2", "--value", "--key"], 2, "choose one"),
        (["trades", "0", "2", "--value", "--json"], 2, "choose one"),
        (["", "0", "2"], 2, "is empty"),
        (["trades", "0"], 2, "offset"),
    ],
)
def test_show_errors_are_on_stderr_only(folder: Path, arguments: list[str], code: int, says: str) -> None:
    """The error is on stderr, and nothing is on stdout."""
    result = k2("show", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr

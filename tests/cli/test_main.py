"""The `k2` command finds its sub-commands, and ends with the documented exit codes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from k2.cli.console import Command, Commands, to_json
from k2.cli.main import K2, app
from k2.model.errors import NotDeliveredError, SettingsError, UnreachableError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", K2.table)
def test_every_command_of_the_table_loads(name: str) -> None:
    """Each name in the table leads to a command with a help text."""
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Usage:")


@pytest.mark.parametrize("name", ["catalog", "dlq", "maintain", "plot", "recovery", "venues"])
def test_every_command_of_a_group_is_listed_with_a_whole_sentence(name: str) -> None:
    """On a line of 80 columns; a longer sentence would be cut."""
    listed = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).stdout.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that has no sub-commands, with its words."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from _leaves(command.get_command(context, name), f"{path} {name}")


def test_every_command_takes_json(subtests: pytest.Subtests) -> None:
    """All print a result, except `k2 run`, which becomes the job, and `k2 compile`, which says how far it is."""
    leaves = dict(_leaves(typer.main.get_command(app), "k2"))
    del leaves["k2 run"], leaves["k2 compile"]
    assert {"k2 produce", "k2 dlq show", "k2 recovery roll-forward"} <= leaves.keys()
    for path, command in leaves.items():
        with subtests.test(path):
            assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_help_imports_nothing_heavy() -> None:
    """`k2 --help` lists every command without importing one."""
    heavy = "import sys; from k2.cli.main import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in done.stdout for name in K2.table)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"confluent_kafka", "duckdb", "numba", "numpy", "pyarrow", "pydantic", "pyiceberg"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("nope", "No such command 'nope'; see `k2 --help`"),
        ("gasp", "No such command 'gasp'; did you mean 'gaps'? See `k2 --help`"),
        ("complete", "No such command 'complete'; did you mean 'completeness'? See `k2 --help`"),
        ("dlq lst", "No such command 'lst'. Did you mean 'list'? See `k2 dlq --help`"),
        ("--hlep", "No such option: --hlep; did you mean --help? See `k2 --help`"),
        ("gaps --exhange x", "No such option: --exhange; did you mean --exchange? See `k2 gaps --help`"),
        ("--json gaps", "No such option: --json; options follow the command; see `k2 --help`"),
        ("gaps --exchange", "Option '--exchange' requires an argument; see `k2 --help`"),
        (
            "run --bootstrap-servers x",
            "No such option: --bootstrap-servers; set K2_BOOTSTRAP_SERVERS in the environment; see `k2 run --help`",
        ),
        (
            "sql SELECT 1",
            "Got unexpected extra argument(s) (1); put an argument that contains spaces in quotes; see `k2 sql --help`",
        ),
        ("trades --limit ten", "Invalid value for '--limit': not a valid integer; see `k2 trades --help`"),
        (
            "serve --port 99999",
            "Invalid value for '--port': must be less than or equal to 65535; see `k2 serve --help`",
        ),
        ("produce", "Missing argument 'FILE'; see `k2 produce --help`"),
        ("recovery init", "Missing argument 'DIR'; see `k2 recovery init --help`"),
        ("symbols -x", "No such option: -x; see `k2 symbols --help`"),
    ],
)
def test_a_wrong_call_is_one_sentence(words: str, sentence: str) -> None:
    """The exit code is 2, and the sentence names what is wrong, a similar name, and the help to read."""
    done = CliRunner().invoke(app, words.split(), prog_name="k2")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"k2: {sentence}\n")


@pytest.mark.parametrize("words", [[], ["dlq"], ["recovery"]])
def test_a_call_without_a_command_lists_the_commands(words: list[str]) -> None:
    """The help is on stderr, and the exit code is 2."""
    done = CliRunner().invoke(app, words, prog_name="k2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


@pytest.mark.parametrize("words", [["-h"], ["gaps", "-h"], ["dlq", "list", "-h"]])
def test_the_short_option_shows_help(words: list[str]) -> None:
    """As `--help` does, for every command."""
    done = CliRunner().invoke(app, words, prog_name="k2")
    assert (done.exit_code, done.stdout[:6]) == (0, "Usage:")


@pytest.mark.parametrize("text", [b"\xff\xfe", b"catalog: ["])
def test_a_configuration_that_pyiceberg_cannot_read_is_named(tmp_path: Path, text: bytes) -> None:
    """PyIceberg reads it when imported: still exit code 2 and one sentence."""
    (tmp_path / ".pyiceberg.yaml").write_bytes(text)
    done = subprocess.run(
        [sys.executable, "-m", "k2.cli", "gaps"],
        cwd=ROOT,
        env={**os.environ, "PYICEBERG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("k2: PyIceberg's configuration cannot be read: ")
    assert done.stderr.count("\n") == 1


def test_the_version_is_printed() -> None:
    """`--version` prints it and exits with 0."""
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("k2")


def test_a_bad_log_level_is_named() -> None:
    """LOG_LEVEL must be one of the known levels."""
    done = CliRunner().invoke(app, ["produce", "x"], env={"LOG_LEVEL": "loud"})
    assert done.exit_code == 2
    assert "LOG_LEVEL='loud'" in done.stderr


class _Failing(Commands):
    table: ClassVar[dict[str, Command]] = {"fail": Command(__name__, "unused", "")}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        def fail(kind: int) -> None:
            error = (NotDeliveredError, SettingsError, UnreachableError)[kind]("what is wrong")
            error.add_note("and more")
            raise error

        single = typer.Typer()
        single.command(cmd_name)(fail)
        return typer.main.get_command(single)


@pytest.mark.parametrize(("kind", "code"), [(0, 1), (1, 2), (2, 3)])
def test_a_named_error_is_one_sentence_and_its_code(kind: int, code: int) -> None:
    """Message and notes are on stderr, nothing is on stdout, and the exit code is the error's."""
    failing = typer.Typer(cls=_Failing)
    failing.callback()(lambda: None)
    done = CliRunner().invoke(failing, ["fail", str(kind)])
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "k2: what is wrong\nk2: and more\n")


def test_json_encodes_all_values_of_results() -> None:
    """Text of any script is unchanged, unknown types are their text."""
    assert to_json({"path": Path("a"), "text": "é"}) == '{"path":"a","text":"é"}'


@pytest.mark.parametrize(("name", "extra"), [("demo", "demo"), ("serve", "serve")])
def test_a_command_whose_extra_is_missing_names_it(monkeypatch: pytest.MonkeyPatch, name: str, extra: str) -> None:
    """It ends with 2 and the command that installs it."""
    monkeypatch.setattr("k2.cli.console.find_spec", lambda _: None)
    done = CliRunner().invoke(app, [name])
    assert done.exit_code == 2
    assert f"pip install 'k2-trades[{extra}]'" in done.stderr

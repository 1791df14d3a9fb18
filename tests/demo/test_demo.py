"""The demo from end to end: the real job, killed once, finds what was injected, and any difference is reported."""

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from pyiceberg.expressions import And, EqualTo
from typer.testing import CliRunner

from demo import command, job_runner, run
from demo.actual import Actual, read_actual
from demo.comparison import compare
from demo.expected import DeadLetterBytes, ExpectedRows, MissingRange
from demo.faults import Stream
from demo.job_log import Speed, read_speed
from demo.job_runner import DemoError
from demo.market import listings
from demo.report import WIDTH_MAX, document, print_outcome
from demo.run import Outcome, Plan
from k2.cli.main import app
from k2.model.errors import SettingsError
from k2.ops.settings import Settings, read_settings
from k2.storage.catalog import find_table

ROOT = Path(__file__).parents[2]
MESSAGES, SYMBOLS, SEED = 20_000, 60, 11
SPEED = Speed(compile_seconds=5.0, start_seconds=[1.25, 1.12], messages=10_000, seconds=0.5)


@contextmanager
def _demo(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "k2.cli", "demo", "--data-dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=own,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the single demo that these tests run."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """Run the demo as users do, and return its JSON document."""
    numbers = ("--messages", str(MESSAGES), "--symbols", str(SYMBOLS), "--seed", str(SEED))
    with _demo(folder, *numbers, "--json") as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    whole: dict[str, Any] = json.loads(output)
    return whole


@pytest.fixture(scope="module")
def outcome(folder: Path, report: dict[str, Any]) -> Outcome:
    """Recompute the demo's outcome: the same seed makes the same expectation, and the tables still exist."""
    expected = folder / "again.parquet"
    with ExpectedRows(expected, listings(SYMBOLS, SEED)) as rows:
        stream = Stream(MESSAGES, SYMBOLS, SEED, rows)
        for _ in stream:
            pass
    settings = read_settings({}, data_dir=folder)
    found = read_actual(settings, expected)
    checks = compare(stream.totals, found)
    plan = Plan(folder, MESSAGES, SYMBOLS, SEED)
    return Outcome(plan, settings, stream.totals, found, checks, report["killed_at"], 1.0, [2.0, 2.0], SPEED, 5.0)


def test_demo_finds_what_was_injected(report: dict[str, Any]) -> None:
    """Every check is ok, every partition's sum holds, and all messages are accounted for."""
    assert report["ok"]
    assert [check for check in report["checks"] if not check["ok"]] == []
    assert len(report["partitions"]) == run.PARTITIONS
    assert all(partition["holds"] for partition in report["partitions"])
    assert sum(partition["received"] for partition in report["partitions"]) == MESSAGES


def test_demo_kills_the_job_midway(report: dict[str, Any], folder: Path) -> None:
    """The kill came when some of the messages were in the table, but not all."""
    assert 0 < report["killed_at"] < MESSAGES
    assert (folder / "job.log").is_file()


def test_demo_names_its_folders(report: dict[str, Any], folder: Path) -> None:
    """The folder, the tables and the dead letters remain for inspection; the files to compare with are removed."""
    assert report["folder"] == str(folder)
    assert Path(report["tables"]).is_dir()
    assert Path(report["dead_letters"]).is_dir()
    assert not (folder / "expected.parquet").exists()


def test_report_fits_its_width(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables fit in 100 columns; every check and partition has its line, and nothing differs."""
    print_outcome(outcome, as_json=False)
    text = capsys.readouterr().out
    tables = text.partition(" messages a second")[0]
    assert max(len(line) for line in tables.splitlines()) <= WIDTH_MAX
    assert all(check.name in text for check in outcome.checks)
    assert "DIFFERS" not in text
    assert "BROKEN" not in text


def _suggested(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Return the words of each command that the report ends with, by what it is for."""
    print_outcome(outcome, as_json=False)
    lines = capsys.readouterr().out.splitlines()[-2:]
    return {purpose: shlex.split(line) for purpose, line in (line.split(": ", 1) for line in lines)}


def test_the_suggested_command_has_the_path_of_k2(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If no `k2` is on the path it is named with its folder, quoted for the shell."""
    monkeypatch.setenv("PATH", "")
    assert Path(_suggested(outcome, capsys)["Look further"][-2]).is_file()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert _suggested(outcome, capsys)["Look further"][-2:] == ["k2", "gaps"]


def test_the_suggested_commands_read_the_data_of_the_demo(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`k2 gaps` and `k2 serve` work as printed, in any folder, whatever the user's own settings are."""
    for name, value in (("CATALOG", "mine"), ("NAMESPACE", "mine"), ("DLQ_DIR", "mine")):
        monkeypatch.setenv(f"K2_{name}", value)
    monkeypatch.chdir(tmp_path)
    suggested = _suggested(outcome, capsys)
    gaps = subprocess.run(["env", *suggested["Look further"], "--json"], capture_output=True, text=True, check=True)
    assert len(json.loads(gaps.stdout)) == len(outcome.found.missing)
    served = ["env", *suggested["Or in a browser"], "--port", "0", "--json"]
    with subprocess.Popen(served, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = urlsplit(json.loads(server.stdout.readline())["url"]).netloc
            with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
                connection.request("GET", "/v1/reconcile")
                partitions = json.loads(connection.getresponse().read())
        finally:
            server.terminate()
    received = sum(partition["received"] for partition in partitions)
    assert received == MESSAGES


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (SPEED, ["Steady rate: 20,000 messages a second (10,000 in 0.5 s)", "Compilation of the rules: 5.0 s"]),
        (SPEED, ["With start-up: 2,500 messages a second (20,000 in 8.0 s)", "took 1.2 and 1.1 s to start."]),
        (Speed(0.0, [], 0, 0.0), ["Steady rate: none", "Compilation of the rules: none"]),
    ],
)
def test_the_headline_is_the_steady_rate(
    outcome: Outcome, capsys: pytest.CaptureFixture[str], speed: Speed, said: list[str]
) -> None:
    """What start-up takes is next to it, and compilation has a line of its own."""
    print_outcome(replace(outcome, speed=speed, run_seconds=[5.0, 3.0]), as_json=False)
    text = capsys.readouterr().out
    assert all(words in text for words in said)


def test_the_speed_is_that_of_the_run_that_committed_most(tmp_path: Path) -> None:
    """From its first read on, without compilation; other times are of all runs."""
    events = [
        ("00.0", {"event": "recovery_store_ready"}),
        ("00.5", {"event": "reading", "partition": "trades:0"}),
        ("10.0", {"event": "committed", "received": 1_000}),
        ("10.1", {"event": "rules_compiled", "seconds": 8.0}),
        ("20.0", {"event": "recovery_store_ready"}),
        ("20.5", {"event": "reading", "partition": "trades:1"}),
        ("20.6", {"event": "reading", "partition": "trades:0"}),
        ("21.0", {"event": "committed", "received": 5_000}),
        ("21.1", {"event": "rules_compiled", "seconds": 0.5}),
        ("22.0", {"event": "committed", "received": 30_000}),
        ("23.0", {"event": "committed", "received": 10_000}),
    ]
    lines = [json.dumps({**event, "timestamp": f"2025-03-04T00:00:{at}Z"}) for at, event in events]
    log = tmp_path / "job.log"
    log.write_text("\n".join([*lines, "worker 1: text of Bytewax", '{"event": "cut']))
    started_at = [datetime(2025, 3, 3, 23, 59, 59, tzinfo=UTC), datetime(2025, 3, 4, 0, 0, 19, tzinfo=UTC)]
    speed = read_speed(log, started_at)
    assert speed == Speed(compile_seconds=8.5, start_seconds=[1.5, 1.5], messages=45_000, seconds=2.0)
    assert speed.messages_per_second == 22_500
    log.write_text("\n".join(lines).replace('"received": 1000,', '"received": 60000,'))
    assert read_speed(log, started_at).messages_per_second == 40_000
    log.write_text("")
    assert read_speed(log, started_at).messages_per_second is None


def test_document_is_what_was_printed(outcome: Outcome, report: dict[str, Any]) -> None:
    """The same seed and tables make the same document, except for the clock."""
    again = document(outcome)
    for name in ("messages", "symbols", "seed", "killed_at", "injected", "open_gaps", "ok"):
        assert again[name] == report[name]


_GAP = MissingRange("binance", "NEW-USD", 1, 5, 6)
_LETTER = DeadLetterBytes("invalid", b"binance|NEW-USD", b"{}")


@pytest.mark.parametrize(
    "change",
    [
        {"stored": 1},
        {"absent": 1},
        {"foreign": 1},
        {"late": 0},
        {"gaps_small": 0},
        {"gaps_large": 0},
        {"filled": 0},
        {"restarts": 0},
        {"missing": []},
        {"missing": [_GAP]},
        {"partitions": []},
    ],
    ids=str,
)
def test_any_difference_is_reported(outcome: Outcome, change: dict[str, Any]) -> None:
    """One figure that differs makes the outcome bad, whichever it is."""
    assert outcome.ok
    assert not replace(outcome, checks=compare(outcome.expected, replace(outcome.found, **change))).ok


def test_another_dead_letter_is_reported(outcome: Outcome) -> None:
    """The same number of dead letters with another message among them is a difference."""
    letters = outcome.found.dead_letters.copy()
    letters[next(letter for letter in letters if letter.reason == "invalid")] -= 1
    letters[_LETTER] += 1
    assert not replace(outcome, checks=compare(outcome.expected, replace(outcome.found, dead_letters=letters))).ok


def test_a_broken_sum_is_reported(outcome: Outcome) -> None:
    """A partition whose sum does not hold makes the outcome bad, even if every figure matches."""
    first, *others = outcome.found.partitions
    found = replace(outcome.found, partitions=[replace(first, holds=False), *others])
    assert all(check.ok for check in compare(outcome.expected, found))
    assert not replace(outcome, found=found).ok


def test_a_deleted_row_fails_the_demo(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one trade is missing from the table the command exits with 1, and names the row that differs."""
    found = _without_a_trade(outcome.settings, outcome.plan.folder / "again.parquet")
    assert (found.stored, found.absent) == (outcome.found.stored - 1, 1)
    bad = replace(outcome, found=found, checks=compare(outcome.expected, found))
    assert "trades stored" in {check.name for check in bad.checks if not check.ok}
    assert not all(partition.holds for partition in found.partitions)
    monkeypatch.setattr(command, "run_demo", lambda _: bad)
    with pytest.raises(typer.Exit) as ended:
        command.demo(data_dir=outcome.plan.folder / "new")
    assert ended.value.exit_code == 1


def _without_a_trade(settings: Settings, expected: Path) -> Actual:
    table = find_table(settings, "trades")
    assert table is not None
    (row,) = table.scan(limit=1, selected_fields=("partition", "offset")).to_arrow().to_pylist()
    table.delete(And(EqualTo("partition", row["partition"]), EqualTo("offset", row["offset"])))
    return read_actual(settings, expected)


def test_a_failing_job_fails_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that ends early is reported with its exit code and the end of its log, whenever that is noticed."""
    monkeypatch.setattr(job_runner, "COMMAND", ("no_such_job",))
    job = job_runner.JobRunner(read_settings({}, data_dir=tmp_path), tmp_path / "job.log")
    with job.running(to_end=True) as running:
        for wait in (running.wait_for_commit, running.wait_for_end):
            with pytest.raises(DemoError, match=r"exit code 1(?s:.*)No module named no_such_job"):
                wait(lambda _: None)
        with pytest.raises(DemoError, match="ended by itself"):
            running.kill()


def test_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    """On Ctrl-C its child processes end, its folder stays, and one sentence says so."""
    with _demo(tmp_path / "new", "--messages", "50000") as process:
        end = time.monotonic() + 60
        while not (tmp_path / "new" / "job.log").exists() and time.monotonic() < end:
            time.sleep(0.05)
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"what it wrote is kept in {tmp_path / 'new'}" in errors
    assert "Traceback" not in errors
    assert [child for child in children if _is_running(child)] == []


def _children(pid: int) -> list[int]:
    """Return the child processes, from Linux's /proc; elsewhere there is no simple way."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_folder_is_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default each demo gets the next free folder; a folder that is not empty is rejected."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    assert [command.fresh_folder(None).name for _ in range(2)] == ["demo-1", "demo-2"]
    assert command.fresh_folder(tmp_path / "mine") == tmp_path / "mine"
    with pytest.raises(SettingsError, match="is not empty"):
        command.fresh_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot create the folder of the demo"):
        command.fresh_folder(tmp_path / "file" / "below")


def test_a_folder_that_cannot_hold_a_catalog_is_rejected_at_once(tmp_path: Path) -> None:
    """Before anything is published, and not by a job that fails."""
    done = CliRunner().invoke(app, ["demo", "--data-dir", str(tmp_path / "a#b")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "a path with '#' cannot hold a local catalog" in done.stderr
    assert not (tmp_path / "a#b" / "job.log").exists()


@pytest.mark.parametrize("arguments", [["--messages", "9" * 30], ["--messages", "999"], ["--data-dir", ""]])
def test_impossible_requests_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """More messages than memory holds, fewer than the faults need, no folder: exit code 2 before anything is made."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["demo", *arguments])
    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[0]}'" in done.stderr
    assert not any(tmp_path.iterdir())

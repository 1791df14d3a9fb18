"""`k2 run`: wrong starts end with one sentence and leave nothing behind, a good one becomes the job."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from typer.testing import CliRunner, Result

from k2.cli import run as command
from k2.cli.main import app
from k2.cli.start_checks import check_start
from k2.model.errors import SettingsError, StateError
from k2.ops.restart_budget import RestartBudget
from k2.storage.catalog import find_table
from k2.storage.recovery.backup import make_store
from k2.storage.recovery.lock import is_locked, lock_store
from k2.storage.recovery.store import read_store
from tests.brokers import Broker
from tests.flows.job import Job, wait_until
from tests.flows.market import market, publish

ROOT = Path(__file__).parents[2]
ADDRESSES = "127.0.0.1:2101;127.0.0.1:2102"
NAMESPACES = (["unshare", "--pid", "--fork"], ["unshare", "--user", "--map-root-user", "--pid", "--fork"])
"""Prefixes that make a command process 1 of a namespace: for root, and for others."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `k2 run` up to the moment when it becomes the job, whose arguments it prints."""
    monkeypatch.setattr(command, "exit_on_signals_until", lambda: lambda: None)
    monkeypatch.setattr(command, "_become_job", lambda arguments: typer.echo(" ".join(arguments)))
    return lambda *arguments: CliRunner().invoke(app, ["run", *arguments])


@pytest.fixture
def good(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment for a start that succeeds, and return the data folder."""
    folder = tmp_path / "data"
    monkeypatch.setenv("K2_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("K2_TOPICS", broker.topic())
    monkeypatch.setenv("K2_DATA_DIR", str(folder))
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-a", ADDRESSES], "-i is missing"),
        (["-i", "1"], "-i 1 needs the addresses of all processes"),
        (["-i", "1", "-a", "127.0.0.1:2101"], "put the addresses in quotes"),
        (["-i", "2", "-a", ADDRESSES], "-i 2, but -a names 2 processes, numbered from 0"),
        (["-i", "0", "-a", "host-a"], "'host-a' is not HOST:PORT"),
        (["-r", ""], "-r is empty"),
    ],
)
def test_arguments_that_do_not_match_are_one_sentence(
    run: Callable[..., Result], arguments: list[str], sentence: str
) -> None:
    """Exit code 2, before anything is asked of a broker."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "code", "sentence"),
    [
        ({"K2_TOPIC": "trades"}, 2, "K2_TOPIC is not a setting of this job; did you mean K2_TOPICS?"),
        ({"K2_TOPICS": "no-such-topic"}, 2, "topic 'no-such-topic' does not exist at"),
        ({"K2_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, 3, "no Kafka broker answers at 127.0.0.1:1"),
        ({"K2_DATA_DIR": "/dev/null"}, 2, "set K2_DLQ_DIR to another one (by default, it is `dlq` in K2_DATA_DIR)"),
    ],
    ids=str,
)
def test_what_the_job_would_refuse_is_one_sentence_and_makes_no_store(
    good: Path,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    code: int,
    sentence: str,
) -> None:
    """Settings, broker, topics and folders are checked before the store is made, with the job's exit codes."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = run()
    assert (done.exit_code, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert not (good / "recovery").exists()


def test_a_topic_with_a_similar_name_is_offered(
    broker: Broker, good: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt topic is named together with the one that exists."""
    topic = broker.topic()
    monkeypatch.setenv("K2_TOPICS", topic[:-1])
    done = run()
    assert done.exit_code == 2
    assert f"did you mean {topic!r}?" in done.stderr


def test_a_first_start_makes_the_store(good: Path, run: Callable[..., Result]) -> None:
    """By default in the data folder, with a partition for each worker; it is locked until the job takes the lock."""
    done = run("--workers", "6")
    store = good / "recovery"
    assert done.exit_code == 0, done.stderr
    assert done.stdout.split() == [str(command.FLOW), *f"-w 6 -r {store} -s 10 -b 0".split()]
    assert command.FLOW.is_file()
    assert f"created the recovery store {store} with 6 partitions" in done.stderr
    assert read_store(store).partitions == 6
    assert is_locked(store)


def test_options_and_variables_of_bytewax_are_passed_on(
    good: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of Bytewax counts where its option is not given."""
    monkeypatch.setenv("BYTEWAX_RECOVERY_DIRECTORY", str(good / "store"))
    monkeypatch.setenv("BYTEWAX_SNAPSHOT_INTERVAL", "7")
    done = run("-s", "3", "-b", "60", "-i", "0", "-a", ADDRESSES)
    wanted = ["-w", "1", "-r", str(good / "store"), "-s", "3", "-b", "60", "-i", "0", "-a", ADDRESSES]
    assert (done.exit_code, done.stdout.split()[1:]) == (0, wanted)


def test_only_the_first_process_makes_the_store(
    good: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peers get a folder without partitions; a pod's number is in its name."""
    done = run("-i", "1", "-a", ADDRESSES)
    assert done.exit_code == 0, done.stderr
    assert [*(good / "recovery").iterdir()] == []
    monkeypatch.setenv("BYTEWAX_STATEFULSET_NAME", "k2")
    monkeypatch.setenv("BYTEWAX_POD_NAME", "k2-1")
    assert run("-a", ADDRESSES).stdout.split()[-4:] == ["-i", "1", "-a", ADDRESSES]
    monkeypatch.setenv("BYTEWAX_POD_NAME", "other")
    assert "BYTEWAX_POD_NAME='other'" in run("-a", ADDRESSES).stderr


def test_a_supervised_job_is_this_command_without_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start makes the checks again, with the options of the first; the restarts have a budget."""
    monkeypatch.setattr(command, "_supervise", lambda options, budget: started.append((options, budget)) or 3)
    started: list[tuple[list[str], RestartBudget]] = []
    arguments = ["-i", "1", "-a", ADDRESSES, "-r", "store", "-s", "2", "--restarts-max", "1"]
    done = CliRunner().invoke(app, ["run", "--supervise", "--restart-window", "9", "-w", "3", *arguments])
    [(options, budget)] = started
    assert (done.exit_code, done.output) == (3, "")
    assert options == ["-w", "3", "-r", "store", "-s", "2", "-b", "0", "-i", "1", "-a", ADDRESSES]
    assert [budget.take(now) for now in (0, 8, 9)] == [1, None, 1]


def test_a_supervisor_refuses_arguments_that_do_not_match() -> None:
    """In one sentence, before it starts anything."""
    done = CliRunner().invoke(app, ["run", "--supervise", "-a", ADDRESSES])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "-i is missing" in done.stderr


@pytest.mark.parametrize("option", ["--restarts-max", "--restart-window"])
def test_a_budget_without_a_supervisor_is_refused(option: str) -> None:
    """An option that nothing reads would mislead; one sentence names it."""
    done = CliRunner().invoke(app, ["run", option, "3"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{option} is of --supervise, which is missing" in done.stderr


def test_a_store_that_the_job_would_refuse_stops_the_start(good: Path) -> None:
    """Another execution uses it, a partition is missing, or the folder is a file."""
    store = make_store(good / "recovery", 4).folder
    held = lock_store(store, 0)
    with pytest.raises(StateError, match="another execution"):
        check_start(None, 0, 1, 1)
    os.close(held)
    (store / "part-1.sqlite3").unlink()
    with pytest.raises(StateError, match="lacks partition 1 of 4"):
        check_start(None, 0, 1, 1)
    (good / "file").touch()
    for process in (0, 1):
        with pytest.raises(SettingsError, match="a recovery store cannot be put there"):
            check_start(str(good / "file"), process, 2, 1)


def _start(job: Job, folder: Path, *arguments: str, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start `k2 run` in a working folder that has other packages with the names of ours and of Bytewax."""
    for name in ("flows", "bytewax", "k2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('a foreign package was imported')\n")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from k2.cli.__main__ import main; main()"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "BYTEWAX_"))}
    return subprocess.Popen(
        [*prefix, sys.executable, "-P", "-c", code, "run", *arguments],
        cwd=folder,
        env={**own, **job.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_the_job_to_its_end(broker: Broker, tmp_path: Path) -> None:
    """All messages are in the table, and the store that it made has the state of the job."""
    topic = broker.topic(partitions=2)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    messages = market(symbols=10, rounds=20)
    publish(broker.bootstrap_servers, topic, messages)
    with _start(job, tmp_path / "work", "--workers", "2", "-s", "1") as process:
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert job.committed() == len(messages)
    store = read_store(tmp_path / "data" / "recovery")
    assert (store.workers, sum(store.offsets.values())) == (2, len(messages))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "as_process_1"),
    [
        ("checks", signal.SIGTERM, False),
        ("becomes", signal.SIGINT, False),
        ("becomes", signal.SIGTERM, True),
        ("runs", signal.SIGTERM, False),
        ("runs supervised", signal.SIGTERM, True),
        ("runs supervised", signal.SIGINT, False),
    ],
)
def test_a_signal_ends_it_at_every_moment(
    broker: Broker,
    tmp_path: Path,
    missing: Callable[[str], NoReturn],
    stage: str,
    number: signal.Signals,
    *,
    as_process_1: bool,
) -> None:
    """While it checks, while neither program has a handler, and while the job runs: the job's exit code."""
    prefix = next((one for one in NAMESPACES if _works(one)), None) if as_process_1 else []
    if prefix is None:
        missing("root, or user namespaces: a process 1 of its own")
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic(), {"K2_RUN_TO_END": "false"})
    reached = {
        "checks": (tmp_path / "data" / "dlq").exists,
        "becomes": (tmp_path / "data" / "recovery" / "part-3.sqlite3").exists,
        "runs": lambda: find_table(job.settings, "trades") is not None,
    }
    reached["runs supervised"] = reached["runs"]
    options = ["--supervise"] if "supervised" in stage else []
    with _start(job, tmp_path / "work", *options, prefix=prefix) as process:
        try:
            wait_until(reached[stage], f"never reached: {stage}")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            os.kill(int(children.read_text(encoding="ascii")) if prefix else process.pid, number)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said


def _works(namespace: list[str]) -> bool:
    try:
        return subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False

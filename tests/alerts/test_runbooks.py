"""Runbooks: one for each alert, whose commands run on the tables of a job."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bytewax.testing import cluster_main
from typer.testing import CliRunner

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.cli.main import app
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_binding import bind_tables
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition
from k2.ops.settings import read_settings
from k2.restore.tables import TableStateSource
from k2.storage.recovery.backup import make_store
from tests.alerts.files import ROOT, alerts
from tests.alerts.promql import Exported, labels_of
from tests.flows.job_io import MemorySource, message_batch
from tests.test_docs import FENCE, _check_k2

RUNBOOKS = ROOT / "docs" / "runbooks"
OPERATIONS = ROOT / "docs" / "operations.md"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
INLINE = re.compile(r"`(k2 [^`]+)`")
PROGRAMS = {"k2", "df"}
PAGES = sorted(RUNBOOKS.glob("*.md"))
START_US = 1_700_000_000_000_000


def _commands() -> Iterator[tuple[str, str]]:
    """Yield page and command of each line of the console examples."""
    for page in PAGES:
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            if match[1] == "console":
                yield from ((page.stem, line) for line in match[3].splitlines())


def _messages() -> list[tuple[bytes | None, bytes]]:
    """Return trades with a gap, a conflict, a restart of no numbering, and messages that cannot be read."""
    numbers = [*range(1, 301), *range(321, 341)]
    trades = [{"sequence": number, "price": "1"} for number in numbers] + [{"sequence": 30, "price": "2"}]
    common = {"exchange": "x", "symbol": "S", "quantity": "1"}
    values = [json.dumps({**common, **one, "timestamp": START_US + at}).encode() for at, one in enumerate(trades)]
    return [(None, value) for value in [*values, b"{", b'{"exchange": "x"}']]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the data of a job that has run: all tables, dead letters, checkpoints, a recovery store."""
    folder = tmp_path_factory.mktemp("runbooks")
    settings = read_settings({}, data_dir=folder / "data")
    trades = TradesSink(settings)
    progress = trades.open()
    events = LedgerSink(settings, progress, fence=trades)
    bind_tables(trades.committer, events.committer, is_resumed=False)
    events.open()
    partition = TopicPartition("trades", 0)
    batches = [MessageBatch.first(partition, "k2", 0), message_batch(_messages(), 0)]
    source = MemorySource({str(partition): batches})
    job_io = JobIO(source, trades, events, TableStateSource(settings))
    cluster_main(trades_flow(job_io, settings), [], 0, epoch_interval=timedelta(0))
    make_store(folder / "data" / "recovery", 1)
    return folder


def test_each_alert_has_a_runbook() -> None:
    """There is one page for each alert, and no other; its sections are in one order."""
    assert {page.stem for page in PAGES} == {*alerts()}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.stem}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS, page.stem


def test_commands_run(folder: Path, subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prints something and ends with 0, or with 1 if it found a fault; never with an error."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("K2_DATA_DIR", raising=False)
    commands = dict(map(reversed, _commands()))
    assert len(commands) > 10
    for command, page in commands.items():
        with subtests.test(f"{page}: {command}"):
            program, *words = shlex.split(command)
            assert program in PROGRAMS
            if program == "k2":
                result = CliRunner().invoke(app, words)
                assert result.exit_code in {0, 1}, result.output
                assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
                assert result.output.strip()
            else:
                subprocess.run([program, *words], check=True, capture_output=True, timeout=60)


def test_commands_in_sentences_exist(subtests: pytest.Subtests) -> None:
    """A command with placeholders is not run, but it exists with the options shown."""
    for page in PAGES:
        for command in INLINE.findall(page.read_text(encoding="utf-8")):
            with subtests.test(f"{page.stem}: {command}"):
                _check_k2(shlex.split(command)[1:])


@pytest.mark.slow
def test_queries_use_what_is_exported(known: Exported, subtests: pytest.Subtests) -> None:
    """Each series and label of a query is one of the job, of `k2 serve`, or recorded by the rules."""
    for page in PAGES:
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            if match[1] == "promql":
                with subtests.test(f"{page.stem}: {match[3]}"):
                    labels_of(match[3], known)


def test_operations_lists_the_alerts() -> None:
    """The table in docs/operations.md has each alert with its severity and its summary."""
    text = OPERATIONS.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("| [K2")] == [
        f"| [{name}](runbooks/{name}.md) | {rule['labels']['severity']} | {rule['annotations']['summary']} |"
        for name, rule in alerts().items()
    ]

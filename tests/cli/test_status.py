"""`k2 status`: one screen, and how long it looks before it says that a capture is complete."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from k2.cli import status as module
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.status.findings import Verdict
from k2.status.reader import Status, StatusReader
from tests.query.tables import append, event, made, numbered

K2 = Callable[..., Result]


class Reader:
    """A reader of given statuses, of which all but the last are not certain."""

    def __init__(self, found: Status, verdicts: list[Verdict]) -> None:
        self.found, self.verdicts = found, verdicts

    @property
    def is_certain(self) -> bool:
        """Whether the last status was read."""
        return not self.verdicts

    def read(self) -> Status:
        """Return the next status."""
        return replace(self.found, verdict=self.verdicts.pop(0), reasons=[])


@pytest.mark.parametrize(
    ("verdicts", "code"), [([Verdict.COMPLETE] * 3, 0), ([Verdict.COMPLETE, Verdict.STOPPED, Verdict.COMPLETE], 1)]
)
def test_what_is_not_certain_is_watched(
    settings: Settings, k2: K2, monkeypatch: pytest.MonkeyPatch, verdicts: list[Verdict], code: int
) -> None:
    """Until it is, or something else than complete is found; a line on stderr says why it takes long."""
    made(settings, TableName.TRADES)
    reader = Reader(StatusReader(settings).read(), [*verdicts])
    monkeypatch.setattr(module, "StatusReader", lambda _: reader)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.0)
    result = k2("status")
    assert result.exit_code == code
    assert result.stderr.count("watching whether the unread messages are read") == (2 if code == 0 else 1)


def test_a_status_is_one_screen(settings: Settings, k2: K2) -> None:
    """The verdict first, then each reason with its next step, the equation, ages and the day before."""
    append(made(settings, TableName.TRADES), [numbered(number, number) for number in (1, 2, 5)])
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 3, 4, session=1)])
    result = k2("status")
    lines = result.stdout.splitlines()
    assert (result.exit_code, lines[0]) == (1, "MISSING")
    assert "  missing: 2 sequence numbers of 1 symbol are missing in 1 range" in result.stdout
    assert "    -> k2 gaps lists the ranges" in result.stdout
    (step,) = [line for line in lines if line.startswith("    -> k2 gaps")]
    assert ("k2 gaps --export" in step, "k2 backfill" in step) == (True, True)
    (yesterday,) = [line for line in lines if line.startswith("yesterday")]
    assert yesterday.endswith("may not be read to its end; no sequence number of it is missing")


def test_commits_without_trades_have_no_newest_trade(
    settings: Settings, k2: K2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while duplicates arrive; the age of the newest trade is unknown only if the table cannot be read."""
    made(settings, TableName.TRADES)
    found = StatusReader(settings).read()
    for committed, words in ((found.checked_at, "none in the newest commits"), (None, "unknown by Kafka, unknown by")):
        reader = Reader(replace(found, last_commit_at=committed), [Verdict.COMPLETE])
        monkeypatch.setattr(module, "StatusReader", lambda _, reader=reader: reader)
        assert f"newest trade  {words}" in k2("status").stdout


@pytest.mark.parametrize("line", ["oauth_cb=mine.token", "security.protocol=nonsense"])
@pytest.mark.parametrize("command", [["status"], ["produce", "capture.ndjson"], ["run"]])
def test_a_wrong_kafka_property_is_one_sentence(
    settings: Settings, k2: K2, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], line: str
) -> None:
    """The exit code is 2 for each command that connects to Kafka, and the property and the file are named."""
    file = tmp_path / "kafka.properties"
    file.write_text(f"{line}\n", encoding="utf-8")
    monkeypatch.setenv("K2_KAFKA_CONFIG", str(file))
    monkeypatch.setattr("k2.cli.run.exit_on_signals_until", lambda: lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "capture.ndjson").write_text('{"exchange":"a","symbol":"b"}\n', encoding="utf-8")
    result = k2(*command, *(["--force"] if "produce" in command else []))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    assert line.partition("=")[0] in result.stderr
    assert str(file) in result.stderr

"""`k2 gaps`: fields, filters and exit codes."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import csv, ipc
from typer.testing import Result

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import EPOCH, append, event, made, trade

K2 = Callable[..., Result]
LATER = "2024-08-09T00:01:00Z"


@pytest.fixture
def ledger(settings: Settings) -> None:
    """Write a ledger with a gap that was split by a late number, and a gap of another exchange."""
    rows = [
        event("gap_opened", 5, 9),
        event("gap_filled", 6, 6, detected_at=EPOCH + timedelta(minutes=1)),
        event("gap_opened", 1, 1, exchange="kraken"),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)


def test_gaps(ledger: None, k2: K2) -> None:
    """One row for each missing range, with the documented fields; filters select; a table for people."""
    result = k2("gaps", "--exchange", "binance", "--symbol", "BTCUSDT", "--json", "--as-of", "2024-08-09T00:02:00Z")
    where = {"exchange": "binance", "symbol": "BTCUSDT", "session": 0}
    times = {"opened_at": "2024-08-09T00:00:00Z", "filled_at": None, "open_seconds": 120.0}
    times |= dict.fromkeys(("accepted_at", "reason", "decided_by", "fillable_until", "fillable_numbers"))
    times |= {"timestamp": "2024-08-09T00:00:00Z", "cause": "unknown", "incident": "unknown:binance:2024-08-09T00:00"}
    assert json.loads(result.stdout) == [
        {**where, "first_sequence": 5, "last_sequence": 5, "missing": 1, **times},
        {**where, "first_sequence": 7, "last_sequence": 9, "missing": 3, **times},
    ]
    assert json.loads(k2("gaps", "--as-of", "2024-08-08T23:59:59", "--json").stdout) == []
    assert [row["missing"] for row in json.loads(k2("gaps", "--as-of", "2024-08-09", "--json").stdout)] == [5, 1]
    shown = k2("gaps")
    assert shown.exit_code == 0
    assert "kraken" in shown.stdout
    assert "5 missing in 3 ranges" in shown.stderr


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "json"])
def test_a_file(ledger: None, k2: K2, tmp_path: Path, suffix: str) -> None:
    """It has the rows that are printed otherwise, and stdout has none; a name without a format is rejected."""
    path = tmp_path / f"gaps.{suffix}"
    result = k2("gaps", "--all", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"4 rows in {path}" in result.stderr
    readers = {
        "parquet": pq.read_table,
        "csv": csv.read_csv,
        "arrow": lambda file: ipc.open_stream(Path(file).read_bytes()).read_all(),
    }
    found = json.loads(path.read_text()) if suffix == "json" else readers[suffix](str(path)).to_pylist()
    assert [(row["first_sequence"], row["missing"]) for row in found] == [
        (row["first_sequence"], row["missing"]) for row in json.loads(k2("gaps", "--all", "--json").stdout)
    ]
    refused = k2("gaps", "--output", "gaps.txt")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--output gaps.txt: its name must end with one of" in refused.stderr


def test_the_largest_gaps(ledger: None, k2: K2) -> None:
    """A limit selects those of the most numbers; the sum is that of all, and a sentence says how many are left out."""
    result = k2("gaps", "--limit", "1", "--json")
    assert [(row["first_sequence"], row["missing"]) for row in json.loads(result.stdout)] == [(7, 3)]
    assert result.stderr == "the largest 1 of 3 ranges are listed; use a higher --limit\n"
    shown = k2("gaps", "--limit", "2")
    assert "5 missing in 3 ranges\nthe largest 2 of 3 ranges are listed" in shown.stderr
    assert (k2("gaps", "--limit", "3", "--json").stderr, k2("gaps", "--limit", "0").exit_code) == ("", 2)


def test_filled_gaps(ledger: None, k2: K2) -> None:
    """Only the filled ones, or all; the two options exclude each other."""
    (row,) = json.loads(k2("gaps", "--filled", "--json").stdout)
    assert (row["first_sequence"], row["last_sequence"], row["missing"], row["open_seconds"]) == (6, 6, 1, 60.0)
    assert (row["opened_at"], row["filled_at"]) == ("2024-08-09T00:00:00Z", LATER)
    assert len(json.loads(k2("gaps", "--all", "--json").stdout)) == 4
    shown = k2("gaps", "--all", columns=80)
    assert "2024-08-09 00:01" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    assert "5 missing in 3 ranges" in shown.stderr
    assert "1 filled in 1 range\n" in shown.stderr
    assert "missing" not in k2("gaps", "--filled").stderr
    both = k2("gaps", "--filled", "--all")
    assert (both.exit_code, both.stdout) == (2, "")
    assert "--filled and --all" in both.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--incidents", "--by", "cause"], "--incidents and --by cannot be used together"),
        (["--export", "--incidents"], "--export takes only"),
        (["--format", "curl"], "--format curl is of a plan; add --export"),
    ],
)
def test_options_of_another_list_are_refused(k2: K2, arguments: list[str], message: str) -> None:
    """None is left out in silence."""
    result = k2("gaps", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_accepting(ledger: None, k2: K2) -> None:
    """Only what is missing of a range; the list of accepted gaps has reason and name, and no other list has them."""
    asked = ("gaps", "accept", "binance", "BTCUSDT", "1", "7", "--reason", "never existed", "--by", "ann")
    proof = ("--witness", "archive:trades.zip", "--witness", "rest:fromId=5")
    planned = k2(*asked, *proof, "--dry-run", "--json")
    assert json.loads(planned.stdout)["dry_run"] is True
    assert re.search(r"decided at +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", k2(*asked, *proof, "--dry-run").stdout)
    decided = json.loads(k2(*asked, *proof, "--json").stdout)
    reason = "never existed (archive: trades.zip; rest: fromId=5)"
    what = {"exchange": "binance", "symbol": "BTCUSDT", "session": 0, "numbers": 2, "ranges": [[5, 5], [7, 7]]}
    said = {"event": "gap_accepted", "reason": reason, "decided_by": "ann", "decided_at": decided["decided_at"]}
    assert decided == {**what, **said, "dry_run": False}
    rows = json.loads(k2("gaps", "--accepted", "--json").stdout)
    assert [(row["first_sequence"], row["reason"], row["decided_by"]) for row in rows] == [
        (5, reason, "ann"),
        (7, reason, "ann"),
    ]
    shown = k2("gaps", "--accepted")
    assert "never existed" in shown.stdout
    assert shown.stderr == "2 accepted in 2 ranges\n"
    every = k2("gaps", "--all")
    assert "accepted 20" in every.stdout
    assert "3 missing in 2 ranges" in every.stderr
    again = k2(*asked)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("k2: numbers 1 to 7 of binance BTCUSDT: accepted already by ann at ")
    undone = k2(*asked, "--undo")
    assert "5, 7" in undone.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--reason", " "], "--reason '': not a line of text"),
        (["--reason", "x" * 1_001], "--reason: longer than 1,000 bytes"),
        (["--reason", "x", "--by", ""], "--by '': not a line of text"),
        (["--reason", "x", "--witness", "archive:file.zip"], "add one of another kind (stream, rest, person)"),
        (["--reason", "x", "--witness", "rest:a", "--witness", "rest:b"], "one kind of witness does not prove"),
        (["--reason", "x", "--witness", "hearsay:y"], "use KIND:TEXT with stream, rest, archive, person"),
        (["--reason", "x", "--witness", "rest:"], "--witness 'rest:': not a witness"),
    ],
)
def test_a_decision_that_is_not_founded_is_refused(k2: K2, options: list[str], says: str) -> None:
    """Before the ledger is read."""
    refused = k2("gaps", "accept", "binance", "BTCUSDT", "5", "9", *options)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert says in refused.stderr


def test_incidents_and_causes(settings: Settings, k2: K2) -> None:
    """Sums of the open gaps, as a table, as JSON and to a file; and until when the gaps can be filled."""
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    append(
        ledger, [event("gap_opened", 5, 9, exchange="okx", symbol=name, timestamp=datetime.now(UTC)) for name in "ABC"]
    )
    append(ledger, [event("gap_opened", 5, 5, exchange="kraken-futures")])
    (row, other) = json.loads(k2("gaps", "--incidents", "--json").stdout)
    assert (row["cause"], row["exchanges"], row["symbols"], row["gaps"], row["missing"]) == (
        "connection",
        "okx",
        3,
        3,
        15,
    )
    assert row["incident"].startswith("connection:okx:20")
    assert other["fillable_until"] == "2024-08-16T00:00:00Z"
    sums = json.loads(k2("gaps", "--by", "cause", "--json").stdout)
    assert [(one["cause"], one["missing"]) for one in sums] == [("connection", 15), ("unknown", 1)]
    limited = k2("gaps", "--incidents", "--limit", "1", "--json")
    assert len(json.loads(limited.stdout)) == 1
    assert limited.stderr == "the largest 1 of 2 incidents are listed; use a higher --limit\n"
    shown = k2("gaps", "--incidents")
    assert "connection" in shown.stdout
    assert shown.stderr == "16 numbers in 4 ranges\n"
    gaps = k2("gaps").stdout
    assert "no more" in gaps
    assert "connection" in gaps
    assert "fillable" not in k2("gaps", "--all").stdout


def test_the_word_of_a_person(ledger: None, k2: K2) -> None:
    """It is enough, with the name of the user and the host by default."""
    assert (
        k2("gaps", "accept", "kraken", "BTCUSDT", "1", "1", "--reason", "x", "--witness", "person:support").exit_code
        == 0
    )
    (row,) = json.loads(k2("gaps", "--accepted", "--json").stdout)
    assert row["reason"] == "x (person: support)"
    assert re.fullmatch(r".+@.+", row["decided_by"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exchange", "binanc"], "of 'binanc' is known, so no number can be missing; did you mean binance?\n"),
        (["--symbol", "btcusdt"], "of 'btcusdt' is known, so no number can be missing; did you mean BTCUSDT?\n"),
        (["--exchange", "kraken", "--symbol", "BTCUSDT"], "no contiguous numbering of 'kraken' and 'BTCUSDT' is"),
        (["--as-of", "2024-08-08"], "no contiguous numbering was known by then"),
        (["--exchange", "kraken", "--as-of", "2024-08-08"], "no contiguous numbering of 'kraken' was known by then"),
        (["--exchange", "binance", "--symbol", "BTCUSDT"], ""),
        (["--as-of", "2024-08-09"], ""),
    ],
)
def test_a_name_that_is_not_in_the_ledger_is_reported(
    settings: Settings, k2: K2, arguments: list[str], says: str
) -> None:
    """A misspelt symbol has no gaps, nor has one before its first trade; a complete one is distinguished."""
    rows = [event("session_started", 1, 1), event("session_started", 1, 1, exchange="kraken", symbol="X")]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)
    result = k2("gaps", *arguments, "--json")
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert says in result.stderr
    assert ("can be missing" in result.stderr) is bool(says)


def test_no_gap_is_older_than_now(ledger: None, k2: K2) -> None:
    """As of a future time, gaps are those of now."""
    now, then = (json.loads(k2("gaps", "--json", *of).stdout) for of in ((), ("--as-of", "2999-01-01")))
    assert [one["open_seconds"] for one in then] == pytest.approx([one["open_seconds"] for one in now], abs=600)


@pytest.mark.parametrize("value", ["", "\udcff"])
def test_an_invalid_name_is_a_usage_error(settings: Settings, k2: K2, value: str) -> None:
    """An unset shell variable, or bytes that are not text."""
    result = k2("gaps", "--exchange", value)
    assert result.exit_code == 2
    assert "Invalid value for '--exchange'" in result.stderr


@pytest.fixture
def lost(settings: Settings) -> None:
    """Write a ledger with messages of connections that were lost."""
    rows = [
        event("connection_gap", 5, 9, exchange="dydx", symbol="c-1", session=1, partition=2, offset=70),
        event("connection_gap", 20, 20, exchange="dydx", symbol="c-1", session=1, offset=71),
    ]
    append(made(settings, TableName.SEQUENCE_EVENTS), rows)


def test_connections(lost: None, k2: K2) -> None:
    """The messages that were lost before Kafka, which no list of missing trades has."""
    rows = json.loads(k2("gaps", "--connections", "--json").stdout)
    assert rows[0] == {
        "exchange": "dydx",
        "topic": "trades",
        "connection": "c-1",
        "session": 1,
        "first_number": 5,
        "last_number": 9,
        "missing": 5,
        "timestamp": "2024-08-09T00:00:00Z",
        "partition": 2,
        "offset": 70,
        "detected_at": "2024-08-09T00:00:00Z",
    }
    assert [row["missing"] for row in rows] == [5, 1]
    assert json.loads(k2("gaps", "--connections", "--exchange", "x", "--json").stdout) == []
    assert json.loads(k2("gaps", "--connections", "--as-of", "2024-08-08", "--json").stdout) == []
    assert json.loads(k2("gaps", "--json").stdout) == []
    shown = k2("gaps", "--connections", "--limit", "1")
    assert "trades:2:70" in shown.stdout
    assert "trades:0:71" not in shown.stdout
    assert "6 messages of unknown content in 2 ranges" in shown.stderr
    assert "the largest 1 of 2 ranges are listed" in shown.stderr


def test_connections_to_a_file(lost: None, k2: K2, tmp_path: Path) -> None:
    """With all columns."""
    path = tmp_path / "lost.parquet"
    assert k2("gaps", "--connections", "--output", str(path)).exit_code == 0
    assert pq.read_table(path)["missing"].to_pylist() == [5, 1]


@pytest.mark.parametrize("option", [["--filled"], ["--accepted"], ["--all"], ["--symbol", "c-1"]])
def test_connections_have_no_symbols(k2: K2, option: list[str]) -> None:
    """Options that select gaps of trades are refused."""
    result = k2("gaps", "--connections", *option)
    assert result.exit_code == 2
    assert "--connections cannot be used together with" in result.stderr


def test_losses_in_other_reports(lost: None, settings: Settings, k2: K2) -> None:
    """The sum of each exchange, in the completeness and on the status; not in their numbers of missing trades."""
    append(made(settings, TableName.TRADES), [trade(1, exchange="dydx", symbol="BTC-USD")])
    sentence = "loss between venue and Kafka: 6 messages of dydx, of unknown content"
    assert sentence in k2("completeness").stderr
    assert sentence in k2("completeness", "--as-of", "2024-08-10").stderr
    assert sentence not in k2("completeness", "--end", "2024-08-08").stderr
    assert f"connections   {sentence}" in k2("status").stdout
    status = json.loads(k2("status", "--json").stdout)
    assert status["losses"] == [{"exchange": "dydx", "messages": 6, "ranges": 2}]
    assert status["missing"] == 0

"""`k2 completeness`: fields, filters, the strip, and exit codes."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from typer.testing import Result

from k2.cli.heat_map import CUT, MARKS, NONE, NOTHING, UNKNOWN, mark_of
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.completeness import Hour
from tests.query.tables import (
    EPOCH,
    append,
    conflict,
    event,
    made,
    numbered,
    progress,
    session_started,
    set_progress,
    write_letters,
)

K2 = Callable[..., Result]


@pytest.fixture
def stored(settings: Settings) -> None:
    """Store two symbols over two days."""
    rows = [numbered(1, 20), numbered(9, 28), numbered(10, 29), numbered(1, 22, symbol="ETHUSDT")]
    append(made(settings, TableName.TRADES), rows)
    append(
        made(settings, TableName.SEQUENCE_EVENTS), [session_started(1, 20), session_started(1, 22, symbol="ETHUSDT")]
    )


@pytest.fixture
def doubtful(settings: Settings, stored: None) -> None:
    """Add a second session on a day of one symbol, and a conflict of a third symbol that has nothing missing."""
    trades = made(settings, TableName.TRADES)
    append(trades, [numbered(1, 22, session=2), *(numbered(number, 22, symbol="XRPUSDT") for number in (1, 2))])
    append(made(settings, TableName.SEQUENCE_EVENTS), [session_started(2, 22)])
    set_progress(trades, progress(offset=100))
    write_letters(settings, [conflict(50, EPOCH + timedelta(hours=23), symbol="XRPUSDT")])


@pytest.mark.parametrize(("arguments", "count"), [([], 3), (["--heat"], 11)], ids=["days", "hours"])
def test_a_file(stored: None, k2: K2, tmp_path: Path, arguments: list[str], count: int) -> None:
    """It has the rows of the JSON: days, or hours with the strip."""
    path = tmp_path / "completeness.parquet"
    result = k2("completeness", *arguments, "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    rows, reported = pq.read_table(path).to_pylist(), json.loads(k2("completeness", *arguments, "--json").stdout)
    assert len(rows) == count
    assert [(row["symbol"], row["expected"], row["stored"]) for row in rows] == [
        (row["symbol"], row["expected"], row["stored"]) for row in reported
    ]


def test_accepted_numbers(stored: None, k2: K2, settings: Settings) -> None:
    """A column and a part of the sum, if there are any; they are missing no longer."""
    assert "accepted" not in k2("completeness").stdout
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    append(ledger, [event("gap_opened", 2, 8, session=1)])
    assert json.loads(k2("status", "--json").stdout)["missing"] == 7
    append(ledger, [event("gap_accepted", 2, 8, session=1, topic="", partition=-1, offset=-1)])
    assert json.loads(k2("status", "--json").stdout)["missing"] == 0
    shown = k2("completeness", "--symbol", "BTCUSDT", columns=80)
    assert "accepted" in shown.stdout
    assert "3 stored of 3 expected, 0 missing, 7 accepted as missing; " in shown.stderr
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    heat = k2("completeness", "--symbol", "BTCUSDT", "--heat")
    assert "100.00 %" in heat.stdout


def test_completeness(stored: None, k2: K2) -> None:
    """One row for each symbol and day, with the documented fields; a table for people that fits; the sum on stderr."""
    result = k2("completeness", "--json")
    where, other = ({"exchange": "binance", "symbol": symbol} for symbol in ("BTCUSDT", "ETHUSDT"))
    calm = {"not_numbered": 0, "conflicts": 0, "sessions": 1, "numbering_in_doubt": False, "symbol_in_doubt": False}
    calm |= {"accepted": 0}
    none = {**calm, "sessions": 0}
    assert json.loads(result.stdout) == [
        {**where, "day": "2024-08-09", "expected": 4, "stored": 1, "missing": 3, "percent": 25.0, **calm},
        {**where, "day": "2024-08-10", "expected": 6, "stored": 2, "missing": 4, "percent": 33.3333, **none},
        {**other, "day": "2024-08-09", "expected": 1, "stored": 1, "missing": 0, "percent": 100.0, **calm},
    ]
    shown = k2("completeness", columns=80)
    assert shown.exit_code == 0
    points = {line.index(".") for line in shown.stdout.splitlines() if "." in line}
    assert ("33.3333" in shown.stdout, "100.0000" in shown.stdout, len(points)) == (True, True, 1)
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    assert "4 stored of 11 expected, 7 missing; 1 of 3 rows complete; of 2 symbols\n" in shown.stderr


@pytest.fixture
def with_unnumbered(settings: Settings, stored: None) -> None:
    """Add a symbol of a venue whose numbers have holes, and a trade without a number to another symbol."""
    rows = [numbered(number, 22 + number, 0, exchange="bybit") for number in range(4)]
    append(made(settings, TableName.TRADES), [*rows, numbered(None, 22, 0, symbol="ETHUSDT")])


def test_what_is_not_numbered_is_not_complete(with_unnumbered: None, k2: K2) -> None:
    """Its rows are null in JSON and say so in the table, and the sum is of the numbered symbols."""
    rows = json.loads(k2("completeness", "--json").stdout)
    names = ("stored", "expected", "missing", "percent", "not_numbered")
    assert [[row[name] for name in names] for row in rows if row["symbol"] == "ETHUSDT"] == [[2, 1, 0, 100.0, 1]]
    assert [[row[name] for name in names] for row in rows if row["exchange"] == "bybit"] == [
        [2, None, None, None, 2]
    ] * 2
    shown = k2("completeness", columns=80)
    lines = shown.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[:2] for line in lines if "not numbered" in line] == [["bybit", "BTCUSDT"]] * 2
    assert (
        "4 stored of 11 expected, 7 missing; 1 of 3 rows complete; of 3 symbols, 1 not numbered "
        "(5 trades without gapless numbers)\n"
    ) in shown.stderr
    only = k2("completeness", "--exchange", "bybit")
    assert "4 stored, and it is unknown how many are missing; of 1 symbol, 1 not numbered (4 trades" in only.stderr
    assert "100" not in only.stdout


def test_what_is_not_numbered_in_a_file(with_unnumbered: None, k2: K2, tmp_path: Path) -> None:
    """Unknown counts are null, and the columns are integers."""
    path = tmp_path / "completeness.parquet"
    assert k2("completeness", "--exchange", "bybit", "--output", str(path)).exit_code == 0
    table = pq.read_table(path)
    assert [str(table.schema.field(name).type) for name in ("expected", "missing", "percent")] == [
        "int64",
        "int64",
        "double",
    ]
    assert {(row["stored"], row["expected"], row["missing"]) for row in table.to_pylist()} == {(2, None, None)}


def test_the_strip_of_what_is_not_numbered(with_unnumbered: None, k2: K2) -> None:
    """It has a mark of its own instead of a percentage, in the legend only if it occurs."""
    shown = k2("completeness", "--heat", columns=80)
    lines = shown.stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("bybit BTCUSDT")]
    assert line == "bybit BTCUSDT   " + "·" * 22 + "░░ ░░" + "·" * 22 + " not numbered"
    assert [line.split()[-2:] for line in lines if "ETHUSDT" in line] == [["100.00", "%"]]
    assert all(cell_len(line) <= 80 for line in lines)
    assert "░ not numbered" in shown.stdout
    assert "not numbered" not in k2("completeness", "--heat", "--exchange", "binance").stdout
    hours = json.loads(k2("completeness", "--heat", "--exchange", "bybit", "--json").stdout)
    assert {(hour["stored"], hour["expected"], hour["missing"], hour["not_numbered"]) for hour in hours} == {
        (1, None, None, 1)
    }


def test_a_numbering_in_doubt_is_marked(doubtful: None, k2: K2) -> None:
    """The rows are marked, and a sentence below the sum names the symbols, the meaning, and where to look."""
    rows = json.loads(k2("completeness", "--json").stdout)
    found = [(one["symbol"], one["conflicts"], one["sessions"], one["numbering_in_doubt"]) for one in rows]
    assert found == [
        ("BTCUSDT", 0, 2, True),
        ("BTCUSDT", 0, 0, False),
        ("ETHUSDT", 0, 1, False),
        ("XRPUSDT", 1, 0, True),
    ]
    assert [one["symbol_in_doubt"] for one in rows] == [True, True, False, True]
    shown = k2("completeness", columns=80)
    assert shown.exit_code == 0
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    marked = [line.split()[1] for line in shown.stdout.splitlines() if line.rstrip().endswith("?")]
    assert marked == ["BTCUSDT", "XRPUSDT"]
    assert "7 missing; 1 of 4 rows complete, 2 in doubt (?)" in shown.stderr
    (sentence,) = [line for line in shown.stderr.splitlines() if "numbering" in line]
    assert sentence.startswith(
        "the numbering of 2 symbols is in doubt: binance BTCUSDT (0 conflicts, 2 sessions in 2 days with trades); "
        "binance XRPUSDT (1 conflict, 0 sessions in 1 day with trades). "
    )
    assert sentence.endswith("look at k2 dlq list --reason conflict and k2 gaps --all")


def test_complete_but_in_doubt_does_not_read_as_complete(doubtful: None, k2: K2) -> None:
    """No number is missing, and the sum and the strip still say that the numbering is in doubt."""
    shown = k2("completeness", "--symbol", "XRPUSDT")
    assert "0 missing; 0 of 1 rows complete, 1 in doubt (?)" in shown.stderr
    strip = k2("completeness", "--heat", columns=80)
    lines = strip.stdout.splitlines()
    ends = {line.split()[1]: line.rstrip()[-1] for line in lines if line.startswith("binance ")}
    assert ends == {"BTCUSDT": "?", "ETHUSDT": "%", "XRPUSDT": "?"}
    assert all(cell_len(line) <= 80 for line in lines if "%" in line)
    assert (lines[-1].startswith("? numbering in doubt"), "2 symbols is in doubt" in strip.stderr) == (True, True)


def test_many_symbols_in_doubt_are_counted(settings: Settings, k2: K2) -> None:
    """Some are named; the others are a count."""
    trades = made(settings, TableName.TRADES)
    append(trades, [numbered(1, 1, symbol=f"S{number}") for number in range(8)])
    set_progress(trades, progress(offset=100))
    write_letters(settings, [conflict(number, EPOCH, symbol=f"S{number}") for number in range(8)])
    shown = k2("completeness")
    assert ("of 8 symbols is in doubt" in shown.stderr, "binance S4 " in shown.stderr) == (True, True)
    assert ("binance S5 " in shown.stderr, "; and 3 more. Trades" in shown.stderr) == (False, True)


def test_the_worst_symbols(with_unnumbered: None, k2: K2) -> None:
    """Those with the most missing numbers, each with all of its days or hours; the sum is of all symbols."""
    days = json.loads(k2("completeness", "--json").stdout)
    everything = k2("completeness").stderr
    worst = k2("completeness", "--worst", "1", "--json")
    assert json.loads(worst.stdout) == [
        day for day in days if day["exchange"] == "binance" and day["symbol"] == "BTCUSDT"
    ]
    assert worst.stderr == everything + "the worst 1 of 3 symbols are listed; --worst 3 lists all\n"
    assert "bybit" not in k2("completeness", "--worst", "2").stdout
    hours = json.loads(k2("completeness", "--worst", "1", "--heat", "--json").stdout)
    assert {(hour["exchange"], hour["symbol"]) for hour in hours} == {("binance", "BTCUSDT")}
    assert json.loads(k2("completeness", "--worst", "9", "--json").stdout) == days
    assert k2("completeness", "--worst", "0").exit_code == 2


def test_doubts_of_symbols_that_are_not_listed_are_counted(doubtful: None, k2: K2) -> None:
    """The sentence is about all symbols, and names those listed."""
    assert "the numbering of 2 symbols is in doubt: binance BTCUSDT (0 conflicts, 2 sessions in 2 days" in (
        worst := k2("completeness", "--worst", "1").stderr
    )
    assert "; and 1 more. Trades" in worst


def test_filters_select(stored: None, k2: K2) -> None:
    """By name and time; a date means the start of the day."""
    assert len(json.loads(k2("completeness", "--symbol", "BTCUSDT", "--json").stdout)) == 2
    (day,) = json.loads(k2("completeness", "--symbol", "BTCUSDT", "--start", "2024-08-10", "--json").stdout)
    assert (day["stored"], day["missing"]) == (2, 4)
    until = ("--end", "2024-08-09T22:00:00Z")
    assert [one["expected"] for one in json.loads(k2("completeness", *until, "--json").stdout)] == [2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exchange", "binanc"], "no trade of 'binanc' was ever stored; did you mean binance?\n"),
        (["--symbol", "ethusdt"], "no trade of 'ethusdt' was ever stored; did you mean ETHUSDT"),
        (["--symbol", "X", "--exchange", "Y"], "no trade of 'Y' and 'X' was ever stored"),
        (["--symbol", "ETHUSDT", "--start", "2025-01-01"], "no trade is in that time range"),
        (["--as-of", "2020-01-01"], "no trade was in the table by then"),
    ],
)
def test_the_reason_for_an_empty_result_is_reported(stored: None, k2: K2, arguments: list[str], says: str) -> None:
    """A wrong name or time: no rows, exit code 0, and the reason on stderr."""
    result = k2("completeness", *arguments, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert says in result.stderr


@pytest.mark.parametrize("end", ["2024-08-09 22:00:00", "2024-08-09 22:00", "2024-08-09T22:00", "2024-08-09T22:00:00"])
def test_times_that_a_report_printed_are_accepted(stored: None, k2: K2, end: str) -> None:
    """With a space, without a zone, without seconds: copied from another table."""
    result = k2("completeness", "--symbol", "BTCUSDT", "--end", end, "--json")
    assert [one["expected"] for one in json.loads(result.stdout)] == [2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--start", "yesterday"], "--start 'yesterday': not a time"),
        (["--end", "2024-13-01"], "--end '2024-13-01': not a time"),
        (["--as-of", ""], "--as-of '': not a time"),
        (["--start", "2024-08-10", "--end", "2024-08-10"], "is not before --end"),
    ],
)
def test_invalid_times_are_usage_errors(stored: None, k2: K2, arguments: list[str], says: str) -> None:
    """Exit code 2, and the error names the option."""
    result = k2("completeness", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_the_strip(stored: None, k2: K2) -> None:
    """One line for each symbol, a mark an hour, within the terminal, readable without colour; as JSON a row an hour."""
    shown = k2("completeness", "--heat", columns=80)
    lines = shown.stdout.splitlines()
    assert "2024-08-09" in lines[0]
    assert "2024-08-10" in lines[0]
    assert lines[2].startswith("binance BTCUSDT " + "·" * 20 + "█xxx")
    assert lines[2].split()[-2:] == ["30.00", "%"]
    assert lines[3].split()[-2:] == ["100.00", "%"]
    assert all(len(line) <= 80 for line in lines)
    narrow = k2("completeness", "--heat", columns=50).stdout.splitlines()
    assert ["2024-08-09" in narrow[0], "2024-08-10" in narrow[0], "2024-08-10" in narrow[5]] == [True, False, True]
    hours = json.loads(k2("completeness", "--heat", "--symbol", "BTCUSDT", "--json").stdout)
    assert sum(one["expected"] for one in hours) == 10
    where = {"exchange": "binance", "symbol": "BTCUSDT", "hour": "2024-08-09T20:00:00Z"}
    assert hours[0] == {**where, "expected": 1, "stored": 1, "missing": 0, "not_numbered": 0, "accepted": 0}


@pytest.mark.parametrize("columns", [50, 60, 80, 200])
def test_contracts_with_a_common_prefix_are_distinguishable(settings: Settings, k2: K2, columns: int) -> None:
    """A long name keeps its beginning and end next to a complete strip, also in a narrow terminal."""
    names = ["BTCUSDT_240927-C", "BTCUSDT_241227-C", "日本" * 100]
    rows = [numbered(1, 20, exchange="binance-futures", symbol=name) for name in names]
    append(made(settings, TableName.TRADES), rows)
    lines = k2("completeness", "--heat", columns=columns).stdout.splitlines()[2:5]
    assert [len({line[:place] for line in lines}) for place in (7, 32)] == [1, 3]
    assert all(line.endswith("█··· 100.00 %") and cell_len(line) <= columns for line in lines)


def test_a_strip_that_leaves_older_days_out_says_so(settings: Settings, k2: K2) -> None:
    """Without a first day it shows the newest ones, and the sum below it covers all."""
    append(made(settings, TableName.TRADES), [numbered(1, 0), numbered(16, 24 * 7)])
    shown = k2("completeness", "--heat")
    assert ("2024-08-09" in shown.stdout, "the newest 7 of 8 days" in shown.stderr) == (False, True)
    shown = k2("completeness", "--heat", "--start", "2024-08-09")
    assert ("2024-08-09" in shown.stdout, "the newest" in shown.stderr) == (True, False)


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_strip_marks_where_days_are_left_out(settings: Settings, k2: K2, columns: int) -> None:
    """A cut precedes each day that does not follow the one before it, also at the start of a line of days."""
    rows = [numbered(1, 0), numbered(2, 24), numbered(3, 24 * 4), numbered(4, 24 * 5)]
    append(made(settings, TableName.TRADES), rows)
    lines = k2("completeness", "--heat", columns=columns).stdout.splitlines()
    dates = [word.strip() for line in lines if "2024-" in line for word in re.findall(r"[ ┊]2024-\d\d-\d\d", line)]
    assert dates == ["2024-08-09", "2024-08-10", "┊2024-08-13", "2024-08-14"]
    marks = "".join(line.removeprefix("binance BTCUSDT") for line in lines if line.startswith("binance"))
    assert re.findall(r"[ ┊]█", marks) == [" █", " █", "┊█", " █"]
    assert "┊ days without trades left out" in " ".join(" ".join(lines).split())
    assert "left out" not in k2("completeness", "--heat", "--end", "2024-08-11").stdout


def test_the_strip_of_an_empty_table(settings: Settings, k2: K2) -> None:
    """An empty table has no strip, and the reason is reported."""
    made(settings, TableName.TRADES)
    result = k2("completeness", "--heat")
    assert (result.exit_code, result.stdout.strip()) == (0, "")
    assert "nothing is stored yet" in result.stderr


@pytest.mark.parametrize(
    ("stored_of", "block"),
    [((1000, 1000), "█"), ((999, 1000), "▆"), ((90, 100), "▄"), ((89, 100), "▂"), ((1, 100), "▁"), ((0, 9), "x")],
)
def test_only_complete_hours_are_marked_complete(stored_of: tuple[int, int], block: str) -> None:
    """Each mark stands for a minimum share of stored numbers."""
    there, expected = stored_of
    hour = Hour("x", "S", datetime(2024, 8, 9, tzinfo=UTC), expected, there, expected - there, 0)
    assert mark_of(hour).block == block
    # Rows without a gapless number are no share of what is expected.
    assert mark_of(replace(hour, stored=there + 7, not_numbered=7)) is mark_of(hour)
    assert mark_of(replace(hour, expected=None, missing=None)) is UNKNOWN
    assert mark_of(None) is NOTHING


def test_marks_are_distinguishable_without_colour() -> None:
    """As blocks and as letters."""
    marks = [*MARKS, NONE, UNKNOWN, NOTHING, CUT]
    assert len({mark.block for mark in marks}) == len({mark.ascii_char for mark in marks}) == len(marks)
    assert all(mark.ascii_char.isascii() for mark in marks)

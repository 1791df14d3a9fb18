"""`k2 symbols`, `trades`, `latest`, `ohlcv`, `vwap`, `twap` and `sql`: tables, JSON, files and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import append, made, trade

K2 = Callable[..., Result]
COMMANDS = ["symbols", "trades", "latest", "ohlcv", "vwap", "twap"]


@pytest.fixture
def filled(settings: Settings) -> Settings:
    """Store 150 trades of one symbol and one of another, in two commits."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(offset) for offset in range(150)])
    append(table, [trade(150, "kraken", "日本[red]")])
    return settings


def test_results_for_programs(filled: Settings, k2: K2) -> None:
    """One complete array on stdout, and nothing else there."""
    assert json.loads(k2("symbols", "--json").stdout) == [
        {"exchange": "binance", "symbol": "BTCUSDT", "trades": 150},
        {"exchange": "kraken", "symbol": "日本[red]", "trades": 1},
    ]
    assert len(json.loads(k2("trades", "--json").stdout)) == 151
    (bar,) = json.loads(k2("ohlcv", "--json", "--exchange", "binance", "--interval", "1h").stdout)
    assert (bar["start"], bar["open"], bar["volume"]) == (
        "2024-08-09T00:00:00Z",
        "2.500000000000000000",
        "300.000000000000000000",
    )
    (row,) = json.loads(k2("sql", "--json", "SELECT count(*) AS n FROM trades").stdout)
    assert row == {"n": 151}


def test_tables_for_people(filled: Settings, k2: K2) -> None:
    """They fit a terminal, show data literally, and say if there is more."""
    shown = k2("trades", columns=110)
    assert "2024-08-09 00:01:39" in shown.stdout
    assert shown.stdout.count("BTCUSDT") == 100
    assert "the first 100 rows are shown, and there are more" in shown.stderr
    assert all(len(line) <= 110 for line in shown.stdout.splitlines())
    assert k2("trades", "--limit", "120", columns=110).stdout.count("BTCUSDT") == 120
    assert "1234567" in k2("sql", "SELECT 1234567 AS snapshot_id", columns=110).stdout
    latest = k2("latest", columns=110)
    assert "日本[red]" in latest.stdout
    assert "more" not in latest.stderr


@pytest.mark.parametrize("value", ["12345678901234567890.123456789012345678", "-9999999999999999999999999999999999999"])
def test_a_table_has_all_digits_of_a_decimal(filled: Settings, k2: K2, value: str) -> None:
    """Also of one with 38 digits."""
    scale = len(value.partition(".")[2])
    assert value in k2("sql", f"SELECT '{value}'::DECIMAL(38, {scale}) AS price").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--symbol", "btcusdt"], "no trade of 'btcusdt' was ever stored; did you mean BTCUSDT?\n"),
        (["--exchange", "crakn"], "no trade of 'crakn' was ever stored; did you mean kraken?\n"),
        (
            ["--exchange", "binan", "--symbol", "BTC"],
            "no trade of 'binan' and 'BTC' was ever stored; did you mean binance for 'binan' and BTCUSDT for 'BTC'?\n",
        ),
        (["--symbol", "quite other"], "no trade of 'quite other' was ever stored\n"),
        (["--symbol", "BTCUSDT", "--start", "2030-01-01"], ""),
        (["--start", "2030-01-01"], ""),
    ],
)
def test_an_unknown_name_is_reported_with_the_closest(
    filled: Settings, k2: K2, arguments: list[str], says: str
) -> None:
    """The result is empty and the exit code 0; a known name without trades in the time range is not reported."""
    for command in COMMANDS:
        result = k2(command, *arguments, "--json")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "[]\n", says)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "json", "PARQUET"])
def test_a_file(filled: Settings, k2: K2, tmp_path: Path, suffix: str) -> None:
    """It is complete, has all rows, and stdout is empty."""
    path = tmp_path / f"out.{suffix}"
    path.write_text("before")
    result = k2("trades", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"151 rows in {path}" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == [path.name]
    if suffix == "parquet":
        assert pq.read_table(path).num_rows == 151


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["trades", "--start", "yesterday"], "start: invalid time: 'yesterday'"),
        (["trades", "--start", "2024-08-10", "--end", "2024-08-09"], "start is not before end"),
        (["ohlcv", "--interval", "1 hour"], "invalid interval: '1 hour'"),
        (["symbols", "--as-of", "17"], "has no snapshot 17"),
        (["trades", "--output", "out.txt"], "must end with one of .json, .csv, .parquet, .arrow"),
        (["trades", "--output", "nowhere/out.csv"], "No such file or directory"),
        (["trades", "--limit", "0"], "Invalid value for '--limit'"),
        (["trades", "--exchange", ""], "is empty"),
        (["sql", "COPY trades TO 'x'"], "only SELECT is allowed"),
        (["sql", "SELECT * FROM read_csv('/etc/passwd')"], "read_csv() is not allowed"),
        (["sql", "SELECT 1", "--as-of", "never"], "as_of: invalid time: 'never'"),
        (["sql", "SELECT 'infinity'::TIMESTAMP AS t"], "cannot represent a value"),
    ],
)
def test_usage_errors(filled: Settings, k2: K2, arguments: list[str], why: str) -> None:
    """One sentence that names what is wrong, and exit code 2."""
    result = k2(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_table_is_not_an_empty_result(settings: Settings, k2: K2, command: str) -> None:
    """If the job has never run, the error says so."""
    result = k2(command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no catalog in it" in result.stderr


def test_a_query_that_takes_too_long_is_stopped(filled: Settings, k2: K2, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting."""
    monkeypatch.setenv("K2_QUERY_TIMEOUT_SECONDS", "0.3")
    result = k2("sql", "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7")
    assert result.exit_code == 2
    assert "K2_QUERY_TIMEOUT_SECONDS" in result.stderr


def test_a_failed_write_keeps_the_former_file(filled: Settings, k2: K2, tmp_path: Path) -> None:
    """A result that breaks off replaces nothing."""
    path = tmp_path / "out.csv"
    path.write_text("before")
    result = k2("sql", "SELECT [1] AS list", "--output", str(path))
    assert result.exit_code == 2
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["out.csv"]
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    "arguments", [["--json"], ["--output", "{folder}/out.csv"], ["--output", "{folder}/out.parquet"]]
)
def test_a_failed_cast_during_the_result_is_one_sentence(
    filled: Settings, k2: K2, tmp_path: Path, arguments: list[str]
) -> None:
    """Rows may be printed by then: still one sentence, exit code 2, and no file."""
    sql = "SELECT CAST(CASE WHEN range < 500000 THEN '1' ELSE 'x' END AS INTEGER) AS n FROM range(1000000)"
    result = k2("sql", sql, *(text.format(folder=tmp_path) for text in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith("k2: SQL: Conversion Error: Could not convert string 'x' to INT32")
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith("out")]


@pytest.mark.parametrize("suffix", [None, "json", "csv", "parquet", "arrow"])
def test_duplicate_column_names_are_rejected(filled: Settings, k2: K2, tmp_path: Path, suffix: str | None) -> None:
    """No output format can represent them, and each says so before a byte is written."""
    path = tmp_path / f"out.{suffix}"
    result = k2("sql", "SELECT 1 AS a, 2 AS a", *(["--json"] if suffix is None else ["--output", str(path)]))
    assert (result.exit_code, result.stdout, path.exists()) == (2, "", False)
    assert "two columns have the name 'a'" in result.stderr

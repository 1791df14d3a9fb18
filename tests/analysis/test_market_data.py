"""`k2.open()`: its settings, its methods, and what a clumsy user gets."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import k2
from k2.analysis.market_data import ClosedError
from k2.cli.console import to_json
from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.query.engine import QueryError, QueryTimeoutError
from k2.query.query_builders import latency
from k2.query.tables import NoTableError
from tests.query.tables import EPOCH, append, event, made, numbered, progress, set_progress, trade

ROOT = Path(__file__).parents[2]
BTC = {"exchange": "binance", "symbol": "BTCUSDT"}


def test_import_is_cheap() -> None:
    """`import k2` imports none of the libraries, and `k2.open` is there."""
    code = "import sys, k2; k2.open; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"duckdb", "matplotlib", "numba", "numpy", "pandas", "polars", "pyarrow", "pydantic", "pyiceberg"}
    assert not heavy & {*done.stdout.split()}


def test_public_names() -> None:
    """Each name of `__all__` exists, and another one is an ordinary error."""
    assert all(getattr(k2, name) for name in k2.__all__)
    with pytest.raises(AttributeError, match="nope"):
        _ = k2.nope


def test_settings_are_arguments_or_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument outranks its variable; what is not given is a variable's, or the default."""
    monkeypatch.setenv("K2_NAMESPACE", "other")
    monkeypatch.setenv("K2_QUERY_TIMEOUT_SECONDS", "7")
    with k2.open(data_dir=str(tmp_path), namespace="mine") as market:
        settings = market.settings
    assert (settings.data_dir, settings.namespace, settings.catalog) == (tmp_path, "mine", "k2")
    assert settings.query_timeout_seconds == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"namespace": "a b"}, "^namespace='a b': invalid namespace"),
        ({"query_memory_limit": "much"}, "^query_memory_limit='much': "),
        ({"query_connections": 0}, "^query_connections=0: "),
    ],
)
def test_an_invalid_setting_is_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    """The message has the argument's name."""
    with pytest.raises(SettingsError, match=message):
        k2.open(data_dir=tmp_path, **arguments)


def test_a_folder_without_tables(tmp_path: Path) -> None:
    """The first query says so in one sentence, and nothing is created."""
    with k2.open(data_dir=tmp_path / "none") as market, pytest.raises(NoTableError, match="there is no catalog in it"):
        market.trades().to_arrow()
    assert not (tmp_path / "none").exists()


def test_closed_market_data(recorded: Settings) -> None:
    """A query after `close` says how to open it again; closing twice is harmless."""
    market = k2.open(data_dir=recorded.data_dir)
    result = market.symbols()
    market.close()
    market.close()
    assert "closed" in repr(market)
    with pytest.raises(ClosedError, match=r"k2\.open"):
        result.to_arrow()
    with pytest.raises(ClosedError):
        market.plot.gaps()


def test_an_unused_result_keeps_market_data_open(recorded: Settings) -> None:
    """A chain of calls works, although nothing else holds the market data."""
    assert k2.open(data_dir=recorded.data_dir).symbols(limit=1).to_arrow().num_rows == 1


def test_queries(market: k2.MarketData) -> None:
    """Each method is the query of the command of that name, with its filters."""
    assert market.symbols().to_arrow().num_rows == 25
    (row,) = market.symbols(**BTC).to_pylist()
    assert row == {**BTC, "trades": 9757}
    assert [row["symbol"] for row in market.latest(exchange="okx").to_pylist()] == [
        "BTC-USD-220527",
        "BTC-USDT",
        "UNI-USD-SWAP",
    ]
    assert market.trades(symbol="SKL-USD", limit=5).to_arrow().num_rows == 5
    bars = market.ohlcv(**BTC, interval="1m").to_pylist()
    assert sum(bar["trades"] for bar in bars) == 9757
    assert bars == market.ohlcv(**BTC, interval=timedelta(minutes=1)).to_pylist()
    assert market.vwap(**BTC).to_pylist()[0]["trades"] == 9757
    assert market.twap(**BTC, interval="1m").to_arrow().num_rows == len(bars)


def test_times_in_every_form(market: k2.MarketData) -> None:
    """Texts, days and datetimes select the same; `start` is inclusive and `end` exclusive."""
    day = market.trades(**BTC, start="2024-08-08", end="2024-08-09").to_arrow()
    same = market.trades(**BTC, start=datetime(2024, 8, 8, tzinfo=UTC), end="2024-08-09T00:00:00+00:00").to_arrow()
    assert day.equals(same)
    assert 0 < day.num_rows < 9757


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": "yesterday"}, "^start: invalid time: 'yesterday'"),
        ({"start": date(2024, 8, 8)}, "^start: invalid time: .*time zone"),
        ({"start": datetime(2024, 8, 8)}, "^start: .*time zone"),  # noqa: DTZ001
        ({"start": "2024-08-09", "end": "2024-08-08"}, "start is not before end"),
        ({"symbol": ""}, "^symbol: "),
        ({"symbol": 7}, "^symbol: "),
        ({"limit": 0}, "^limit: "),
        ({"as_of": "now"}, "^as_of: "),
        ({"as_of": 12345}, "no snapshot 12345"),
    ],
)
def test_an_invalid_argument_is_named(market: k2.MarketData, fields: dict[str, Any], message: str) -> None:
    """The error is a `QueryError`, which is a `ValueError` and a `K2Error`."""
    with pytest.raises(QueryError, match=message) as caught:
        market.trades(**fields).to_arrow()
    assert isinstance(caught.value, k2.K2Error)


def test_sql_with_parameters(market: k2.MarketData) -> None:
    """Values go by name or by position, and are never part of the statement."""
    by_name = market.sql("SELECT count(*) AS n FROM trades WHERE symbol = $symbol", {"symbol": "BTCUSDT"})
    assert by_name.to_pylist() == [{"n": 9757}]
    by_position = market.sql("SELECT count(*) AS n FROM trades WHERE symbol = ? AND price > ?", ["BTCUSDT", 1])
    assert by_position.to_pylist() == [{"n": 9757}]
    hostile = market.sql("SELECT count(*) AS n FROM trades WHERE symbol = ?", ["' OR '1'='1"])
    assert hostile.to_pylist() == [{"n": 0}]
    many = market.sql("SELECT count(*) AS n FROM trades WHERE symbol IN $symbols", {"symbols": ["BTCUSDT", "SKL-USD"]})
    assert many.to_pylist() == [{"n": 9810}]


@pytest.mark.parametrize(
    ("query", "parameters", "message"),
    [
        ("SELECT count(*) FROM trades WHERE symbol = $symbol", None, "parameters: symbol"),
        ("SELECT count(*) FROM trades", {"symbol": "x"}, "excess parameters: symbol"),
        ("SELECT count(*) FROM trades WHERE symbol = ?", [object()], "Unable to transform"),
        ("SELECT * FROM '/etc/passwd'", None, "unknown table"),
        ("DROP TABLE trades", None, "only SELECT is allowed"),
    ],
)
def test_a_refused_statement(market: k2.MarketData, query: str, parameters: Any, message: str) -> None:
    """A parameter that lacks a value or is not used, and a statement of the sandbox's kind, are refused."""
    with pytest.raises(QueryError, match=message):
        market.sql(query, parameters).to_arrow()


def test_the_time_limit(recorded: Settings) -> None:
    """A query that takes longer is stopped, also while its batches are read."""
    with k2.open(data_dir=recorded.data_dir, query_timeout_seconds=0.2) as market:
        slow = market.sql("SELECT sum(a.price::DOUBLE * b.price::DOUBLE) FROM trades a, trades b, range(100)")
        with pytest.raises(QueryTimeoutError, match=r"longer than 0\.2 s"):
            slow.to_arrow()
        with pytest.raises(QueryTimeoutError), slow.batches() as batches:
            batches.read_all()


@pytest.fixture
def faulty(tmp_path: Path) -> Settings:
    """Return the settings of tables with a gap that is open, one that was filled, and progress that does not hold."""
    settings = Settings(data_dir=tmp_path)
    trades = made(settings, TableName.TRADES)
    append(trades, [numbered(1, 1), numbered(9, 4), numbered(1, 2, symbol="ETHUSDT")])
    set_progress(trades, progress(offset=10, received=10, stored=9, duplicates=1))
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    append(ledger, [event("gap_opened", 2, 8, session=1), event("gap_opened", 20, 21, symbol="ETHUSDT")])
    append(ledger, [event("gap_filled", 20, 21, symbol="ETHUSDT", detected_at=EPOCH + timedelta(minutes=1))])
    return settings


def test_reports(faulty: Settings) -> None:
    """Gaps, completeness and reconciliation are those of the commands."""
    with k2.open(data_dir=faulty.data_dir) as market:
        assert [(row["symbol"], row["missing"]) for row in market.gaps().to_pylist()] == [("BTCUSDT", 7)]
        both = market.gaps(which="all", limit=1).to_pylist()
        assert [row["symbol"] for row in both] == ["BTCUSDT"]
        (filled,) = market.gaps(which="filled").to_pylist()
        assert filled["open_seconds"] == 60
        days = market.completeness().to_pylist()
        assert [(row["symbol"], row["expected"], row["stored"]) for row in days] == [
            ("BTCUSDT", 9, 2),
            ("ETHUSDT", 1, 1),
        ]
        hours = market.completeness(by="hour", symbol="BTCUSDT").to_pylist()
        assert sum(row["missing"] for row in hours) == 7
        assert [row["symbol"] for row in market.completeness(worst=1).to_pylist()] == ["BTCUSDT"]
        (row,) = market.reconcile().to_pylist()
        assert (row["received"], row["stored"], row["holds"]) == (10, 3, False)


def test_an_invalid_choice_is_named(market: k2.MarketData) -> None:
    """A kind of gap or a span that does not exist is refused with those that do."""
    with pytest.raises(QueryError, match=r"which: 'closed' .*open, filled, accepted, all"):
        market.gaps(which="closed")  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="by: 'week' is neither"):
        market.completeness(by="week")  # type: ignore[arg-type]


def test_as_of(tmp_path: Path) -> None:
    """A snapshot's id and a time before it see what was in the table then."""
    settings = Settings(data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    append(table, [trade(1)])
    first = table.refresh().current_snapshot()
    assert first is not None
    append(table, [trade(2)])
    with k2.open(data_dir=tmp_path) as market:
        for as_of in (first.snapshot_id, str(first.snapshot_id)):
            assert market.trades(as_of=as_of).to_arrow().num_rows == 1
            assert market.sql("SELECT * FROM trades", as_of=as_of).to_arrow().num_rows == 1
        assert market.trades().to_arrow().num_rows == 2
        assert market.trades(as_of="2000-01-01").to_arrow().num_rows == 0


def test_a_result_sees_new_commits(tmp_path: Path) -> None:
    """Each conversion runs the query again."""
    settings = Settings(data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    append(table, [trade(1)])
    with k2.open(data_dir=tmp_path) as market:
        result = market.trades()
        assert result.to_arrow().num_rows == 1
        append(table, [trade(2)])
        assert result.to_arrow().num_rows == 2


def test_latency(tmp_path: Path) -> None:
    """Median and 99th percentile in milliseconds of what has a time, by exchange and interval; negative if ahead."""
    settings = Settings(data_dir=tmp_path)
    later = [timedelta(milliseconds=ms) for ms in (1, 2, 3, 4, 100)]
    rows = [
        trade(n, "a", timestamp=EPOCH, received=EPOCH + delay, kafka_timestamp=EPOCH + 2 * delay)
        for n, delay in enumerate(later)
    ]
    rows.append(trade(9, "b", timestamp=EPOCH, received=None, kafka_timestamp=EPOCH - timedelta(microseconds=500)))
    append(made(settings, TableName.TRADES), rows)
    with k2.open(data_dir=tmp_path) as market:
        a, b = market.latency(interval="1h").to_pylist()
    assert (a["exchange"], a["trades"], a["received_ms_p50"], a["kafka_ms_p50"]) == ("a", 5, 3, 6)
    assert a["received_ms_p99"] == pytest.approx(96.16)
    assert (b["received_ms_p50"], b["kafka_ms_p50"]) == (None, -0.5)
    assert latency(interval="1h").sql == latency().sql


def test_status_has_the_words_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document of `k2 status --json`, but for its time; a folder without tables is a verdict as well."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    options = Settings(data_dir=tmp_path)
    with k2.open() as market:
        assert (market.status().verdict, market.status().reasons[0].cause) == ("unknown", "nothing_stored")
    table = made(options, TableName.TRADES)
    append(table, [trade(0), trade(1)])
    append(made(options, TableName.SEQUENCE_EVENTS), [event("gap_opened", 2, 3)])
    set_progress(table, progress(offset=2, received=2, stored=2))
    with k2.open() as market:
        status = market.status()
    assert (status.verdict, status.stored, status.missing) == ("missing", 2, 2)
    assert capsys.readouterr() == ("", "")
    command = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    document = json.loads(to_json(status))
    assert document.pop("checked_at") < command.pop("checked_at")
    assert document == command
    with pytest.raises(ClosedError):
        market.status()


def test_status_asks_the_broker_that_is_given(tmp_path: Path) -> None:
    """A wrong address is the argument's error; without one, no broker is asked."""
    with pytest.raises(SettingsError, match=r"^bootstrap_servers='a b': invalid broker"):
        k2.open(data_dir=tmp_path, bootstrap_servers="a b")
    with k2.open(data_dir=tmp_path, bootstrap_servers="127.0.0.1:1") as market:
        assert market.status().broker == "127.0.0.1:1"
    with k2.open(data_dir=tmp_path) as market:
        assert market.status().broker is None

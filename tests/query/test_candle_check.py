"""Comparison with candles: each value of each interval, without those at the edges of what is stored."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.candle_check import CandleCheck, check_candles
from k2.query.candle_files import Candle
from k2.query.engine import QueryError
from tests.query.tables import EPOCH, append, made, trade

MINUTE_US = 60_000_000
START_US = int(EPOCH.timestamp()) * 1_000_000
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def stored(settings: Settings) -> Settings:
    """Store trades of five minutes, none in the fourth: three in each, of which the last stands for two numbers."""
    rows = []
    for minute in (0, 1, 2, 4):
        for place, price in enumerate(("2.5", "3.1", "2.75")):
            offset = 10 * minute + place
            values = {"price": Decimal(price) + minute, "quantity": Decimal("0.1"), "sequence": offset + 1}
            values |= {"first_sequence": offset if place == 2 else None}
            rows.append(trade(offset, timestamp=EPOCH + timedelta(minutes=minute, seconds=place), **values))
    append(made(settings, TableName.TRADES), rows)
    return settings


def candle(minute: int, **values: Any) -> Candle:
    """Return the candle of a minute as it is stored."""
    prices = {name: Decimal(price) + minute for name, price in zip(PRICES, ("2.5", "3.1", "2.5", "2.75"), strict=True)}
    return Candle(START_US + minute * MINUTE_US, **{**prices, "volume": Decimal("0.30"), "trades": 4, **values})


PRICES = ("open", "high", "low", "close")
QUIET = {"volume": Decimal(0), "trades": 0}


def check(settings: Settings, *candles: Candle, **options: Any) -> CandleCheck:
    """Compare candles of a minute."""
    return check_candles(settings, "binance", candles, interval=timedelta(minutes=1), **options)


def test_equal_candles_hold(stored: Settings) -> None:
    """Numbers are counted, decimals are compared as numbers, and quiet intervals have no prices."""
    found = check(stored, *(candle(minute) for minute in (0, 1, 2)), candle(3, **QUIET), candle(4), candle(9))
    assert (found.holds, found.compared, found.symbol, found.interval_seconds) == (True, 3, "BTCUSDT", 60)
    assert [time.minute for time in found.left_out] == [0, 4, 9]


def test_each_value_is_compared(stored: Settings) -> None:
    """Exactly; a value that the venue does not give is not."""
    prices = {name: Decimal(1) for name in PRICES}
    for name, value in {"trades": 5, "volume": Decimal("0.300000000000000001"), **prices}.items():
        found = check(stored, candle(1), candle(2, **{name: value}))
        assert [(one.start.minute, one.value, one.venue, one.stored) for one in found.differences] == [
            (2, name, value, getattr(candle(2), name))
        ]
    assert check(stored, candle(1), candle(2, trades=None, volume=None, **dict.fromkeys(PRICES))).holds


def test_intervals_without_a_candle_or_trades_differ(stored: Settings) -> None:
    """Trades in an interval that the venue leaves out, and a candle with trades where none is stored."""
    found = check(stored, candle(1), candle(3))
    assert [(one.start.minute, one.value, one.venue, one.stored) for one in found.differences] == [
        (2, "trades", None, 4),
        (3, "trades", 4, 0),
        (3, "volume", Decimal("0.3"), Decimal(0)),
        *((3, name, getattr(candle(3), name), None) for name in ("high", "low", "open", "close")),
    ]
    assert found.differing == 2


def test_a_day_and_a_symbol_are_selected(stored: Settings) -> None:
    """Without a comparable interval nothing holds; of several symbols one must be named."""
    found = check(stored, candle(1), candle(2), day=(EPOCH + timedelta(days=1)).date())
    assert (found.compared, found.holds) == (0, False)
    append(made(stored, TableName.TRADES), [trade(0, symbol="ETHUSDT")])
    with pytest.raises(QueryError, match="several symbols; name the one"):
        check(stored, candle(1), candle(2))
    assert check(stored, candle(1), candle(2), symbol="BTCUSDT").holds
    with pytest.raises(QueryError, match="no trade of binance X is stored"):
        check(stored, candle(1), symbol="X")
    with pytest.raises(QueryError, match="use --interval"):
        check_candles(stored, "binance", [candle(1)])
    with pytest.raises(QueryError, match="multiples of one interval"):
        check(stored, candle(1), Candle(START_US + 90_000_000, *[None] * 6))


def test_the_command(stored: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences as a table or JSON, exit code 1 if there are any."""
    monkeypatch.setenv("K2_DATA_DIR", str(stored.data_dir))
    path = tmp_path / "candles.csv"
    rows = [f"{START_US + minute * MINUTE_US},{4 + (minute == 2)}" for minute in range(3)]
    path.write_text("\n".join(["time,trades", *rows]), encoding="utf-8")
    command = ["check", "--exchange", "binance", "--against", str(path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "2024-08-09 00:02:00  trades      5       4" in result.stdout
    assert "binance BTCUSDT: 1 of 2 intervals of 60 s differ" in result.stderr
    assert "1 candle at or beyond the first and last stored trade left out" in result.stderr
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [found[name] for name in ("compared", "differing", "holds")] == [2, 1, False]
    path.write_text("\n".join(["time,trades", *rows[:2]]), encoding="utf-8")
    assert CliRunner().invoke(app, command).exit_code == 0
    other_day = CliRunner().invoke(app, [*command, "--day", "2024-08-10", "--interval", "1m"])
    assert (other_day.exit_code, "no interval could be compared" in other_day.stderr) == (1, True)

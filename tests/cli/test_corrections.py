"""`k2 corrections`, and the options of other commands that apply corrections."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.ops.settings import Settings
from tests.flows.stocks import ENVIRONMENT, MIXED, batch_of, cancelled, run, settings_of, traded


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of tables with trades and corrections."""
    found = settings_of(tmp_path_factory.mktemp("stocks"))
    run(found, batch_of([*MIXED, [traded(1, S="MSFT", t="2026-11-28T15:00:00Z"), cancelled(7, S="MSFT")]]))
    return found


def outcome(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    """Run a command on the tables; return exit code, output and standard error."""
    environment = {**ENVIRONMENT, "K2_DATA_DIR": str(settings.data_dir)}
    result = CliRunner().invoke(app, arguments, env=environment)
    return result.exit_code, result.stdout, result.stderr


def listed(settings: Settings, *arguments: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON."""
    code, output, _ = outcome(settings, *arguments, "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(output)
    return found


def test_corrections_are_listed(settings: Settings) -> None:
    """With what they say, and whether their trade is stored; selected by names, times and number."""
    found = listed(settings, "corrections")
    assert [(row["what"], row["trade_id"], row["names_trade"]) for row in found] == [
        ("cancelled", "2026-11-27:D:1", True),
        ("corrected", "2026-11-27:D:2", True),
        ("corrected", "2026-11-27:D:12", True),
        ("cancelled", "2026-11-27:D:99", False),
        ("cancelled", "2026-11-27:D:7", False),
    ]
    assert [row["trade_id"] for row in listed(settings, "corrections", "--symbol", "MSFT")] == ["2026-11-27:D:7"]
    assert [row["trade_id"] for row in listed(settings, "corrections", "--limit", "1")] == ["2026-11-27:D:7"]
    assert listed(settings, "corrections", "--start", "2026-11-28") == []


def test_the_table_says_how_many_name_no_trade(settings: Settings) -> None:
    """On standard error, as other totals; prices are shown without trailing zeros."""
    code, output, error = outcome(settings, "corrections")
    assert code == 0
    assert "not stored" in output
    assert "126.55" in output
    assert "126.550" not in output
    assert "5 corrections, of which 2 name no stored trade" in error


def test_a_file_has_all_columns(settings: Settings, tmp_path: Path) -> None:
    """As of other reports; prices are decimals."""
    file = tmp_path / "corrections.parquet"
    assert outcome(settings, "corrections", "--output", str(file))[0] == 0
    found = pq.read_table(file)
    assert {"old_conditions", "kafka_timestamp", "index"} <= {*found.column_names}
    assert found["new_price"].to_pylist()[1] == Decimal("127.5")


def test_corrected_trades_are_listed(settings: Settings) -> None:
    """Without cancelled ones, with a column that says what is corrected; other filters apply."""
    found = listed(settings, "trades", "--corrected", "--symbol", "AAPL")
    assert {(row["trade_id"], Decimal(row["price"]), row["correction"]) for row in found} == {
        ("2026-11-27:D:13", Decimal("128.25"), "corrected"),
        ("2026-11-27:D:3", Decimal("126.55"), None),
        ("2026-11-27:D:4", Decimal("126.55"), None),
    }
    assert len(listed(settings, "trades", "--symbol", "AAPL")) == 4
    assert "correction" in outcome(settings, "trades", "--corrected")[1]
    assert len(listed(settings, "trades", "--corrected", "--as-of", "2020-01-01")) == 0


def test_other_commands_count_corrections(settings: Settings) -> None:
    """The sum of `k2 reconcile` has them, and the commit log adds up."""
    [row] = listed(settings, "reconcile")
    assert (row["corrections"], row["holds"]) == (5, True)
    assert outcome(settings, "reconcile")[0] == outcome(settings, "audit")[0] == 0
    [counted] = listed(settings, "sql", "SELECT count(*) AS n FROM corrections")
    assert counted == {"n": 5}
    assert "+ corrections 5" in outcome(settings, "status")[1]
    compacted = outcome(settings, "maintain", "compact", "--table", "corrections")
    assert compacted[0] == 0
    assert len(listed(settings, "corrections")) == 5


def test_tables_without_corrections_have_none(tmp_path: Path) -> None:
    """The table is made with the first one; until then reports find nothing, and say nothing is wrong."""
    settings = settings_of(tmp_path)
    run(settings, batch_of([[traded(1)]]))
    assert listed(settings, "corrections") == []
    assert listed(settings, "sql", "SELECT * FROM corrections") == []
    assert [row["correction"] for row in listed(settings, "trades", "--corrected")] == [None]
    assert not (tmp_path / "warehouse" / "market_data" / "corrections").exists()

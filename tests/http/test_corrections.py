"""Corrections over HTTP and from Python: the report, and trades as their venues left them."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

import k2
from k2.ops.settings import Settings
from k2.query.corrections import corrections
from k2.query.output_formats import to_json
from tests.flows.stocks import MIXED, batch_of, run, settings_of
from tests.http.browser import Window, chromium, window
from tests.http.conftest import Client

__all__ = ["chromium", "window"]

Opened = Callable[..., Window]


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of tables with trades and corrections."""
    settings = settings_of(tmp_path_factory.mktemp("stocks"))
    run(settings, batch_of(MIXED))
    return settings


def test_the_report_is_returned(serve_at: Callable[[Settings], Client], stocks: Settings) -> None:
    """With its filters; the newest if there are more than the limit."""
    client, expected = serve_at(stocks), json.loads(to_json(corrections(stocks)))
    assert client.get("/v1/corrections").json == expected
    assert client.get("/v1/corrections", limit="1").json == expected[-1:]
    assert client.get("/v1/corrections", symbol="MSFT").json == []
    assert client.get("/v1/corrections", start="2026-11-28").json == []
    assert client.get("/v1/corrections", which="all").status == 422


def test_corrected_trades_are_returned(serve_at: Callable[[Settings], Client], stocks: Settings) -> None:
    """With the parameter; without it as stored, without the column."""
    client = serve_at(stocks)
    found = client.get("/v1/trades", corrected="true", symbol="AAPL").json
    assert {row["trade_id"]: row["correction"] for row in found} == {
        "2026-11-27:D:13": "corrected",
        "2026-11-27:D:3": None,
        "2026-11-27:D:4": None,
    }
    stored = client.get("/v1/trades").json
    assert len(stored) == 4
    assert all("correction" not in row for row in stored)
    assert client.get("/v1/trades", corrected="yes").status == 422
    assert client.get("/v1/latest", corrected="true").status == 422


def test_the_page_counts_them(serve_at: Callable[[Settings], Client], stocks: Settings, window: Opened) -> None:
    """As a term of the sum, which holds."""
    page = window(serve_at(stocks).port).settled()
    expect(page.locator(".equation")).to_contain_text("= 4 stored")
    expect(page.locator(".equation")).to_contain_text("4 corrections")


def test_python_has_both(stocks: Settings) -> None:
    """As frames and files, like all results."""
    with k2.open(data_dir=stocks.data_dir) as market:
        assert market.corrections().to_arrow()["trade_id"].to_pylist() == [one.trade_id for one in corrections(stocks)]
        assert market.corrections(symbol="MSFT").to_arrow().num_rows == 0
        assert market.trades(corrected=True).to_arrow().num_rows == 3
        assert market.trades().to_arrow().num_rows == 4

"""The page for symbols without gapless numbers: none reads as complete, and the headline is of the others."""

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import expect

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.http.browser import Window, answered, chromium, window
from tests.http.conftest import Client, serving
from tests.http.page_market import LISTED, make_market
from tests.query.tables import append, made, trade

__all__ = ["chromium", "window"]

PICTURES: Final = os.environ.get("K2_TEST_PICTURES")
"""Folder where screenshots are written, if anywhere."""
Opened = Callable[..., Window]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Yield a server for a market with a symbol that is not numbered, and one that is so in part."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("not-numbered") / "data")
    market = make_market(settings, datetime(2024, 8, 9, 16, 42, tzinfo=UTC), LISTED[:3])

    def rows(symbol: str, hours: int) -> list[dict[str, Any]]:
        times = [market.start + timedelta(minutes=1 + 20 * at) for at in range(3 * hours)]
        return [trade(at, symbol=symbol, timestamp=time) for at, time in enumerate(times)]

    append(made(settings, TableName.TRADES), [*rows("ARBUSDT", 20), *rows("ETHUSDT", 1)])
    with serving(settings) as client:
        yield client


def test_what_is_not_numbered_is_shown(served: Client, window: Opened) -> None:
    """Its cells say so without a figure, its line is the last and has no percentage; the headline counts it apart."""
    page = window(served.port, viewport={"width": 1400, "height": 1000}).settled()
    figure = page.locator("#completeness .figure")
    totals = served.get("/v1/completeness/summary", by="hour").json["totals"]
    share = f"{int(totals['percent'] * 100) / 100:.2f} % of 4 symbols, 1 not numbered"
    assert totals["percent"] < 100
    expect(figure).to_have_text(share)
    last = page.locator("#heat tbody tr").last
    expect(last.locator("th")).to_have_text("ARBUSDT binance")
    expect(last.locator("td").last).to_have_text("not numbered")
    expect(page.get_by_role("gridcell", name=re.compile("ARBUSDT.* UTC: 3 stored, not numbered$"))).to_have_count(20)
    expect(last.locator("td.cell-unknown")).to_have_count(20)
    expect(last.locator("td.cell-full")).to_have_count(0)
    mixed = re.compile("ETHUSDT.* UTC: 120 of 120 stored, complete, and 3 not numbered$")
    expect(page.get_by_role("gridcell", name=mixed)).to_have_count(1)
    with answered(page, "v1/completeness"):
        page.locator("#filter").fill("arb")
    expect(page.locator("#heat tbody tr")).to_have_count(1)
    expect(figure).to_have_text(share)


LINES: Final = """(cell) => {
    const text = document.createRange();
    text.selectNodeContents(cell);
    return text.getClientRects().length;
}"""


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_fits_every_screen(served: Client, window: Opened, scheme: Literal["dark", "light"], width: int) -> None:
    """Nothing overflows the page or the last column."""
    page = window(served.port, viewport={"width": width, "height": 900}, color_scheme=scheme).settled()
    last = page.locator("#heat tbody tr").last.locator("td").last
    expect(last).to_have_text("not numbered")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{width}-{scheme}.png", full_page=True)
    assert last.evaluate("(one) => one.scrollWidth - one.clientWidth") <= 0
    assert last.evaluate(LINES) == 1

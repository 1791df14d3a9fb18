"""The panel of feeds: what each lost, and nothing without feeds."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from k2.ops.settings import Settings
from tests.http.browser import Window, chromium, window
from tests.http.conftest import Client, serving
from tests.query.feed_tables import write_feeds
from tests.query.tables import EPOCH

__all__ = ["chromium", "window"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Yield a server for tables with two feeds."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("feeds") / "data")
    write_feeds(settings)
    settings.dead_letter_folder.mkdir()
    with serving(settings) as client:
        yield client


def test_feeds_are_compared(served: Client, window: Callable[..., Window]) -> None:
    """On the day that is chosen; on a day without trades there is no panel."""
    page = window(served.port, f"#day={EPOCH:%Y-%m-%d}", viewport={"width": 1344, "height": 1000}).settled()
    rows = page.locator("#feeds tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("binance A")
    expect(rows.nth(0).locator("td")).to_have_text(["11", "2", "0", "60 of 100", "0.0 ms, 0.0 ms"])
    expect(rows.nth(1).locator("td")).to_have_text(["6", "1", "0", "0 of 100", "5.2 ms, 1878 ms"])
    expect(page.locator("#feeds .figure")).to_have_text("3 trades that only others have")
    page.evaluate("location.hash = '#day=2020-01-01'")
    expect(page.locator("#feeds")).to_be_hidden()

"""The page if a numbering is in doubt: no headline reads as fine, and the symbols are marked."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.http.browser import Window, answered, chromium, window
from tests.http.conftest import Client, serving
from tests.http.page_market import LISTED, make_market
from tests.query.tables import append, conflict, event, made, write_letters

__all__ = ["chromium", "window"]

Opened = Callable[..., Window]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Yield a server for a market in which one symbol starts a second session, and another has a conflict."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("doubts") / "data")
    town = make_market(settings, datetime(2024, 8, 9, 16, 42, tzinfo=UTC), LISTED[:3])
    times = [town.start + timedelta(hours=one) for one in (1, 2)]
    started = [event("session_started", 1, 1, session=at, timestamp=time) for at, time in enumerate(times, 1)]
    append(made(settings, TableName.SEQUENCE_EVENTS), started)
    write_letters(settings, [*town.letters[:-1], conflict(town.letters[-1].offset, town.end, symbol="SOLUSDT")])
    with serving(settings) as client:
        yield client


def test_a_numbering_in_doubt_is_reported(served: Client, window: Opened) -> None:
    """The sums hold, and the headlines still say so, whatever is filtered; on a day without doubts there is no mark."""
    page = window(served.port, viewport={"width": 1344, "height": 1000}).settled()
    expect(page.get_by_role("heading", name="Accounted for, numbering in doubt")).to_be_visible()
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "doubt")
    expect(page.locator("#doubt")).to_have_text(
        "The numbering of 2 symbols is in doubt from 2024-08-08 to 2024-08-09: binance BTCUSDT, binance SOLUSDT. "
        "Trades may be dead letters or stored twice although no number is missing: "
        "see k2 dlq list --reason conflict and k2 gaps --all."
    )
    figure = page.locator("#completeness .figure")
    overall = re.compile(r"^\d+\.\d\d % of 3 symbols, 2 in doubt$")
    expect(figure).to_have_text(overall)
    expect(page.locator("#heat tr", has=page.locator(".doubtful"))).to_have_count(2)
    expect(page.get_by_label("numbering in doubt: 1 conflict, 0 sessions", exact=True)).to_have_count(1)
    cells = page.get_by_role("gridcell", name=re.compile("SOLUSDT.*numbering in doubt: 1 conflict"))
    expect(cells).to_have_count(24)
    with answered(page, "v1/completeness"):
        page.locator("#filter").fill("eth")
    expect(page.locator("#heat tbody tr")).to_have_count(1)
    expect(figure).to_have_text(overall)
    with answered(page, "in_doubt"):
        page.evaluate("location.hash = '#day=2024-08-01'")
    expect(page.get_by_role("heading", name="Accounted for", exact=True)).to_be_visible()
    expect(page.locator("#doubt")).to_be_empty()


def test_unknown_doubts_are_reported(served: Client, window: Opened) -> None:
    """If the server does not answer whether a numbering is in doubt, the page says so."""
    page = window(served.port).settled()
    page.route("**/v1/completeness?in_doubt*", lambda route: route.fulfill(status=504, json={"detail": "too slow"}))
    page.get_by_role("button", name="Update now").click()
    expect(page.locator("#doubt")).to_have_text("It is unknown whether a numbering is in doubt.")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_marks_fit_a_narrow_page(served: Client, window: Opened, scheme: str) -> None:
    """Nothing overflows a phone's screen."""
    page = window(served.port, viewport={"width": 360, "height": 740}, color_scheme=scheme).settled()
    expect(page.locator("#heat .doubtful")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

"""The top of the page in each state of the capture: its words, its colours, its width, and that names stay text."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from k2.ops.settings import Settings
from k2.query.output_formats import to_json
from k2.status.assessment import assess
from k2.status.findings import Cause, Finding, Verdict
from k2.status.reader import Status, StatusReader
from tests.http.browser import Window, chromium, opening, window
from tests.http.conftest import Client, serving
from tests.http.page_market import HOSTILE, Made, make_market
from tests.http.test_page import CONTRASTS
from tests.status.evidence import evidence
from tests.status.test_assessment import EXAMPLES

__all__ = ["chromium", "window"]

PICTURE: Final = os.environ.get("K2_TEST_STATUS_PICTURE")
"""Where the picture of a stopped job is written, if anywhere."""
STATES: Final = ("job killed", "too slow", "numbers missing", "all rejected", "half silent", "broker gone", "sound")
"""One of each verdict."""
SIZES: Final[dict[int, ViewportSize]] = {width: {"width": width, "height": 900} for width in (390, 768, 1400)}
Opened = Callable[..., Window]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a small market."""
    end = datetime(2024, 8, 9, 16, 42, tzinfo=UTC)
    listed = (("binance", "BTCUSDT", "61204.5", 20), ("okx", "ETH-USDT", "2687.02", 10))
    return make_market(Settings(data_dir=tmp_path_factory.mktemp("status") / "data"), end, listed)


@pytest.fixture(scope="module")
def served(sample: Made) -> Iterator[Client]:
    """Yield a server for that market."""
    with serving(sample.settings) as client:
        yield client


@pytest.fixture(scope="module")
def look(chromium: Browser, served: Client) -> Iterator[Page]:
    """Yield a page for all states."""
    with opening(chromium) as open_page:
        yield open_page(served.port, viewport=SIZES[1400]).settled()


def in_state(sample: Made, changes: dict[str, Any], *more: Finding) -> Status:
    """Return the status of the market as if the evidence were another."""
    given = evidence(**changes)
    found, market = [*assess(given), *more], StatusReader(sample.settings).read()
    unread = sum(end.unread for end in given.broker.ends.values())
    return replace(
        market,
        verdict=found[0].verdict if found else Verdict.COMPLETE,
        reasons=found,
        checked_at=given.now,
        last_commit_at=given.last_commit_at,
        kafka_timestamp=given.last_commit_at,
        timestamp=given.last_commit_at,
        unread=unread if given.broker.is_known else None,
        partitions=[
            replace(one, end_offset=(one.offset or 0) + 500, unread=500, verdict=Verdict.STOPPED)
            for one in market.partitions
        ],
    )


def show(page: Page, status: Status) -> None:
    """Let the page get a status, and wait until it shows it."""

    def answer(route: Route) -> None:
        route.fulfill(body=to_json(status), content_type="application/json")

    page.unroute("**/v1/status*")
    page.route("**/v1/status*", answer)
    page.get_by_role("button", name="Update now").click()
    expect(page.locator("#status")).to_have_attribute("data-verdict", status.verdict.value)
    expect(page.locator("#status .reasons li")).to_have_count(max(1, len(status.reasons)))


@pytest.mark.parametrize("name", STATES)
def test_each_state_is_shown(look: Page, sample: Made, name: str) -> None:
    """The verdict as heading and in the title, each reason with its next step; it fits, and has the contrast of AA."""
    changes = next((one[1] for one in EXAMPLES if one[0] == name), {})
    status = in_state(sample, changes)
    show(look, status)
    heading = status.verdict.value.capitalize()
    expect(look.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(look).to_have_title(f"{heading} \u00b7 K2 trades")
    text = look.locator("#status .reasons").inner_text()
    for reason in status.reasons:
        assert reason.sentence in text
        assert reason.next_step in text
    for width, size in SIZES.items():
        look.set_viewport_size(size)
        assert look.evaluate("document.documentElement.scrollWidth") <= width
    scheme: Literal["dark", "light"]
    for scheme in ("dark", "light"):
        look.emulate_media(color_scheme=scheme)
        faint: list[Any] = look.evaluate(CONTRASTS)
        assert [entry for entry in faint if entry[0] < 4.5] == []


def test_lag_is_shown_by_partition(look: Page, sample: Made) -> None:
    """End offset and unread messages of each partition, in words and tinted if it does not advance."""
    show(look, in_state(sample, EXAMPLES[0][1]))
    rows = look.locator("#partitions tbody tr")
    expect(rows.first).to_have_attribute("data-verdict", "stopped")
    expect(rows.first.locator("td").nth(2)).to_have_text("500 stopped")
    if PICTURE:
        look.set_viewport_size(SIZES[1400])
        Path(PICTURE).write_bytes(look.locator("#status").screenshot(animations="disabled"))


def test_names_in_a_reason_are_text(look: Page, sample: Made) -> None:
    """A symbol named like markup, or with characters that reverse the text, is shown as it is."""
    hostile = Finding.of(Cause.CONFLICTS, f"1 trade contradicts a stored trade of {HOSTILE}", HOSTILE)
    show(look, in_state(sample, {}, hostile))
    shown = HOSTILE.replace("\u202e", "\\u{202e}").replace("\u2066", "\\u{2066}")
    assert shown in look.locator("#status .reasons").inner_text()
    expect(look.locator("#status img")).to_have_count(0)
    expect(look).to_have_title(re.compile("^In doubt"))


def test_a_server_that_fails_leaves_the_last_status(served: Client, window: Opened) -> None:
    """It stays, faded, with the reason why it is not newer."""
    page = window(served.port).settled()
    page.route("**/v1/status*", lambda route: route.fulfill(status=500, json={"detail": "broken"}))
    page.get_by_role("button", name="Update now").click()
    expect(page.locator("#status .state")).to_contain_text("Request failed (500): broken")
    expect(page.locator("#status")).to_have_attribute("data-stale", "")
    assert page.locator("#status .reasons li").count() > 0

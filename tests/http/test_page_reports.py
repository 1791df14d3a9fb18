"""The page's history, dead letters, days and candles in a browser."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
from playwright.sync_api import ViewportSize, expect

from k2.model.errors import error_pattern
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from tests.http.browser import Window, answered, chromium, texts, window
from tests.http.conftest import Client, serving
from tests.http.page_market import ERRORS, Made, make_market

__all__ = ["chromium", "window"]

SIZE: Final[ViewportSize] = {"width": 1344, "height": 1000}
REASONS: Final = {reason.value for reason in Reason}
Opened = Callable[..., Window]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a day's market."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("page") / "data")
    return make_market(settings, datetime(2024, 8, 9, 16, 42, tzinfo=UTC))


@pytest.fixture(scope="module")
def served(sample: Made) -> Iterator[Client]:
    """Yield a server for that market."""
    with serving(sample.settings) as client:
        yield client


def test_the_history_is_shown_in_figures_bars_and_words(served: Client, sample: Made, window: Opened) -> None:
    """Of a day's commits and gaps: sums with their unit, a described chart each, and the same as a table."""
    page = window(served.port, "#day=2024-08-09", viewport=SIZE).settled()
    rows = [
        row
        for row in served.get("/v1/history", start="2024-08-09", end="2024-08-10").json
        if row["commits"] or row["gaps_opened"]
    ]
    missing = sum(row["missing_opened"] for row in rows)
    assert missing == sum(one.last - one.first + 1 for one in sample.missing if one.hour >= 7)
    received = sum(row["received"] for row in rows)
    values = page.locator("#history .value").all_inner_texts()
    assert values == [f"{received:,} messages", "56 messages", f"{missing} numbers missing, 0 filled", "15 min"]
    charts = page.locator("#history").get_by_role("img")
    expect(charts).to_have_count(4)
    words = r"from 2024-08-09 00:00 to 2024-08-10 00:00 UTC: highest \d+ messages, 2024-08-09 1[56]:\d\d$"
    expect(charts.nth(1)).to_have_attribute("aria-label", re.compile(words))
    for chart, bars in enumerate((received, 56, missing)):
        drawn = charts.nth(chart).locator("path:not(.base)").first.get_attribute("d") or ""
        assert 0 < drawn.count("M") <= min(bars, 96)
    page.get_by_text("The history as a table").click()
    table = {row[0]: row[1:] for row in texts(page, "#history")}
    assert len(table) == 96
    for row in rows:
        cells = table[row["start"].replace("T", " ")[:16]]
        assert cells[0] == f"{row['received']:,}"
        assert cells[7] == f"{row['missing_opened']}"


def test_an_error_leads_to_its_dead_letters(served: Client, sample: Made, window: Opened) -> None:
    """By keyboard: errors without their values, then the newest letters of one, with message and command as text."""
    shown = window(served.port, viewport=SIZE)
    page = shown.settled()
    errors = {row[0].strip(): int(row[1]) for row in texts(page, "#dead-letters") if row[0].split()[0] not in REASONS}
    patterns = {reason: error_pattern(text.format(7)) for reason, text in ERRORS.items()}
    assert errors == {patterns[Reason(reason)]: number for reason, number in sample.reasons.items()}
    button = page.get_by_role("button", name=patterns[Reason.INVALID])
    expect(button).to_have_attribute("aria-expanded", "false")
    button.focus()
    with answered(page, "v1/dead-letters/list"):
        page.keyboard.press("Enter")
    letters = page.locator("#letters li")
    expect(letters).to_have_count(sample.reasons["invalid"])
    expect(button).to_have_attribute("aria-expanded", "true")
    newest = [letter for letter in sample.letters if letter.reason is Reason.INVALID][-1]
    expect(letters.first).to_contain_text(f"trades:0 offset {newest.offset}")
    expect(letters.first).to_contain_text(newest.error)
    expect(letters.first).to_contain_text(f"k2 dlq show trades 0 {newest.offset} --value")
    escaped = (newest.value or "").replace("\u202e", "\\u{202e}").replace("\u2066", "\\u{2066}")
    expect(letters.first.locator("pre")).to_have_text(escaped)
    expect(page).to_have_title("K2 trades")
    expect(page.locator("img")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#letters")).to_be_hidden()
    expect(button).to_be_focused()
    page.get_by_role("button", name=patterns[Reason.MALFORMED]).click()
    expect(letters).to_have_count(20)
    expect(letters.first.locator("pre")).to_have_text("{\\xff\\x0a>")
    expect(letters.first).to_contain_text("4 bytes:")

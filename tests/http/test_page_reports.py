"""The page's history, dead letters, days and candles in a browser."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import ViewportSize, expect

from k2.iceberg.tables import TableName
from k2.model.errors import error_pattern
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from tests.http.browser import Window, answered, chromium, texts, window
from tests.http.conftest import Client, serving
from tests.http.page_market import ERRORS, Made, make_market
from tests.query.tables import EPOCH, append, made, trade

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
    assert values == [
        f"{received:,} messages",
        "56 messages",
        f"{missing} numbers missing, 0 filled",
        "7 messages",
        "15 min",
    ]
    charts = page.locator("#history").get_by_role("img")
    expect(charts).to_have_count(5)
    words = r"from 2024-08-09 00:00 to 2024-08-10 00:00 UTC: highest \d+ messages, 2024-08-09 1[56]:\d\d$"
    expect(charts.nth(1)).to_have_attribute("aria-label", re.compile(words))
    for chart, bars in enumerate((received, 56, missing)):
        drawn = charts.nth(chart).locator("path:not(.base)").first.get_attribute("d") or ""
        assert 0 < drawn.count("M") <= min(bars, 96)
    page.get_by_text("The history as a table").click()
    expect(page.locator("#history tbody tr")).to_have_count(96)
    table = {row[0]: row[1:] for row in texts(page, "#history")}
    assert len(table) == 96
    for row in rows:
        cells = table[row["start"].replace("T", " ")[:16]]
        assert cells[0] == f"{row['received']:,}"
        assert cells[6] == ("\u2013" if row["lag_max"] is None else f"{row['lag_max']}")
        assert cells[8] == f"{row['missing_opened']}"
        assert cells[10] == f"{row['starts']}"


def test_an_error_leads_to_its_dead_letters(served: Client, sample: Made, window: Opened) -> None:
    """By keyboard: errors without their values, then the newest letters of one, with message and command as text."""
    shown = window(served.port, viewport=SIZE)
    page = shown.settled()
    errors = {row[0].strip(): int(row[1]) for row in texts(page, "#dead-letters") if row[0].split()[0] not in REASONS}
    patterns = {reason: error_pattern(text.format(7)) for reason, text in ERRORS.items()}
    assert errors == {patterns[Reason(reason)]: number for reason, number in sample.reasons.items()}
    expect(page.locator("#dead-letters .rest")).to_contain_text(
        f"{sum(sample.reasons.values()) - 1} waiting, 1 replayed: 1 not read yet."
    )
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
    expect(page).to_have_title(re.compile("K2 trades$"))
    expect(page.locator("img")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#letters")).to_be_hidden()
    expect(button).to_be_focused()
    page.get_by_role("button", name=patterns[Reason.MALFORMED]).click()
    expect(letters).to_have_count(20)
    expect(letters.first.locator("pre")).to_have_text("{\\xff\\x0a>")
    expect(letters.first).to_contain_text("4 bytes:")


def test_days_with_trades_can_be_chosen(served: Client, window: Opened) -> None:
    """The newest first, as ISO dates with the number of trades; a choice is part of the address."""
    page = window(served.port, viewport=SIZE).settled()
    options = page.locator("#day option")
    expect(options).to_have_count(3)
    rows = served.get("/v1/days").json
    assert options.all_inner_texts() == [
        "Latest 24 hours",
        *(f"{row['day']} · {row['trades']:,} trades" for row in reversed(rows)),
    ]
    with answered(page, "v1/completeness"):
        page.locator("#day").select_option("2024-08-08")
    assert "day=2024-08-08" in page.url
    expect(page.locator("#hours")).to_have_text("From 2024-08-08 00:00 to 2024-08-09 00:00 UTC")


def test_symbols_are_sorted_by_what_is_missing(served: Client, sample: Made, window: Opened) -> None:
    """The first column after the names is the number that they are sorted by."""
    page = window(served.port, viewport=SIZE).settled()
    expect(page.locator("#heat th[aria-sort=descending]")).to_have_text("Missing")
    missing = [int(row[1]) for row in texts(page, "#heat")]
    assert missing == sorted(missing, reverse=True)
    assert sum(missing) == sum(one.last - one.first + 1 for one in sample.missing)


def test_the_newest_hours_come_first_on_a_phone(served: Client, window: Opened) -> None:
    """Cells keep their hour, and keys follow what is shown; names are not cut, and the page has its width."""
    shown = window(served.port, viewport={"width": 390, "height": 800})
    page = shown.settled()
    hours = [f"{hour % 24:02}" for hour in range(16, -8, -1)]
    expect(page.locator("#heat .hour")).to_have_text(hours)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cut = page.locator("#heat tbody th").evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert cut == 0
    shown.tab_to("heat")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#cell")).to_have_text(re.compile("2024-08-09 15:00 UTC"))
    page.set_viewport_size(SIZE)
    expect(page.locator("#heat .hour").first).to_have_text("17")


@pytest.mark.parametrize(("seconds", "interval", "bars"), [(100, "1s", 100), (900, "10s", 90), (20 * 3_600, "15m", 80)])
def test_candles_fit_the_data(tmp_path: Path, window: Opened, seconds: int, interval: str, bars: int) -> None:
    """A capture of two minutes has more than one candle; a chosen interval is kept."""
    settings = Settings(data_dir=tmp_path / "data")
    times = [EPOCH + timedelta(seconds=seconds * one / 200) for one in range(200)]
    append(made(settings, TableName.TRADES), [trade(at, timestamp=time) for at, time in enumerate(times)])
    with serving(settings) as client:
        view = "#exchange=binance&symbol=BTCUSDT&day=2024-08-09"
        page = window(client.port, view, viewport=SIZE).page
        expect(page.locator("#candles .asof")).to_have_text(re.compile(rf"^{bars} bars of {interval},"))
        with answered(page, "interval=1h"):
            page.locator("#interval").select_option("1h")
        assert "interval=1h" in page.url
        expect(page.locator("#candles .asof")).to_have_text(re.compile("of 1h,"))
        page.goto("about:blank")

"""The page in a browser: it shows what the tables contain, on any screen and by keyboard or mouse."""

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect
from pydantic import SecretStr

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.reconcile import reconcile
from tests.http.browser import Window, answered, chromium, opening, texts, window
from tests.http.conftest import Client, serving
from tests.http.page_market import HOSTILE, PARTITIONS, Made, make_market, move_on
from tests.query.tables import append, made, progress, set_progress, trade

__all__ = ["chromium", "window"]

PICTURE: Final = os.environ.get("K2_TEST_PICTURE")
"""Where the screenshot is written, if anywhere."""
PICTURE_BYTES_MAX: Final = 500_000
SIZE: Final[ViewportSize] = {"width": 1344, "height": 1000}
NARROW: Final[ViewportSize] = {"width": 360, "height": 740}
Opened = Callable[..., Window]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a day's market; for a picture it is today's."""
    end = datetime.now(UTC) if PICTURE else datetime(2024, 8, 9, 16, 42, tzinfo=UTC)
    return make_market(Settings(data_dir=tmp_path_factory.mktemp("page") / "data"), end)


@pytest.fixture(scope="module")
def served(sample: Made) -> Iterator[Client]:
    """Yield a server for that market."""
    with serving(sample.settings) as client:
        yield client


@pytest.fixture(scope="module")
def look(chromium: Browser, served: Client) -> Iterator[Page]:
    """Yield a page for tests that do not change the market."""
    with opening(chromium) as open_page:
        yield open_page(served.port, viewport=SIZE).settled()


def test_the_page_shows_what_the_tables_contain(look: Page, sample: Made) -> None:
    """Sums, partitions, gaps, reasons and the symbols' hours are those of the generated market."""
    assert all(row.holds for row in reconcile(sample.settings))
    page = look
    expect(page.get_by_role("heading", name="Accounted for", exact=True)).to_be_visible()
    sums = f"{sample.received:,} received = {sample.stored:,} stored + 120 duplicates + 56 dead letters + 35 skipped"
    assert " ".join(page.locator(".equation").inner_text().split()) == sums
    rows = texts(page, "#partitions")
    assert [row[0] for row in rows] == [f"trades:{one}" for one in range(PARTITIONS)]
    assert [row[2] for row in rows] == ["\u2013"] * PARTITIONS, "no broker is configured"
    largest = sorted(sample.missing, key=lambda gap: gap.first - gap.last)
    found = {(row[0], row[1]) for row in texts(page, "#gaps")}
    joined = {("okx BTC-USDT", "80")} | {
        (f"{gap.exchange} {gap.symbol}", f"{gap.last - gap.first + 1}") for gap in largest
    }
    assert found == joined - {("okx BTC-USDT", "40")}
    by_reason = page.locator("#dead-letters tr.reason").all()
    found_reasons = [row.locator("th, td").all_inner_texts() for row in by_reason]
    assert {row[0].split()[0]: int(row[1]) for row in found_reasons} == sample.reasons


def test_each_hour_shows_what_is_missing(look: Page, sample: Made) -> None:
    """A cell has its figures in words and a mark next to its colour, and is blank if no trade was expected."""
    for gap in sample.missing[:3]:
        when = sample.start + timedelta(hours=gap.hour)
        count = gap.last - gap.first + 1
        words = f"{gap.exchange} {gap.symbol}, {when:%Y-%m-%d %H:%M} UTC"
        cell = look.get_by_role("gridcell", name=re.compile(rf"^{words}: .*, {count} missing$"))
        expect(cell).to_have_count(1)
        assert int(cell.inner_text()) >= 1
    quiet = look.get_by_role("gridcell", name=re.compile("LTC-USDT.*: none expected"))
    expect(quiet).to_have_count(5)
    whole = look.get_by_role("gridcell", name=re.compile(", complete"))
    assert {*whole.all_inner_texts()} == {""}
    assert whole.count() > 200


def test_candles_are_drawn(served: Client, window: Opened) -> None:
    """The chart contains colours, and the line above it shows the last bar with all digits."""
    page = window(served.port, "#exchange=bybit&symbol=XRPUSDT&interval=1h", viewport=SIZE).settled()
    bar = served.get("/v1/ohlcv", exchange="bybit", symbol="XRPUSDT", interval="1h").json[-1]
    assert f"C {float(bar['close']):.5f}" in page.locator("#bar").inner_text()
    assert bar["close"].startswith(f"{float(bar['close']):.5f}")
    colours = page.locator("#chart canvas").evaluate_all(
        """(all) => Math.max(...all.map((one) => {
            const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
            return new Set(new Uint32Array(data.buffer)).size;
        }))"""
    )
    assert colours > 5
    page.get_by_text("The newest bars as a table").click()
    bars = served.get("/v1/ohlcv", exchange="bybit", symbol="XRPUSDT", interval="1h").json
    # The page writes the table once it is opened.
    expect(page.locator("#bars tbody tr")).to_have_count(len(bars))


def test_the_page_can_be_used_by_keyboard(served: Client, window: Opened) -> None:
    """With keys alone: past the head, through the cells, to a symbol, to another by name, along the bars."""
    shown = window(served.port, viewport=SIZE)
    page = shown.settled()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    shown.tab_to("heat")
    for key in ("ArrowDown", "End", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#cell")).to_have_text(re.compile(r"^bybit BTCUSDT, 2024-08-09 15:00 UTC: 70 of 70 stored"))
    with answered(page, "symbol=BTCUSDT"):
        page.keyboard.press("Enter")
    expect(page.locator("#candles .figure")).to_have_text("bybit BTCUSDT")
    shown.tab_to("symbol")
    page.keyboard.press("Control+a")
    page.keyboard.type("no such")
    page.keyboard.press("Enter")
    expect(page.locator("#choice-why")).to_have_text("No symbol has that name.")
    page.keyboard.press("Control+a")
    page.keyboard.type("doge-usdt")
    page.keyboard.press("Enter")
    expect(page.locator("#candles .figure")).to_have_text("okx DOGE-USDT")
    assert "symbol=DOGE-USDT" in page.url
    shown.tab_to("chart")
    page.keyboard.press("Home")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", re.compile(r"^2024-08-08 17:00"))


def test_a_view_can_be_shared(served: Client, window: Opened) -> None:
    """The URL contains day, symbol, interval and filter; a day without trades is reported as such."""
    view = "#exchange=okx&symbol=BTC-USDT&interval=5m&day=2024-08-08&filter=okx+btc"
    page = window(served.port, view, viewport=SIZE).settled()
    expect(page.locator("#day")).to_have_value("2024-08-08")
    expect(page.locator("#interval")).to_have_value("5m")
    expect(page.locator("#heat tbody tr")).to_have_count(1)
    expect(page.locator("#candles .figure")).to_have_text("okx BTC-USDT")
    with answered(page, "v1/completeness"):
        page.evaluate("location.hash = '#exchange=okx&symbol=BTC-USDT&day=2024-08-01'")
    expect(page.locator("#completeness .asof")).to_contain_text("No trades expected")
    expect(page.locator("#day option:checked")).to_have_text("2024-08-01 · no trades")
    with answered(page, "v1/completeness"):
        page.locator("#day").select_option("")
    assert "day=" not in page.url


def test_sums_that_fail_are_reported(tmp_path: Path, window: Opened) -> None:
    """If a trade is missing from all outcomes, the page says so and names the partition."""
    settings = Settings(data_dir=tmp_path / "data")
    table = made(settings, TableName.TRADES)
    append(table, [trade(one) for one in range(12)])
    set_progress(table, progress(offset=14, received=14, stored=13, dead_letters=1))
    with serving(settings) as client:
        page = window(client.port).page
        expect(page.get_by_role("heading", name="Not accounted for")).to_be_visible()
        expect(page.locator(".faults")).to_have_text("trades partition 0: 2 of 14 received messages are missing")
        expect(page.locator(".equation")).to_contain_text("≠")
        window_closed(page)


def window_closed(page: Page) -> None:
    """Stop the requests of a page, so that its server can end."""
    page.goto("about:blank")


def test_names_are_shown_as_text(tmp_path: Path, window: Opened) -> None:
    """Markup in a name is shown literally, and characters that reverse the text direction are escaped."""
    settings = Settings(data_dir=tmp_path / "data")
    make_market(
        settings, datetime(2024, 8, 9, 16, 42, tzinfo=UTC), ((HOSTILE, HOSTILE, "1.5", 20), ("a", "b" * 64, "2", 3))
    )
    with serving(settings) as client:
        page = window(client.port, viewport=NARROW).settled()
        shown = HOSTILE.replace("\u202e", "\\u{202e}").replace("\u2066", "\\u{2066}")
        expect(page.locator("#candles .figure")).to_have_text(f"{shown} {shown}")
        assert texts(page, "#gaps")[0][0] == f"{shown} {shown}"
        expect(page).to_have_title(re.compile("^[A-Z][a-z ]+ · K2 trades$"))
        expect(page.locator("img")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        window_closed(page)


def test_a_key_is_required_if_keys_are_configured(sample: Made, window: Opened) -> None:
    """The page itself is public; a wrong key is forgotten and asked for again, a right one is kept for the tab."""
    with serving(sample.settings.model_copy(update={"api_keys": (SecretStr("zwei-ü"),)})) as client:
        page = window(client.port).page
        expect(page.get_by_role("heading", name="This server requires an API key")).to_be_visible()
        field = page.get_by_role("textbox", name="Key")
        expect(field).to_be_focused()
        for _ in range(2):
            page.keyboard.type("wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#key-why")).to_have_text(re.compile("rejected the API key"))
            expect(field).to_have_value("")
        assert page.evaluate("sessionStorage.length") == 0
        page.keyboard.type("zwei-ü")
        page.keyboard.press("Enter")
        accounted = page.get_by_role("heading", name="Accounted for", exact=True)
        expect(accounted).to_be_visible()
        page.reload()
        expect(accounted).to_be_visible()
        window_closed(page)


def test_the_page_survives_a_server_restart(sample: Made, window: Opened) -> None:
    """Without a server the page says since when, keeps its content, and resumes by itself."""
    with serving(sample.settings) as client:
        page = window(client.port).settled()
    page.get_by_role("button", name="Update now").click()
    expect(page.get_by_role("alert")).to_have_text(
        re.compile(r"^The server has not responded since \d\d:\d\d:\d\d UTC\.")
    )
    expect(page.locator(".equation")).to_contain_text(f"{sample.received:,}")
    with serving(sample.settings, client.port):
        page.get_by_role("button", name="Update now").click()
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator(".state:not(:empty)")).to_have_count(0)
        window_closed(page)


def test_a_warehouse_without_tables_is_explained(bare: Client, window: Opened) -> None:
    """Without tables each part says that the job has not run here, and none is red."""
    page = window(bare.port).page
    expect(page.get_by_text("the job has not run here")).to_have_count(8)
    expect(page.get_by_role("heading", name="Unknown", exact=True)).to_be_visible()
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "unknown")


def test_a_busy_server_is_retried_after_its_retry_after(served: Client, window: Opened) -> None:
    """On 503 the page keeps its content, says so, and retries after Retry-After."""
    shown = window(served.port)
    page = shown.settled()
    refusals = [1]

    def refuse(route: Route) -> None:
        if refusals:
            refusals.pop()
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "busy"})
        else:
            route.continue_()

    page.route("**/v1/reconcile*", refuse)
    page.get_by_role("button", name="Update now").click()
    expect(page.locator("#verdict .state")).to_have_text("The server is busy; the data shown is older.")
    expect(page.locator("#verdict .state")).to_be_empty()
    assert not refusals


def _next_progress(page: Page) -> None:
    """Move the page's clock, which stands still, past the next request for the progress, and wait until it is shown."""
    shown = page.locator("#partitions .asof")
    before = shown.inner_text()
    page.clock.fast_forward(60_000)
    expect(shown).not_to_have_text(before)


def test_expensive_requests_follow_new_commits(served: Client, sample: Made, window: Opened) -> None:
    """A quiet table is asked for progress and status only, a paused page asks nothing, a commit updates the sums."""
    shown = window(served.port)
    page = shown.settled()
    # A running clock would count a slow response as one to rest after, for longer than one move.
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    page.reload()
    shown.settled()
    shown.requests.clear()
    for _ in range(4):
        _next_progress(page)
    assert {re.sub(r".*(/v1/[a-z-]*).*", r"\1", url) for url in shown.requests} == {"/v1/progress", "/v1/status"}
    page.get_by_role("button", name="Pause").click()
    shown.requests.clear()
    page.clock.fast_forward(200_000)
    assert shown.requests == []
    sample.stored += 3
    (last,) = served.get("/v1/latest", symbol="LTC-USDT").json
    move_on(sample.settings, [last], 3, sample.end)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".equation")).to_contain_text(f"{sample.received:,} received")


def test_a_market_of_10_000_symbols(served: Client, window: Opened) -> None:
    """The browser draws some tens of them and says how many are left out."""
    names = [{"exchange": "e", "symbol": f"S{one:05}"} for one in range(10_000)]
    numbers = {"expected": 2**60, "stored": 2**60 - 1, "missing": 1, "not_numbered": 0, "accepted": 0}
    counts = {"hour": "2024-08-09T10:00:00Z", **numbers}
    totals = {**numbers, "symbols": 10_000, "symbols_not_numbered": 4_000, "percent": 99.9999}
    answers: dict[str, Any] = {
        "symbols": [{**name, "trades": 1} for name in names],
        "completeness": [],
        "completeness/summary": {"totals": totals, "rows": [{**name, **counts} for name in names[:24]]},
    }

    def answer(route: Route) -> None:
        name = route.request.url.partition("/v1/")[2].partition("?")[0]
        route.fulfill(body=json.dumps(answers[name]), headers={"K2-Limit": "10000"}, content_type="application/json")

    shown = window(served.port)
    page = shown.settled()
    page.route(re.compile("/v1/(symbols|completeness)"), answer)
    page.get_by_role("button", name="Update now").click()
    expect(page.locator("#completeness .asof")).to_contain_text(
        "the 24 symbols with the most missing trades, of 10,000 or more"
    )
    expect(page.locator("#completeness .figure")).to_have_text("99.99 % of 10,000 symbols, 4,000 not numbered")
    expect(page.get_by_role("gridcell", name=re.compile("S00000.*: 1,152,921,504,606,846,975 of"))).to_have_count(1)
    assert page.locator("#symbols option").count() <= 100
    assert page.locator("*").count() < 3_000


@pytest.mark.parametrize(("scheme", "size"), [("dark", NARROW), ("light", SIZE)])
def test_themes_and_widths(look: Page, scheme: Literal["dark", "light"], size: ViewportSize) -> None:
    """In the dark and light themes, wide and narrow: nothing overflows, and all text has the contrast of WCAG AA."""
    look.emulate_media(color_scheme=scheme)
    look.set_viewport_size(size)
    assert look.evaluate("document.documentElement.scrollWidth") <= size["width"]
    if size is SIZE:
        hidden = look.locator(".tall").evaluate_all("(all) => all.map((one) => one.scrollWidth - one.clientWidth)")
        assert not any(hidden)
    faint: list[Any] = look.evaluate(CONTRASTS)
    assert [entry for entry in faint if entry[0] < 4.5] == []
    assert len(faint) > 50


CONTRASTS: Final = """() => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (element) => {
        for (let one = element; one !== null; one = one.parentElement) {
            const found = channels(getComputedStyle(one).backgroundColor);
            if (found.length === 3 || found[3] > 0) return found;
        }
    };
    const isText = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
    const hasText = (one) => one.checkVisibility() && [...one.childNodes].some(isText);
    return [...document.querySelectorAll("body *")].filter(hasText).map((one) => {
        const [a, b] = [light(channels(getComputedStyle(one).color)), light(ground(one))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        return [ratio, one.tagName, one.className, one.textContent.slice(0, 20)];
    });
}"""


def test_a_screenshot_of_the_page(served: Client, sample: Made, window: Opened) -> None:
    """The whole page fits into one picture of moderate size, which is written for the docs on request."""
    shown = window(served.port, viewport=SIZE)
    page = shown.settled()
    if PICTURE:
        # A commit while the page is open gives each partition a rate.
        lasts = {row["partition"]: row for row in served.get("/v1/latest").json}
        move_on(sample.settings, [*lasts.values()], 40, datetime.now(UTC))
        sample.stored += 40 * len(lasts)
        expect(page.locator("#partitions tbody td:nth-child(5)").first).not_to_have_text("\u2013")
        page.keyboard.press("Tab")
        page.get_by_role("button", name="Update now").click()
        page.mouse.move(0, 0)
        for part, text in (("equation", f"{sample.received:,}"), ("bar-line", "trades")):
            expect(page.locator(f".{part}")).to_contain_text(text)
        # A picture in the docs names no folder of this machine.
        page.evaluate(
            "folder => { const place = document.querySelector('#place'); "
            "place.textContent = place.textContent.replace(folder, '/srv/k2'); }",
            str(sample.settings.data_dir),
        )
    picture = page.screenshot(full_page=True, animations="disabled")
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < PICTURE_BYTES_MAX
    if PICTURE:
        Path(PICTURE).write_bytes(picture)

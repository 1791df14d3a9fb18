"""Plans: each missing number is in one request, or it is said why not; and few requests are enough."""

import json
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.cli.gap_export import curl_lines
from k2.fill.plan import Gap, Plan, make_plan, sources
from k2.fill.ranges import Range, merged
from k2.venues import VENUES

DOCS = Path(__file__).parents[2] / "docs" / "backfill.md"
NOW = datetime(2026, 11, 30, 15, tzinfo=UTC)
YESTERDAY = datetime(2026, 11, 29, 15, 30, tzinfo=UTC)
LATER = YESTERDAY + timedelta(minutes=1)
EXAMPLES = [
    Gap("binance", "BTCUSDT", 3_735_683_262, 3_735_683_264, YESTERDAY, LATER),
    Gap("binance", "BTCUSDT", 3_735_684_100, 3_735_684_100, YESTERDAY, LATER),
    Gap("binance", "ETHUSDT", 1_000_000, 1_099_999, YESTERDAY, LATER),
    Gap("binance-futures", "BTCUSDT", 5_266_583_935, 5_266_583_940, YESTERDAY, LATER),
    Gap("binance-futures", "BTCUSD_PERP", 849_714_402, 849_714_402, YESTERDAY, LATER),
    Gap("binance-futures-aggtrade", "BTCUSDT", 2_300_000, 2_300_001, YESTERDAY, LATER),
    Gap("binance-futures-aggtrade", "BTCUSD_PERP", 230_000, 230_001, YESTERDAY, LATER),
    Gap("coinbase", "BTC-USD", 280_232, 280_240, YESTERDAY, LATER),
    Gap("kraken", "BTC/USD", 61_044_952, 61_044_960, YESTERDAY, LATER),
    Gap("deribit", "BTC-PERPETUAL", 30_289_432, 30_289_433, YESTERDAY, LATER),
    Gap("okx", "BTC-USDT", 242_720_720, 242_720_725, YESTERDAY, LATER),
    Gap("okx", "ETH-USDT", 1_000, 9_999, YESTERDAY - timedelta(days=100), YESTERDAY - timedelta(days=100)),
    Gap("gate", "ETH_BTC", 588_018, 588_019, YESTERDAY, LATER),
    Gap("htx", "btcusdt", 102_090_736_889, 102_090_736_890, YESTERDAY, LATER),
]


def plan(gaps: Iterable[Gap], now: datetime = NOW) -> Plan:
    """Return the plan at some time."""
    return make_plan(gaps, now)


def test_the_page_shows_a_plan_of_each_venue() -> None:
    """As it is printed, and every venue of the table of requests is on it."""
    shown = re.search(r"<!-- plan -->\n```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    made = plan(EXAMPLES)
    printed = "\n".join(curl_lines(made)) + "\n"
    assert shown is not None
    assert shown[1] == printed
    assert made.uncovered == []
    forms = {request.form for request in made.requests}
    assert forms >= {source.rest.form for source in sources() if source.rest}


def test_the_page_shows_a_request() -> None:
    """As it is in the JSON document."""
    shown = re.search(r"<!-- request -->\n```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    (request,) = (one for one in plan(EXAMPLES).requests if one.exchange == "kraken")
    assert json.loads(shown[1]) == json.loads(msgspec.json.encode(request))


def test_gaps_of_one_page_are_one_request() -> None:
    """From the first missing number, as long as the page is."""
    gaps = [Gap("coinbase", "A-B", first, first + 4, YESTERDAY, LATER) for first in (10, 500, 1_007, 1_020)]
    first, second = plan(gaps).requests
    assert first.covers == [Range(10, 14), Range(500, 504), Range(1_007, 1_009)]
    assert first.url.endswith("/products/A-B/trades?after=1010&limit=1000")
    assert second.covers == [Range(1_010, 1_011), Range(1_020, 1_024)]
    assert second.url.endswith("after=1025&limit=1000")


def test_numbers_that_several_sessions_miss_are_requested_once() -> None:
    """By number, a venue has one trade."""
    gaps = [Gap("coinbase", "A-B", *one, YESTERDAY, LATER) for one in ((1, 2_500), (2, 3), (2_400, 2_600))]
    covers = [one for request in plan(gaps).requests for one in request.covers]
    assert covers == [Range(1, 1_000), Range(1_001, 2_000), Range(2_001, 2_500), Range(2_501, 2_600)]
    alike = [Gap("binance", "X", 1, 100_000, start, YESTERDAY) for start in (YESTERDAY, None)]
    assert [request.kind for request in plan(alike).requests] == ["archive"]


@pytest.mark.parametrize("exchange", ["binance", "kraken"])
def test_many_gaps_are_planned_at_once(exchange: str) -> None:
    """In time that grows with their number: 20,000 gaps of a symbol in less than 10 seconds."""
    gaps = [Gap(exchange, "X", at, at + 2, YESTERDAY, LATER) for at in range(1, 100_000_000, 5_000)]
    started = time.perf_counter()
    assert len(plan(gaps).requests) == len(gaps)
    assert time.perf_counter() - started < 10


def test_large_or_old_gaps_come_from_archives() -> None:
    """Of whole days that are over; small gaps of these days come with them."""
    large = Gap("binance", "X", 1, 100_000, YESTERDAY - timedelta(days=1), YESTERDAY)
    small = Gap("binance", "X", 200_000, 200_001, YESTERDAY, LATER)
    made = plan([large, small])
    assert [request.address[-14:-4] for request in made.requests] == ["2026-11-28", "2026-11-29"]
    assert [request.covers for request in made.requests] == [
        [Range(1, 100_000)],
        [Range(1, 100_000), Range(200_000, 200_001)],
    ]
    today = [large._replace(start=YESTERDAY, end=NOW)]
    assert {request.kind for request in plan(today).requests} == {"rest"}
    # The days of OKX end at 16:00 UTC.
    okx = Gap("okx", "X", 1, 5, NOW - timedelta(days=91, hours=-2), NOW - timedelta(days=91, hours=-2))
    (request,) = plan([okx]).requests
    assert request.address.endswith("/20260901/X-trades-2026-09-01.zip")
    assert okx.start is not None
    assert okx.start.day == 31


@pytest.mark.parametrize(
    ("gap", "reason"),
    [
        (Gap("kraken-futures", "PI_XBTUSD", 1, 2, YESTERDAY, LATER), "no request of this exchange is known"),
        (Gap("kraken", "BTC/USD", 1, 2, None, LATER), "no trade before it is stored"),
        (Gap("gate", "X", 1, 2, NOW - timedelta(days=31), LATER), "the last 30 days only"),
        (
            Gap("okx", "X", 1, 2, NOW - timedelta(days=91), NOW),
            "the last 90 days only; the archive of 2026-11-30 is not complete yet",
        ),
    ],
)
def test_what_no_request_gives_is_said(gap: Gap, reason: str) -> None:
    """With the reason."""
    made = plan([gap])
    assert not made.requests
    assert reason in made.uncovered[0].reason


def test_the_table_of_a_venue_says_how_old_trades_may_be(tmp_path: Path) -> None:
    """Also that of a user, in the place of a built-in one."""
    file = tmp_path / "gate.toml"
    file.write_text('name = "gate"\nextends = "gate"\nreplaces = true\n[fill]\ndays = 7\n', encoding="utf-8")
    old = Gap("gate", "X", 1, 2, NOW - timedelta(days=8), LATER)
    assert len(plan([old]).requests) == 1
    VENUES.use_tables(str(file))
    try:
        (left,) = plan([old]).uncovered
    finally:
        VENUES.use_tables("")
    assert left.reason == "the venue gives trades of the last 7 days only"


def test_coin_margined_futures_are_as_old_as_those_of_their_exchange() -> None:
    """Then an archive has them."""
    gap = Gap("binance-futures", "BTCUSD_PERP", 1, 2, NOW - timedelta(days=91), NOW - timedelta(days=91))
    assert [request.kind for request in plan([gap]).requests] == ["archive"]


EXCHANGES = st.sampled_from([source.exchange for source in sources()])
GAPS = st.lists(
    st.tuples(EXCHANGES, st.integers(1, 5_000), st.integers(0, 3_000), st.integers(0, 200), st.integers(0, 60)),
    max_size=12,
)


@given(GAPS)
def test_each_number_is_requested_once_or_named(drawn: list[tuple[str, int, int, int, int]]) -> None:
    """For any disjoint gaps: nothing is left out, and no page has more numbers than its venue gives at once."""
    gaps, used = list[Gap](), dict[str, list[Range]]()
    for exchange, first, length, age, minutes in drawn:
        start = NOW - timedelta(days=age)
        here = Range(first, first + length)
        if merged([*used.get(exchange, []), here])[:] == sorted([*used.get(exchange, []), here]):
            used.setdefault(exchange, []).append(here)
            gaps.append(Gap(exchange, "X", *here, start, start + timedelta(minutes=minutes)))
    made = plan(gaps)
    for exchange, ranges in used.items():
        of_rest = [one for request in made.requests if request.exchange == exchange for one in request.covers]
        of_none = [Range(one.first_sequence, one.last_sequence) for one in made.uncovered if one.exchange == exchange]
        assert merged([*of_rest, *of_none]) == merged(ranges)
    limits = {source.rest.form: source.rest.limit for source in sources() if source.rest}
    for request in made.requests:
        assert request.missing == sum(last - first + 1 for first, last in request.covers)
        if request.kind == "rest" and request.next is None and request.exchange != "htx":
            assert request.covers[-1].last - request.covers[0].first < limits[request.form]


@pytest.mark.parametrize("exchange", ["deribit", "kraken", "binance", "okx", "htx"])
def test_a_number_named_by_mistake_is_no_plan_of_millions(exchange: str) -> None:
    """The numbers up to it are not requested, and those of other gaps are."""
    tail = Gap(exchange, "BTCUSDT", 1_001, 2**63 - 1, NOW, None)
    made = plan([Gap(exchange, "BTCUSDT", 11, 12, YESTERDAY, LATER), tail])
    assert [request.covers for request in made.requests] == [[Range(11, 12)]]
    assert "requests of REST" in made.uncovered[0].reason

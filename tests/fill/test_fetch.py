"""Requests of a plan against a server that answers as each venue does, with limits, cuts and kills on the way."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from k2.fill.answers import INDEX, KeptAnswers
from k2.fill.fetch import Fetched, Fetcher
from k2.fill.plan import Gap, Plan, make_plan, sources
from k2.fill.ranges import Range, merged, within
from k2.model.errors import SettingsError
from k2.ops.failpoints import Name, arm
from k2.ops.settings import Settings
from tests.fill.venue_server import AT_US, VenueServer, serving

MISSING = [Range(11, 13), Range(17, 17)]
SYMBOLS = {"binance-futures": "BTCUSDT", "kraken": "BTC/USD", "binance-futures-aggtrade": "BTCUSD_PERP"}
EXCHANGES = [*dict.fromkeys(source.exchange for source in sources())]


def at(number: int) -> datetime:
    """Return the time of a trade of the server."""
    return datetime.fromtimestamp(AT_US / 1_000_000, UTC) + timedelta(seconds=number)


NOW = at(60)


def gaps(exchange: str, missing: Sequence[Range] = MISSING) -> list[Gap]:
    """Return the gaps of a symbol of an exchange."""
    symbol = SYMBOLS.get(exchange, "BTCUSDT")
    return [Gap(exchange, symbol, first, last, at(first - 1), at(last + 1)) for first, last in missing]


@pytest.fixture
def server() -> Iterator[VenueServer]:
    """Yield a server of venues that have 1 to 40."""
    with serving(VenueServer(range(1, 41))) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a folder without tables."""
    return Settings(data_dir=tmp_path)


class Times:
    """A clock that only sleep advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.slept.append(seconds)
        self.now += seconds

    def fetcher(self, settings: Settings, server: VenueServer) -> Fetcher:
        """Return a fetcher with this clock."""
        return Fetcher(settings, server.address, sleep=self.sleep, clock=lambda: self.now)


def fetched(settings: Settings, server: VenueServer, plan: Plan) -> list[Fetched]:
    """Send the requests of a plan without waiting."""
    return [*Times().fetcher(settings, server).fetch(plan)]


def numbers(found: Sequence[Fetched]) -> list[Range]:
    """Return which of the missing numbers the answers have."""
    trades = [one.archive.trades["sequence"].to_pylist() for one in found if one.archive is not None]
    return within(merged((number, number) for page in trades for number in page), 11, 13) + within(
        merged((number, number) for page in trades for number in page), 17, 17
    )


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_each_venue_is_paged_through_faults(exchange: str, server: VenueServer, settings: Settings) -> None:
    """A 429, a cut in the middle and a 503 before each answer; then every missing number is in one, with its origin."""
    server.faults = lambda _path, count: {1: "429:7", 2: "cut", 3: "503"}.get(count, "")
    times = Times()
    found = [*times.fetcher(settings, server).fetch(make_plan(gaps(exchange), NOW))]
    assert [one.problem for one in found if one.problem] == []
    assert numbers(found) == MISSING
    assert 7 in times.slept
    (agent,) = server.agents
    assert agent.startswith("k2-trades")
    for one in found:
        assert one.archive is not None
        kind, digest, address = one.origin.split(" ")
        assert (kind, digest) == ("rest", f"sha256:{one.archive.sha256}")
        assert address.startswith(server.address)
        row = one.archive.trades.to_pylist()[0]
        assert (row["exchange"], row["symbol"], row["side"]) == (exchange, SYMBOLS.get(exchange, "BTCUSDT"), "sell")
        assert row["timestamp"] // 1_000_000 == AT_US // 1_000_000 + row["sequence"]


def test_an_archive_is_compared_with_its_checksum(server: VenueServer, settings: Settings) -> None:
    """Its origin has the hash of the file; a checksum of another file is a problem, and nothing is kept."""
    old = make_plan(gaps("binance", [Range(11, 30_000)]), at(3 * 86_400))
    assert [request.kind for request in old.requests] == ["archive"]
    (one,) = fetched(settings, server, old)
    assert one.archive is not None
    assert one.origin.startswith(f"archive sha256:{one.archive.sha256} {server.address}/data/spot/daily/trades/")
    assert one.archive.trades.num_rows == 40
    (request,) = old.requests
    other = msgspec.structs.replace(request, address=request.address.replace("BTCUSDT", "other"))
    server.numbers = Shrinking(server.numbers)
    (refused,) = fetched(settings, server, Plan(NOW, [other], []))
    assert "differs from its checksum" in refused.problem


class Shrinking(list[int]):
    """Numbers of which each reader gets fewer than the one before."""

    def __iter__(self) -> Iterator[int]:
        read = super().copy()
        del self[-1:]
        return iter(read)


def test_an_answer_that_is_kept_is_not_requested_again(server: VenueServer, settings: Settings) -> None:
    """Also after a kill between two requests, or a damaged file; what may grow is requested again."""
    plan = make_plan([*gaps("deribit"), *gaps("okx"), *gaps("htx")], NOW)
    passed = 0

    def once(name: Name) -> None:
        nonlocal passed
        passed += name == "fill.answered"
        if passed == 2:
            raise KeyboardInterrupt

    arm(once)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetched(settings, server, plan)
    finally:
        arm(None)
    with (settings.data_dir / "fetched" / INDEX).open("ab") as index:
        index.write(b'{"url":"torn')
    first = fetched(settings, server, plan)
    again = fetched(settings, server, plan)
    assert [one.origin for one in again] == [one.origin for one in first]
    paths = [url.partition("?")[0].rpartition("/")[2] for url in server.urls]
    # The htx answer is not kept, and okx was requested again since its answer was not named before the kill.
    assert {path: paths.count(path) for path in set(paths)} == {
        "get_last_trades_by_instrument": 1,
        "trade": 3,
        "history-trades": 2 if plan.requests[-1].exchange == "okx" else 1,
    }
    kept = KeptAnswers(settings)
    url = first[0].origin.split(" ")[2]
    (settings.data_dir / "fetched" / str(first[0].archive and first[0].archive.sha256)).write_bytes(b"damaged")
    assert kept.find(url) is None


def test_requests_to_one_host_are_spaced(server: VenueServer, settings: Settings) -> None:
    """By the venue's limit: 300 requests a minute of Coinbase are five a second."""
    times = Times()
    plan = make_plan(gaps("coinbase", [Range(1, 3_000)]), NOW)
    assert len(plan.requests) == 3
    [*times.fetcher(settings, server).fetch(plan)]
    assert times.slept == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize(
    ("fault", "problem", "sent"),
    [
        ("400", r"status 400 'no'; the venue does not have it", 1),
        ("418:3600", r"status 418, the venue asks to wait 3600 s", 1),
        ("503", r"status 503; run the command again later, and it goes on from here", 6),
        ("cut", r"no whole answer: IncompleteRead", 6),
    ],
)
def test_what_no_attempt_gives_is_a_problem(
    server: VenueServer, settings: Settings, fault: str, problem: str, sent: int
) -> None:
    """In one sentence with the address, and the other requests are sent nevertheless."""
    server.faults = lambda path, _count: fault if "deribit" in path or "instrument" in path else ""
    found = fetched(settings, server, make_plan([*gaps("deribit"), *gaps("okx")], NOW))
    (failed,) = (one for one in found if one.problem)
    assert failed.request.exchange == "deribit"
    assert problem in failed.problem
    assert server.counts["/api/v2/public/get_last_trades_by_instrument"] == sent
    assert numbers(found) == MISSING


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            '{"error":["EAPI:Rate limit exceeded"]}',
            'the answer has no trades: \'{"error":["EAPI:Rate limit exceeded"]}\'',
        ),
        ("<html>back soon</html>", "cannot be read: JSON is malformed"),
    ],
)
def test_an_error_with_status_200_is_not_kept(
    server: VenueServer, settings: Settings, answer: str, problem: str
) -> None:
    """It is a problem, and the next call sends the request again."""
    made = make_plan(gaps("kraken"), NOW)
    server.faults = lambda _path, count: f"200:{answer}" if count == 1 else ""
    (failed,) = fetched(settings, server, made)
    assert problem in failed.problem
    assert numbers(fetched(settings, server, made)) == MISSING


def test_what_may_grow_is_requested_again(server: VenueServer, settings: Settings) -> None:
    """Above the newest stored trade, the venue may have more by the next call."""
    tail = [Gap("deribit", "BTCUSDT", 11, 17, at(10), None)]
    server.numbers = range(1, 13)
    assert numbers(fetched(settings, server, make_plan(tail, NOW))) == [Range(11, 12)]
    server.numbers = range(1, 18)
    assert numbers(fetched(settings, server, make_plan(tail, NOW))) == MISSING


def test_an_address_is_checked(settings: Settings) -> None:
    """Only http and https are spoken."""
    with pytest.raises(SettingsError, match="is no address"):
        Fetcher(settings, "ftp:" + "//127.0.0.1")


def test_a_gap_that_the_venue_lacks_ends_the_paging(server: VenueServer, settings: Settings) -> None:
    """Pages are requested until they are past the gap."""
    server.numbers = [number for number in range(1, 41) if number not in {12, 13}]
    found: list[Any] = fetched(settings, server, make_plan(gaps("kraken"), NOW))
    assert numbers(found) == [Range(11, 11), Range(17, 17)]
    assert len(found) < 6

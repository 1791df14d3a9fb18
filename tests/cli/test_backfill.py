"""`k2 backfill`: what it prints, and what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from k2.fill.forms import forms
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.fill.archive_files import binance_day, recorded
from tests.fill.venue_server import VenueServer, serving
from tests.query.tables import append, event, made, numbered

K2 = Callable[..., Result]
DOCS = Path(__file__).parents[2] / "docs" / "backfill.md"


@pytest.fixture
def day(settings: Settings, tmp_path: Path) -> Path:
    """Return a daily file of ten trades, of which the job has none and knows that three are missing."""
    lines = recorded("binance-spot-btcusdt-20240808")[:10]
    first = json.loads(lines[0])["t"]
    missing = [event("session_started", 1, 1, session=1), event("gap_opened", first, first + 1, session=1)]
    append(made(settings, TableName.SEQUENCE_EVENTS), [*missing, event("gap_opened", first + 4, first + 4, session=1)])
    made(settings, TableName.TRADES)
    return binance_day(tmp_path, [line for line in lines if json.loads(line)["t"] != first + 1])


def test_a_dry_run_says_what_is_missing(day: Path, k2: K2) -> None:
    """In a table and as JSON; a capture of the same day, which has one more of them, is read by its venue."""
    result = k2("backfill", str(day), "--dry-run", "--json")
    (row,) = json.loads(result.stdout)
    assert (row["file"], row["form"]) == (day.name, "binance-spot-trades")
    assert (row["read"], row["published"], row["stored"], row["elsewhere"]) == (9, 2, 0, 7)
    assert row["topic"] == "trades"
    shown = k2("backfill", str(day), "--dry-run")
    assert "Would be published" in shown.stdout
    ((gone, _),) = row["absent"]
    assert f"BTCUSDT {gone} to {gone} are missing in the file as well" in shown.stderr
    assert "k2 gaps accept" in shown.stderr
    capture = day.with_name("capture.ndjson")
    capture.write_bytes(b"\n".join([*recorded("binance-spot-btcusdt-20240808")[:10], b"no json"]))
    other = k2("backfill", str(capture), "--venue", "binance-spot", "--dry-run", "--json")
    assert json.loads(other.stdout)[0]["published"] == 3
    assert "venue binance-spot rejects 1 message" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topic", "x"], "--topic 'x' is not in K2_TOPICS"),
        (["--symbol", "DOGE"], "had trades of binance DOGE"),
    ],
)
def test_what_is_refused(day: Path, k2: K2, arguments: list[str], message: str) -> None:
    """One sentence, and exit code 2."""
    result = k2("backfill", str(day), *arguments, "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_what_is_missing_as_requests(day: Path, k2: K2) -> None:
    """`k2 gaps --export`: a plan as JSON, or as a shell script; what it does not cover is on stderr."""
    first = json.loads(recorded("binance-spot-btcusdt-20240808")[0])["t"]
    result = k2("gaps", "--export", "--exchange", "binance")
    made_plan = json.loads(result.stdout)
    assert made_plan["format"] == 1
    (request,) = made_plan["requests"]
    assert (request["method"], request["address"].rpartition("/")[2]) == ("GET", "historicalTrades")
    assert request["parameters"] == {"symbol": "BTCUSDT", "fromId": str(first), "limit": "1000"}
    assert request["covers"] == [[first, first + 1], [first + 4, first + 4]]
    assert (request["missing"], request["weight"], made_plan["uncovered"]) == (3, 25, [])
    assert "3 missing in 1 request\n" in result.stderr
    script = k2("gaps", "--export", "--format", "curl").stdout.splitlines()
    assert script[0] == f"# binance BTCUSDT: {first}-{first + 1}, {first + 4}"
    assert script[1].startswith("curl -fsS")
    refused = k2("gaps", "--export", "--filled")
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_numbers_in_several_archives_are_counted_once(settings: Settings, k2: K2) -> None:
    """A gap over midnight is requested from both days."""
    rows = [numbered(number, hours, exchange="okx") for number, hours in ((1, 1), (6, 25))]
    append(made(settings, TableName.TRADES), rows)
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 2, 5, session=1, exchange="okx")])
    result = k2("gaps", "--export")
    assert [request["missing"] for request in json.loads(result.stdout)["requests"]] == [4, 4]
    assert "4 missing in 2 requests\n" in result.stderr


def test_a_gap_that_no_request_gives_is_named(day: Path, settings: Settings, k2: K2) -> None:
    """With the reason, and the plan is printed nevertheless."""
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 7, 9, exchange="x")])
    result = k2("gaps", "--export", "--exchange", "x")
    assert json.loads(result.stdout)["uncovered"][0]["missing"] == 3
    assert "x BTCUSDT 7 to 9 are in no request: no request of this exchange is known" in result.stderr


def test_what_is_missing_is_requested(day: Path, k2: K2, settings: Settings) -> None:
    """`--fetch` sends the plan, and backfills from the answers; what gives none is named, with exit code 1."""
    first = json.loads(recorded("binance-spot-btcusdt-20240808")[0])["t"]
    with serving(VenueServer(range(first, first + 3))) as server:
        arguments = ("backfill", "--fetch", "--dry-run", "--json", "--base-url", server.address)
        (row,) = json.loads(k2(*arguments, "--exchange", "binance").stdout)
        assert (row["published"], row["elsewhere"], row["form"]) == (2, 1, "binance-spot-rest")
        append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 7, 9, exchange="x")])
        again = k2(*arguments)
        # No stored trade is above the gap, so the answer may grow, and is not kept.
        assert server.counts.total() == 2
    assert again.exit_code == 1
    assert "x BTCUSDT 7 to 9: no request of this exchange is known" in again.stderr
    assert json.loads(again.stdout)[0]["published"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a FILE, or use --fetch"),
        (("a", "--form", "x"), "--form 'x' is not known"),
        (("a", "--venue", "x"), "unknown venue"),
        (("a", "--venue", "k2", "--form", "okx-rest"), "--venue and --form cannot be used together"),
        (("a", "b", "--source", "https://example.com/a"), "--source is the address of one file"),
        (("a",), "a cannot be read"),
        (("a", "--fetch"), "--fetch takes no FILE"),
        (("a", "--base-url", "http:" + "//127.0.0.1"), "--base-url belongs to it"),
    ],
)
def test_wrong_usage(settings: Settings, k2: K2, arguments: tuple[str, ...], message: str) -> None:
    """One sentence before anything is read; exit code 2."""
    result = k2("backfill", *arguments)
    assert (result.exit_code, message in result.stderr, result.stdout) == (2, True, "")


def test_the_forms_are_documented() -> None:
    """The page has a row for each form, with its exchange and what its trades are known by."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \| `([a-z-]+)` \| .* \| (\w+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE
    )
    kinds = {
        form.name: "range" if form.first_sequence else "number" if form.sequence else "id" for form in forms().values()
    }
    assert rows == [(form.name, form.exchange, kinds[form.name]) for form in forms().values()]


def test_an_empty_file_is_said(day: Path, k2: K2, tmp_path: Path) -> None:
    """There is no row for it."""
    path = tmp_path / "a.csv"
    path.write_text("instrument_name,trade_id,side,price,size,created_time\n", encoding="utf-8")
    result = k2("backfill", str(path), "--dry-run", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "a.csv: it has no trades, or none of that symbol" in result.stderr

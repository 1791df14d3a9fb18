"""The routes: the module's results, in each format, and their headers."""

import base64
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from k2.iceberg.tables import TableName
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query import query_builders
from k2.query.audit import audit
from k2.query.completeness import CompletenessParameters, by_day, by_hour, summary_by_day, summary_by_hour
from k2.query.days import days
from k2.query.dead_letters import count_by_error, count_dead_letters, count_with_replays, open_dead_letters
from k2.query.feeds import by_feed
from k2.query.gap_causes import explained
from k2.query.gaps import GapFilter, gaps
from k2.query.history import history
from k2.query.market import open_market
from k2.query.output_formats import to_json
from k2.query.partition_progress import progress
from k2.query.reconcile import reconcile
from tests.http.conftest import Client
from tests.model.dead_letters import dead_letter
from tests.query import tables
from tests.query.feed_tables import write_feeds
from tests.query.tables import EPOCH, append, conflict, made, set_progress, trade, write_letters

FILES = {
    "application/vnd.apache.arrow.stream": lambda body: pa.ipc.open_stream(body).read_all(),
    "application/vnd.apache.parquet": lambda body: pq.read_table(io.BytesIO(body)),
    "text/csv": lambda body: pa.csv.read_csv(io.BytesIO(body)),
}
SPAN = {"start": "2024-08-09T00:00:01Z", "end": "2024-08-09T00:10:00+00:00"}


@pytest.mark.parametrize("name", ["symbols", "trades", "latest", "ohlcv", "vwap", "twap"])
@pytest.mark.parametrize("asked", [{}, {"symbol": "é%_\\"}, {"exchange": "binance", **SPAN}, {"limit": "2"}])
def test_routes_return_the_modules_results(client: Any, market: Settings, name: str, asked: dict[str, str]) -> None:
    """A route returns what its query builder does, whatever filters are set."""
    with open_market(market) as module:
        expected = module.table(getattr(query_builders, name)(**asked)).to_pylist()
    reply = client.get(f"/v1/{name}", **asked)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.json == json.loads(to_json(expected))
    assert reply.headers["K2-Limit"] == asked.get("limit", "10000")


@pytest.mark.parametrize("name", ["ohlcv", "vwap", "twap"])
def test_intervals(client: Any, market: Settings, name: str) -> None:
    """A route accepts the intervals that the module does."""
    with open_market(market) as module:
        expected = module.table(getattr(query_builders, name)(interval="1s")).to_pylist()
    assert client.get(f"/v1/{name}", interval="1s").json == json.loads(to_json(expected))


def test_report_routes_return_the_reports(client: Any, market: Settings) -> None:
    """Each report's route returns the report."""
    which = client.get("/v1/gaps", which="all").json
    expected = json.loads(to_json(explained(market, gaps(market, which=GapFilter.ALL))))
    # The age of an open gap keeps growing.
    assert [{**row, "open_seconds": 0} for row in which] == [{**row, "open_seconds": 0} for row in expected]
    assert {row["symbol"] for row in client.get("/v1/gaps", symbol="BTCUSDT").json} == {"BTCUSDT"}
    asked = CompletenessParameters(symbol="BTCUSDT")
    found = {
        "/v1/completeness": by_day(market),
        "/v1/completeness?by=hour&symbol=BTCUSDT": by_hour(market, asked),
        "/v1/reconcile": reconcile(market),
        "/v1/days": days(market),
        "/v1/audit": audit(market),
    }
    for by, count in (("", count_dead_letters), ("?by=error", count_by_error)):
        letters = open_dead_letters(market, pytest.fail)
        found[f"/v1/dead-letters{by}"] = count_with_replays(count, market, letters, pytest.fail)
    for target, report in found.items():
        assert client.ask("GET", target).json == json.loads(to_json(report)), target


def test_feeds_have_a_route(tmp_path: Path, serve_at: Any) -> None:
    """With the rows of the report; a symbol and a time select."""
    settings = Settings(data_dir=tmp_path)
    write_feeds(settings)
    client = serve_at(settings)
    assert client.get("/v1/feeds").json == json.loads(to_json(by_feed(settings)))
    asked = {"symbol": "BTCUSDT", "end": "2100-01-01"}
    assert client.get("/v1/feeds", **asked).json == client.get("/v1/feeds").json[2:4] + client.get("/v1/feeds").json[6:]
    assert {row["symbol"] for row in client.get("/v1/feeds", by="exchange").json} == {None}
    assert client.get("/v1/feeds", as_of="7").status == 422


def test_reports_can_be_limited(client: Any, market: Settings) -> None:
    """The largest gaps and the least complete symbols are returned, in the reports' form."""
    largest = sorted(gaps(market), key=lambda gap: -gap.missing)
    reply = client.get("/v1/gaps", limit="1")
    assert [row["missing"] for row in reply.json] == [largest[0].missing]
    assert reply.headers["K2-Limit"] == "1"
    asked = {"by": "hour", "worst": "1", "containing": "btc"}
    expected = by_hour(market, CompletenessParameters(containing="btc", worst=1))
    assert client.get("/v1/completeness", **asked).json == json.loads(to_json(expected))
    assert client.get("/v1/progress").json == json.loads(to_json(progress(market)))
    for wrong in ({"worst": "0"}, {"containing": ""}, {"in_doubt": "yes"}):
        assert client.get("/v1/completeness", **wrong).status == 422


def test_completeness_has_totals_of_all_symbols(client: Any, market: Settings) -> None:
    """By day and by hour, whatever is selected of the symbols, which are not numbered: what they miss is unknown."""
    for asked in ({}, {"worst": "1"}, {"containing": "btc"}):
        selected = CompletenessParameters.model_validate(asked)
        reply = client.get("/v1/completeness/summary", **asked)
        assert reply.json == json.loads(to_json(summary_by_day(market, selected)))
        assert reply.json["rows"] == client.get("/v1/completeness", **asked).json
        assert (reply.json["totals"]["symbols"], reply.json["totals"]["symbols_not_numbered"]) == (3, 3)
        assert {(row["expected"], row["stored"], row["missing"], row["percent"]) for row in reply.json["rows"]} == {
            (None, 4, None, None)
        }
        hours = client.get("/v1/completeness/summary", by="hour", **asked).json
        assert hours == json.loads(to_json(summary_by_hour(market, selected)))
    assert client.get("/v1/completeness/summary", "text/csv").status == 406


def test_numbered_symbols_come_first(tmp_path: Path, serve_at: Callable[[Settings], Client]) -> None:
    """`worst` lists symbols that are not numbered after all others."""
    settings = Settings(data_dir=tmp_path / "data")
    numbers = [trade(number, symbol="NUMBERED", session=1) for number in (1, 2)]
    append(made(settings, TableName.TRADES), [*numbers, *(trade(number, symbol="MANY") for number in range(9))])
    client = serve_at(settings)
    found = [{row["symbol"] for row in client.get("/v1/completeness", worst=count).json} for count in ("1", "2")]
    assert found == [{"NUMBERED"}, {"NUMBERED", "MANY"}]
    totals = client.get("/v1/completeness/summary", worst="1").json["totals"]
    assert (totals["stored"], totals["not_numbered"], totals["expected"], totals["percent"]) == (11, 9, 2, 100.0)


def test_the_history_is_returned(client: Any, market: Settings) -> None:
    """By interval; the span and the limit select, and the default is the last 24 hours."""
    span = {"start": "2024-08-08T23:00:00Z", "end": "2024-08-09T01:00:00Z"}
    expected = history(market, timedelta(minutes=5), EPOCH - timedelta(hours=1), EPOCH + timedelta(hours=1))
    reply = client.get("/v1/history", interval="5m", **span)
    assert reply.json == json.loads(to_json(expected))
    opened = {row["start"]: row["gaps_opened"] for row in reply.json if row["gaps_opened"]}
    assert opened == {"2024-08-09T00:00:00Z": 2}
    assert client.get("/v1/history", limit="3", interval="5m", **span).json == reply.json[-3:]
    assert len(client.get("/v1/history").json) in {96, 97}
    for wrong in ({"start": span["end"], "end": span["start"]}, {"interval": "0m"}, {"limit": "10001"}):
        assert client.get("/v1/history", **wrong).status == 422


def test_dead_letters_are_listed(tmp_path: Path, serve_at: Callable[[Settings], Client]) -> None:
    """The newest of a reason, an error or a partition, the newest first; long messages are cut."""
    settings = Settings(data_dir=tmp_path / "data")
    long, binary = "é" * 5_000, base64.b64encode(bytes(range(256)) * 16).decode()
    letters = [
        dead_letter(1, error="price: not a decimal: 'x'", reason=Reason.INVALID, value=long),
        dead_letter(2, error="price: not a decimal: '1e'", reason=Reason.INVALID, value=None),
        dead_letter(3, value=binary, value_encoding="base64", partition=1),
    ]
    write_letters(settings, letters)
    client = serve_at(settings)

    def offsets(**asked: str) -> list[int]:
        return [row["offset"] for row in client.get("/v1/dead-letters/list", **asked).json]

    assert offsets() == [3, 2, 1]
    assert offsets(limit="2") == [3, 2]
    assert offsets(reason="invalid", partition="0") == [2, 1]
    assert offsets(topic="other") == offsets(partition="2") == []
    (cause,) = [one for one in client.get("/v1/dead-letters", by="error").json["errors"] if one["reason"] == "invalid"]
    assert offsets(error=cause["error"]) == [2, 1]
    assert offsets(error="price: not a decimal: 'x'") == [1]
    rows = client.get("/v1/dead-letters/list").json
    assert [(len(row["value"] or ""), row["value_bytes"]) for row in rows] == [
        (4_096, 4_096),
        (0, None),
        (4_096, 10_000),
    ]
    assert base64.b64decode(rows[0]["value"]) == (bytes(range(256)) * 16)[:3_072]
    table = FILES["text/csv"](client.get("/v1/dead-letters/list", "text/csv").body)
    assert (table.column_names, table.num_rows) == ([*rows[0]], 3)
    for wrong in ({"limit": "1001"}, {"reason": "x"}, {"error": "x" * 4_097}, {"by": "error"}):
        assert client.get("/v1/dead-letters/list", **wrong).status == 422


def test_numberings_in_doubt_are_reported(tmp_path: Path, serve_at: Callable[[Settings], Client]) -> None:
    """By day with the report's fields; `in_doubt` leaves out all other symbols, by day and by hour."""
    settings = Settings(data_dir=tmp_path / "data")
    table = made(settings, TableName.TRADES)
    append(table, [trade(one, symbol=name) for name in ("ETHUSDT", "BTCUSDT") for one in range(2)])
    set_progress(table, tables.progress(offset=9))
    write_letters(settings, [conflict(8, EPOCH)])
    client = serve_at(settings)
    by_symbol = {row["symbol"]: row for row in client.get("/v1/completeness").json}
    names = ("conflicts", "sessions", "numbering_in_doubt", "symbol_in_doubt")
    assert [by_symbol["BTCUSDT"][name] for name in names] == [1, 0, True, True]
    assert [by_symbol["ETHUSDT"][name] for name in names] == [0, 0, False, False]
    assert client.get("/v1/completeness", in_doubt="true").json == [by_symbol["BTCUSDT"]]
    assert client.get("/v1/completeness", in_doubt="false").json == [*by_symbol.values()]
    hours = client.get("/v1/completeness", in_doubt="true", by="hour").json
    assert {row["symbol"] for row in hours} == {"BTCUSDT"}


def test_an_earlier_time(client: Any) -> None:
    """As of a time before the table there is nothing; without a time, everything."""
    then = {"as_of": "2020-01-01"}
    assert client.get("/v1/trades", **then).json == []
    assert client.get("/v1/gaps", **then).json == []
    assert client.sql("SELECT count(*) AS n FROM trades", as_of="2020-01-01").json == [{"n": 0}]
    assert client.sql("SELECT count(*) AS n FROM trades").json == [{"n": 12}]


@pytest.mark.parametrize("media_type", FILES)
@pytest.mark.parametrize("path", ["/v1/trades", "/v1/completeness", "/v1/gaps", "/v1/reconcile"])
def test_each_format_has_the_rows(client: Any, media_type: str, path: str) -> None:
    """A file of each format has the names and row count of the JSON, and its content type."""
    rows = client.get(path).json
    reply = client.get(path, media_type)
    assert reply.headers["Content-Type"].split(";")[0] == media_type
    table = FILES[media_type](reply.body)
    assert (table.column_names, table.num_rows) == ([*rows[0]], len(rows))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("application/json;q=0, */*", "text/csv"),
        ("image/png, application/vnd.apache.parquet;q=0.1", "application/vnd.apache.parquet"),
        ("TEXT/CSV ; header=present ; q=1.000", "text/csv"),
        ("text/csv;q=nan, application/json;q=0.1", "application/json"),
        ("image/png", None),
        ("text/csv;q=0", None),
        ("text/csv;q=2e9999", None),
    ],
)
def test_the_format_is_negotiated(client: Any, accept: str | None, expected: str | None) -> None:
    """The format that the client prefers is returned, and 406 if it accepts none."""
    reply = client.get("/v1/symbols", accept)
    assert reply.status == (406 if expected is None else 200)
    assert reply.headers["Content-Type"].split(";")[0] == (expected or "application/problem+json")


def test_values_that_a_format_cannot_encode_are_rejected(client: Any) -> None:
    """The error is sent before the response begins, never after half of it."""
    assert client.sql("SELECT {'a': 1} AS one", "text/csv").status == 400
    assert client.sql("SELECT 1 AS a, 2 AS a").status == 400
    assert client.sql("SELECT TIMESTAMP '290000-01-01' AS late").status == 400
    assert client.sql("SELECT {'a': 1} AS one").json == [{"one": {"a": 1}}]


def test_responses_have_security_headers(client: Any) -> None:
    """Every response, also an error, forbids caching, sniffing and loading, and does not name the server software."""
    for reply in (
        client.get("/healthz"),
        client.get("/v1/symbols"),
        client.get("/none"),
        client.get("/v1/vwap", x="1"),
    ):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert not {"Server", "Access-Control-Allow-Origin"} & {*reply.headers}
    assert client.get("/healthz").json == {"status": "ok"}

"""Rejections: who may send requests, how much, and that no internal detail is revealed."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from pydantic import SecretStr

from k2.http.access import check_host
from k2.model.errors import SettingsError, TableError, UnreachableError
from k2.ops.settings import Settings
from k2.query import market as market_module

KEYS = (SecretStr("one"), SecretStr("zwei-ü"))
ROUTES = ("/v1/symbols", "/v1/gaps", "/v1/dead-letters", "/openapi.json", "/v1/none")


@pytest.fixture
def protected(serve: Callable[..., Any]) -> Any:
    """Return a client of a server with keys."""
    return serve(api_keys=KEYS)


def test_a_key_is_required(protected: Any) -> None:
    """With keys every route but the health check requires one, in either header, and reveals nothing else."""
    bad = [{}, {"X-API-Key": "o"}, {"X-API-Key": ""}, {"Authorization": "Basic one"}, {"Authorization": "Bearer onex"}]
    bad += [{"X-API-Key": "one", "Authorization": text} for text in ("Bearer", "Bearer onex", "one")]
    good = [{"X-API-Key": "one"}, {"Authorization": "Bearer one"}, {"Authorization": "bearer  one"}]
    good += [{"X-API-Key": "one", "Authorization": text} for text in ("Bearer one", "Basic proxy")]
    good += [{"X-API-Key": "zwei-ü".encode().decode("latin-1")}]
    for headers in bad:
        replies = [protected.ask("GET", route, headers=headers) for route in ROUTES]
        assert {reply.status for reply in replies} == {401}
        assert all(reply.headers["WWW-Authenticate"] == "Bearer" for reply in replies)
        assert len({reply.body for reply in replies}) == 1
    for headers in good:
        assert protected.ask("GET", "/v1/symbols", headers=headers).status == 200
        assert protected.ask("GET", "/v1/symbols", headers={**headers, "Host": "k2.example"}).status == 200
    assert protected.get("/healthz").status == 200
    assert protected.ask("GET", "/healthz/../v1/symbols").status == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "[::1].evil.example",
        "[::1",
        "localhost:80:evil.example",
        "localhost:80@evil.example",
    ],
)
def test_foreign_host_names_are_rejected(client: Any, host: str) -> None:
    """Without keys, a web page whose host name resolves to this machine cannot read anything."""
    assert client.ask("GET", "/v1/symbols", headers={"Host": host}).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.9.9.9:80", "[::1]:8080"])
def test_loopback_names_are_served(client: Any, host: str) -> None:
    """Without keys, this machine is served under its own names."""
    assert client.ask("GET", "/v1/symbols", headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])  # noqa: S104  refused
def test_other_machines_need_a_key(host: str) -> None:
    """Without keys, the server does not listen on an address that others could reach."""
    with pytest.raises(SettingsError, match=r"--host .* K2_API_KEYS"):
        check_host(Settings(), host)
    check_host(Settings(api_keys=KEYS), host)


def test_a_body_is_bounded(serve: Callable[..., Any]) -> None:
    """A body over the limit is rejected by its declared length, or by what arrives if none is declared."""
    client = serve(api_body_bytes_max=1_000)
    short, long = (json.dumps({"sql": "SELECT 1 AS one" + " " * count}).encode() for count in (10, 1_000))

    def pieces(body: bytes) -> Iterator[bytes]:
        yield from (body[at : at + 100] for at in range(0, len(body), 100))

    headers = {"Content-Type": "application/json"}
    for body, status in ((short, 200), (long, 413)):
        assert client.ask("POST", "/v1/sql", body, headers).status == status
        # Without a length the client sends the body in chunks.
        assert client.ask("POST", "/v1/sql", pieces(body), headers).status == status
        assert client.ask("GET", "/v1/symbols", pieces(body)).status in {200, status}
    with closing(client.connect()) as connection:
        connection.putrequest("POST", "/v1/sql")
        connection.putheader("Content-Length", "1001")
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_an_unfinished_body_times_out(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never ends its body gets an error after a while, and holds no resource until then."""
    monkeypatch.setattr("k2.http.concurrency_limit.BODY_SECONDS_MAX", 0.2)
    with closing(client.connect()) as connection:
        connection.putrequest("POST", "/v1/sql")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"{")
        assert connection.getresponse().status == 408


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/trades?symbl=a", "symbl"),
        ("/v1/trades?limit=0", "limit"),
        ("/v1/trades?limit=1000001", "limit"),
        ("/v1/trades?start=yesterday", "start"),
        ("/v1/trades?as_of=0", "as_of"),
        ("/v1/trades?exchange=", "exchange"),
        ("/v1/trades?symbol=a&symbol=b", "symbol"),
        ("/v1/trades?interval=1m", "interval"),
        ("/v1/ohlcv?interval=1y", "interval"),
        ("/v1/ohlcv?interval=10000d", "interval"),
        ("/v1/gaps?which=most", "which"),
        ("/v1/gaps?as_of=-1", "as_of"),
        ("/v1/completeness?by=week", "by"),
        ("/v1/reconcile?exchange=a", "exchange"),
        ("/v1/dead-letters?x=", "x"),
    ],
)
def test_a_wrong_field_is_named(client: Any, target: str, field: str) -> None:
    """Invalid parameters are a 422 that names the field."""
    reply = client.ask("GET", target)
    assert (reply.status, reply.headers["Content-Type"]) == (422, "application/problem+json")
    assert reply.json["field"] == field
    assert reply.json["detail"].startswith(f"{field}: ")
    assert {"type", "title", "status"} < {*reply.json}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"sql": "SELECT 1", "x": 1}', 422),
        ('{"sql": "SELECT 1", "limit": "5"}', 422),
        ('{"sql": "SELECT 1", "limit": 5.5}', 422),
        ('{"sql": "SELECT 1", "limit": 5.0}', 200),
        ('{"sql": "SELECT 1", "as_of": 1.0}', 200),
        ('{"sql": 1}', 422),
        ('{"sql": "\\ud800"}', 400),
        ("[]", 422),
        ("{", 422),
        ("", 422),
        ("[" * 100_000, 400),
        ('{"sql": ""}', 400),
        ('{"sql": "DROP TABLE trades"}', 400),
        ('{"sql": "SELECT * FROM read_csv(\'x.csv\')"}', 400),
        ('{"sql": "SELECT 1", "as_of": 1}', 200),
        ('{"sql": "SELECT * FROM trades", "as_of": 1}', 404),
    ],
)
def test_sql_is_checked(client: Any, body: str, status: int) -> None:
    """An invalid or forbidden statement is rejected; never a 500."""
    reply = client.ask("POST", "/v1/sql", body, {"Content-Type": "application/json"})
    assert reply.status == status
    assert client.ask("POST", "/v1/sql", '{"sql": "SELECT 1"}', {"Content-Type": "text/plain"}).status == 422


def test_missing_tables_are_404(bare: Any, tmp_path: Any) -> None:
    """If there are no tables each route returns 404, without the path it looked in."""
    reports = ("gaps", "completeness", "completeness/summary", "reconcile", "audit", "dead-letters")
    for name in ("symbols", "trades", *reports):
        reply = bare.get(f"/v1/{name}")
        assert reply.status == 404, name
        assert str(tmp_path).encode() not in reply.body
    assert bare.sql("SELECT 1 AS one").json == [{"one": 1}]


@pytest.mark.parametrize("error", [RuntimeError, TableError, SettingsError, UnreachableError])
def test_no_internal_detail_is_revealed(
    client: Any, market: Settings, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """An unexpected error is a 500 with only an id; errors of settings and folders are described in general words."""

    def broken(*_: object) -> None:
        raise error(f"secret in {market.data_dir}")

    monkeypatch.setattr(market_module, "existing_table", broken)
    reply = client.get("/v1/symbols")
    assert reply.status == (503 if error is UnreachableError else 500)
    assert not [
        word
        for word in (b"secret", b"Traceback", error.__name__.encode(), str(market.data_dir).encode())
        if word in reply.body
    ]
    assert ("id" in reply.json) is (reply.status == 500)
    assert (reply.headers["Retry-After"] is None) is (reply.status == 500)


def test_paths_are_removed_from_errors(client: Any, market: Settings) -> None:
    """A message of DuckDB that names a folder of this machine is sent without it."""
    reply = client.sql(f"SELECT error('in {market.data_dir}/warehouse/x')")
    assert reply.status == 400
    assert str(market.data_dir).encode() not in reply.body

"""Hostile text through every parameter of every route is taken literally or rejected."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PAYLOADS = [
    "' OR '1'='1",
    "' OR 1=1 --",
    "a'; DROP TABLE trades; --",
    '" OR ""="',
    "BTCUSDT' UNION SELECT * FROM read_text('/etc/passwd') --",
    "') OR exists(SELECT 1) --",
    "$symbol",
    "?",
    "BTCUSDT%00' OR 1=1",
    "%' OR symbol LIKE '%",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "../../etc/passwd",
    "\x00",
    "BTCUSDT\r\nX-Other: 1",
    "é%_\\",
    "1; ATTACH 'x.db'",
    "NULL",
    "trades",
    "\u202eBTCUSDT",
    "😀",
]
MARKET = ("symbols", "trades", "latest", "ohlcv", "vwap", "twap")
FIELDS = ("start", "end", "as_of", "limit", "interval", "which", "by", "reason", "partition")
STORED = {"BTCUSDT", "a'; DROP TABLE trades; --", "é%_\\"}


def check_literal(client: Any, route: str, field: str, text: str) -> None:
    """Compare a response with what a literal match returns."""
    reply = client.ask("GET", f"/v1/{route}?{field}={quote(text, safe='')}")
    if reply.status == 422:
        assert len(text.encode()) > 1024 or text == ""
        return
    assert reply.status == 200
    found = {row[field] for row in reply.json}
    stored = STORED if field == "symbol" else {"binance"}
    # Every row matches the name, and there are rows exactly if the name is stored.
    assert found == ({text} & stored if route != "gaps" else found & {text})


@pytest.mark.parametrize("route", [*MARKET, "gaps", "completeness"])
def test_names_are_taken_literally(client: Any, route: str) -> None:
    """An exchange or symbol matches only itself, however it is written."""
    # All routes share their filters: all texts are tried on one route of each kind.
    texts = PAYLOADS if route in {"symbols", "gaps"} else PAYLOADS[:4]
    for text in texts:
        check_literal(client, route, "symbol", text)
    for text in PAYLOADS[:4]:
        check_literal(client, route, "exchange", text)


def test_errors_and_topics_of_dead_letters_are_taken_literally(client: Any) -> None:
    """An error or a topic matches only itself, whatever it contains."""
    (letter,) = client.get("/v1/dead-letters/list").json
    for field in ("error", "topic"):
        assert client.get("/v1/dead-letters/list", **{field: letter[field]}).json == [letter]
        for text in {*PAYLOADS} - {letter[field]}:
            reply = client.ask("GET", f"/v1/dead-letters/list?{field}={quote(text, safe='')}")
            assert (reply.status, reply.json) == (200, []), text


@settings(max_examples=20)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_is_taken_literally(client: Any, text: str) -> None:
    """Text of any characters is an unknown symbol and causes no error."""
    check_literal(client, "symbols", "symbol", text)


@pytest.mark.parametrize("field", FIELDS)
def test_other_fields_reject_hostile_text(client: Any, field: str) -> None:
    """A field that is not a name accepts none of it."""
    letters = dict.fromkeys(("reason", "partition"), "dead-letters/list")
    route = {"which": "gaps", "by": "completeness", "interval": "ohlcv", **letters}.get(field, "trades")
    for text in PAYLOADS:
        reply = client.ask("GET", f"/v1/{route}?{field}={quote(text, safe='')}")
        assert (reply.status, reply.json["field"]) == (422, field), text


def test_the_rows_survive_hostile_text(client: Any) -> None:
    """After all of these requests the rows are still there."""
    for text in PAYLOADS:
        assert client.sql(text).status == 400
    assert client.sql("SELECT count(*) AS n FROM trades").json == [{"n": 12}]

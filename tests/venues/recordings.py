"""Recordings of venues, and their trades as plain scripts read them from the JSON, without the code under test."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["RECORDINGS", "Expected", "Recording", "lines_of"]

DATA: Final = Path(__file__).parents[1] / "data"
EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
OPPOSITE: Final = {"buy": "sell", "sell": "buy"}


class Expected(NamedTuple):
    """A trade as a message of the recording has it."""

    symbol: str
    trade_id: str | None
    sequence: int | None
    price: Decimal
    quantity: Decimal
    side: str
    microseconds: int


class Recording(NamedTuple):
    """A recording, how its trades are read, and how many messages are no trades."""

    venue: str
    file: str
    trades: Callable[[Any], Iterator[Expected]]
    skipped: dict[str, int]


def lines_of(file: str) -> list[bytes]:
    """Return the messages of a recording."""
    return gzip.decompress((DATA / f"{file}.ndjson.gz").read_bytes()).splitlines()


def parse(line: bytes) -> Any:
    """Parse a message with decimals instead of floats."""
    return json.loads(line, parse_float=Decimal)


def rfc_3339(text: str) -> int:
    """Return microseconds since the epoch."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def aggregate(message: Any) -> Iterator[Expected]:
    """Read Binance's @aggTrade in a combined stream: by the numbers of aggregates, which futures have."""
    one = message["data"]
    side = "sell" if one["m"] else "buy"
    yield Expected(one["s"], str(one["a"]), one["a"], Decimal(one["p"]), Decimal(one["q"]), side, one["T"] * 1000)


def spot_aggregate(message: Any) -> Iterator[Expected]:
    """Read Binance's @aggTrade of the spot market, by the number of the last trade of the aggregate."""
    (one,) = aggregate(message)
    yield one._replace(sequence=message["data"]["l"])


def coinbase(message: Any) -> Iterator[Expected]:
    """Read Coinbase's match, whose side is the maker's."""
    if message["type"] in {"match", "last_match"}:
        number, side, time = message["trade_id"], OPPOSITE[message["side"]], rfc_3339(message["time"])
        price, size = Decimal(message["price"]), Decimal(message["size"])
        yield Expected(message["product_id"], str(number), number, price, size, side, time)


def okx(message: Any) -> Iterator[Expected]:
    """Read OKX's trades."""
    for one in message.get("data", []):
        price, size, time = Decimal(one["px"]), Decimal(one["sz"]), int(one["ts"]) * 1000
        yield Expected(one["instId"], one["tradeId"], int(one["tradeId"]), price, size, one["side"], time)


def kraken_v1(message: Any) -> Iterator[Expected]:
    """Read Kraken's arrays, whose trades have no id."""
    if isinstance(message, list):
        for price, volume, time, side, *_ in message[1]:
            microseconds, word = int(Decimal(time) * 1_000_000), "buy" if side == "b" else "sell"
            yield Expected(message[3], None, None, Decimal(price), Decimal(volume), word, microseconds)


def bitmex(message: Any) -> Iterator[Expected]:
    """Read BitMEX's partial and insert."""
    for one in message.get("data", []):
        price, size, side = Decimal(one["price"]), Decimal(one["size"]), one["side"].lower()
        yield Expected(one["symbol"], one["trdMatchID"], None, price, size, side, rfc_3339(one["timestamp"]))


def bitfinex(message: Any) -> Iterator[Expected]:
    """Read Bitfinex's te, tu and snapshots, the latter backwards."""
    if isinstance(message, list) and message[1] != "hb":
        for number, time, amount, price in reversed(message[1]) if isinstance(message[1], list) else [message[2]]:
            side, size = "sell" if amount < 0 else "buy", abs(Decimal(amount))
            yield Expected(str(message[0]), str(number), number, Decimal(price), size, side, time * 1000)


def bitstamp(message: Any) -> Iterator[Expected]:
    """Read Bitstamp's texts."""
    if message["event"] == "trade":
        one, symbol = message["data"], message["channel"].removeprefix("live_trades_")
        price, size, side = Decimal(one["price_str"]), Decimal(one["amount_str"]), ("buy", "sell")[one["type"]]
        yield Expected(symbol, str(one["id"]), one["id"], price, size, side, int(one["microtimestamp"]))


def kucoin(message: Any) -> Iterator[Expected]:
    """Read KuCoin's matches, whose time is in nanoseconds."""
    if message["type"] == "message":
        one = message["data"]
        price, size, time = Decimal(one["price"]), Decimal(one["size"]), int(one["time"]) // 1000
        yield Expected(one["symbol"], one["tradeId"], int(one["sequence"]), price, size, one["side"], time)


def gate(message: Any) -> Iterator[Expected]:
    """Read Gate's trades, whose time is milliseconds with decimals."""
    if message["event"] == "update":
        one = message["result"]
        price, size, time = Decimal(one["price"]), Decimal(one["amount"]), int(Decimal(one["create_time_ms"]) * 1000)
        yield Expected(one["currency_pair"], str(one["id"]), one["id"], price, size, one["side"], time)


def htx(message: Any) -> Iterator[Expected]:
    """Read HTX's trades backwards."""
    for one in reversed(message.get("tick", {}).get("data", [])):
        price, size, number = Decimal(one["price"]), Decimal(one["amount"]), one["tradeId"]
        symbol = message["ch"].split(".")[1]
        yield Expected(symbol, str(number), number, price, size, one["direction"], one["ts"] * 1000)


def upbit(message: Any) -> Iterator[Expected]:
    """Read Upbit's SIMPLE format."""
    side, number = {"ASK": "sell", "BID": "buy"}[message["ab"]], message["sid"]
    price, size, time = Decimal(message["tp"]), Decimal(message["tv"]), message["ttms"] * 1000
    yield Expected(message["cd"], str(number), number, price, size, side, time)


REPLIES: Final = "subscription_reply"
RECORDINGS: Final = (
    Recording("binance-spot-aggtrade", "binance-spot-aggtrade-combined", spot_aggregate, {}),
    Recording("binance-futures-aggtrade", "binance-usdm-aggtrade-combined", aggregate, {}),
    Recording("coinbase", "coinbase-exchange-match-ticker-mixed", coinbase, {REPLIES: 3, "head_number": 107}),
    Recording("okx", "okx-v5-trades-2021-conn1", okx, {REPLIES: 10}),
    Recording("okx", "okx-v5-trades-2021-conn2", okx, {REPLIES: 10}),
    Recording("okx", "okx-v5-trades-2021-conn3", okx, {REPLIES: 10}),
    Recording("okx", "okx-v5-trades-withacks-2022", okx, {REPLIES: 6}),
    Recording("kraken-v1", "kraken-v1-trade", kraken_v1, {REPLIES: 20, "status": 2, "heartbeat": 149}),
    Recording("bitmex", "bitmex-trade", bitmex, {REPLIES: 10, "status": 1}),
    Recording("bitfinex", "bitfinex-trades-seq", bitfinex, {REPLIES: 9, "status": 1, "heartbeat": 53}),
    Recording("bitstamp", "bitstamp-live_trades", bitstamp, {REPLIES: 10}),
    Recording("kucoin", "kucoin-match", kucoin, {REPLIES: 13, "status": 1}),
    Recording("gate-until-2024", "gateio-v4-spot-trades", gate, {REPLIES: 1}),
    Recording("htx", "huobi-spot-trade", htx, {REPLIES: 10, "heartbeat": 6}),
    Recording("upbit-simple", "upbit-trade-simple", upbit, {}),
)

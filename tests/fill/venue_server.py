"""A server on loopback that answers as venues do: pages, limits, archives, and faults on the way."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from tests.fill.archive_files import zipped

__all__ = ["AT_US", "VenueServer", "serving"]

AT_US: Final = 1_723_161_600_000_000
"""The time of trade 0; each is a second after the one before."""
PRICE: Final = "2.5"
Query = Mapping[str, str]


@dataclass
class VenueServer:
    """What each venue has: the trades with these numbers, whatever the symbol."""

    numbers: Sequence[int]
    address: str = ""
    faults: Callable[[str, int], str] = lambda _path, _count: ""
    """The fault of the n-th request for a path: `cut`, a status, or a status with `Retry-After`, as `429:7`."""
    urls: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def answer(self, path: str, query: Query) -> bytes | None:
        """Return the answer of a venue; None if nothing is there."""
        name = path.rpartition("/")[2]
        if name.endswith(".CHECKSUM"):
            content = self._archive(name.removesuffix(".CHECKSUM"))
            return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        if name.endswith(".zip"):
            return self._archive(name)
        rows = _ANSWERS.get(name)
        return None if rows is None else json.dumps(rows(self.numbers, query, path)).encode()

    def _archive(self, name: str) -> bytes:
        lines = [f"{number},{PRICE},2,5.0,{_ms(number)},True,True" for number in self.numbers]
        return zipped(name.replace(".zip", ".csv"), "\n".join(lines) + "\n")


def _ms(number: int) -> int:
    # Within a day, however high the numbers are.
    return AT_US // 1_000 + number % 86_400 * 1_000


def _from(numbers: Sequence[int], first: int, limit: int) -> list[int]:
    return [number for number in numbers if number >= first][:limit]


def _before(numbers: Sequence[int], before: int, limit: int) -> list[int]:
    """Return a page downwards, the newest first."""
    return [number for number in reversed(numbers) if number < before][:limit]


def _binance(numbers: Sequence[int], query: Query, path: str) -> Any:
    common = {"price": PRICE, "qty": "2", "quoteQty": "5", "isBuyerMaker": True}
    more = {"isBestMatch": True} if "/api/v3/" in path else {}
    page = _from(numbers, int(query["fromId"]), int(query["limit"]))
    return [{"id": number, "time": _ms(number), **common, **more} for number in page]


def _binance_aggregates(numbers: Sequence[int], query: Query, _path: str) -> Any:
    common = {"p": PRICE, "q": "2", "f": 7, "l": 9, "m": True}
    return [{"a": number, "T": _ms(number), **common} for number in _from(numbers, int(query["fromId"]), 1_000)]


def _coinbase(numbers: Sequence[int], query: Query, _path: str) -> Any:
    common = {"price": PRICE, "size": "2", "side": "buy"}
    page = _before(numbers, int(query["after"]), int(query["limit"]))
    return [
        {"trade_id": number, "time": f"2024-08-09T00:{number // 60:02}:{number % 60:02}Z", **common} for number in page
    ]


def _kraken(numbers: Sequence[int], query: Query, _path: str) -> Any:
    """Return trades after a time, at most three, and where the next page begins."""
    since = int(query["since"])
    page = [number for number in numbers if _ms(number) * 1_000_000 > since][:3]
    rows = [[PRICE, "2", _ms(number) // 1_000, "s", "m", "", number] for number in page]
    last = str(_ms(page[-1]) * 1_000_000) if page else query["since"]
    return {"error": [], "result": {query["pair"]: rows, "last": last}}


def _deribit(numbers: Sequence[int], query: Query, _path: str) -> Any:
    first, last = int(query["start_seq"]), int(query["end_seq"])
    common = {"instrument_name": query["instrument_name"], "direction": "sell", "price": 2.5, "amount": 2.0}
    page = [number for number in numbers if first <= number <= last]
    trades = [{"trade_seq": one, "trade_id": f"E-{one}", "timestamp": _ms(one), **common} for one in page]
    return {"jsonrpc": "2.0", "result": {"trades": trades, "has_more": False}}


def _okx(numbers: Sequence[int], query: Query, _path: str) -> Any:
    common = {"instId": query["instId"], "px": PRICE, "sz": "2", "side": "sell"}
    page = _before(numbers, int(query["after"]), int(query["limit"]))
    return {"code": "0", "data": [{"tradeId": str(one), "ts": str(_ms(one)), **common} for one in page]}


def _gate(numbers: Sequence[int], query: Query, _path: str) -> Any:
    """Return two trades of a page between two times, the newest first."""
    within = [one for one in reversed(numbers) if int(query["from"]) <= _ms(one) // 1_000 <= int(query["to"])]
    start = 2 * (int(query["page"]) - 1)
    common = {"currency_pair": query["currency_pair"], "side": "sell", "amount": "2", "price": PRICE}
    return [
        {"id": str(9_000 + one), "sequence_id": str(one), "create_time_ms": f"{_ms(one)}.5", **common}
        for one in within[start : start + 2]
    ]


def _htx(numbers: Sequence[int], query: Query, _path: str) -> Any:
    common = {"amount": 2.0, "price": 2.5, "direction": "sell"}
    trades = [{"trade-id": one, "ts": _ms(one), "id": one, **common} for one in reversed(numbers)]
    return {"status": "ok", "data": [{"id": 1, "ts": 2, "data": [one]} for one in trades[: int(query["size"])]]}


_ANSWERS: Final[dict[str, Callable[[Sequence[int], Query, str], Any]]] = {
    "historicalTrades": _binance,
    "aggTrades": _binance_aggregates,
    "Trades": _kraken,
    "get_last_trades_by_instrument": _deribit,
    "history-trades": _okx,
    "trades": lambda numbers, query, path: (_gate if "currency_pair" in query else _coinbase)(numbers, query, path),
    "trade": _htx,
}


@contextmanager
def serving(server: VenueServer) -> Iterator[VenueServer]:
    """Serve on a free port of loopback for a block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            server.urls.append(self.path)
            server.agents.add(self.headers["User-Agent"])
            server.counts[parts.path] += 1
            fault, _, after = server.faults(parts.path, server.counts[parts.path]).partition(":")
            content = server.answer(parts.path, dict(parse_qsl(parts.query)))
            status = int(fault) if fault.isdecimal() else 200 if content is not None else 404
            body = content if status == 200 and content is not None else b"no"
            if fault == "200":
                body, after = after.encode(), ""
            self.send_response(status)
            if after:
                self.send_header("Retry-After", after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.address = "http:" + f"//127.0.0.1:{listener.server_address[1]}"
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()

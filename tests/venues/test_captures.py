"""Real captures under the venue's rule, with seeded faults: all counts are those of the lines' plain JSON."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from k2.model.batch import TradeSlice
from k2.model.consumed import Consumed
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.verdicts import DUPLICATE, SKIPPED, STORED
from k2.ops.metrics import OUT_OF_ORDER
from k2.venues import VENUES
from tests.flows.job_io import message_batch, run_in_memory
from tests.venues.messages import printed

DATA: Final = Path(__file__).parents[1] / "data"
CAPTURES: Final = {
    "binance-spot": "binance-spot-btcusdt-20240808",
    "binance-futures": "binance-coinm-btcusd_perp-20240808",
    "coinbase": "coinbase-match-20210417",
    "okx": "okx-trades-20220513",
    "bybit": "bybit-v2-trade-20210417",
}
COUNTS_GAPS: Final = ("binance-spot", "binance-futures", "coinbase", "okx")
TAKERS: Final = {"buy": "sell", "sell": "buy"}
EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
OFF_BOOK: Final = (b"INSURANCE_FUND", b"ADL", b"NA")


class LineTrade(NamedTuple):
    """A trade as a line of the capture describes it."""

    symbol: str
    identity: str
    number: int | None
    price: Decimal
    quantity: Decimal
    side: str
    timestamp: int
    is_market: bool = True


def lines_of(venue: str) -> list[bytes]:
    """Return the messages of a capture."""
    return gzip.decompress((DATA / f"{CAPTURES[venue]}.ndjson.gz").read_bytes()).splitlines()


def trades_of(venue: str, line: bytes) -> Iterator[LineTrade]:
    """Read a line's trades with only `json`."""
    message: dict[str, Any] = json.loads(line, parse_float=Decimal)
    match venue:
        case "coinbase":
            time = (datetime.fromisoformat(message["time"]) - EPOCH) // timedelta(microseconds=1)
            number = message["trade_id"]
            price, size, taker = Decimal(message["price"]), Decimal(message["size"]), TAKERS[message["side"]]
            yield LineTrade(message["product_id"], str(number), number, price, size, taker, time)
        case "okx":
            for one in message["data"]:
                price, size, time = Decimal(one["px"]), Decimal(one["sz"]), int(one["ts"]) * 1000
                yield LineTrade(one["instId"], one["tradeId"], int(one["tradeId"]), price, size, one["side"], time)
        case "bybit":
            for one in message["data"]:
                price, size, time = Decimal(one["price"]), Decimal(one["size"]), int(one["trade_time_ms"]) * 1000
                yield LineTrade(one["symbol"], one["trade_id"], None, price, size, one["side"].lower(), time)
        case _:
            price, size, taker = Decimal(message["p"]), Decimal(message["q"]), "sell" if message["m"] else "buy"
            is_market = message.get("X", "MARKET") == "MARKET"
            number, time = message["t"], message["T"] * 1000
            yield LineTrade(message["s"], str(number), number, price, size, taker, time, is_market)


@pytest.mark.parametrize("venue", CAPTURES)
def test_every_trade_of_a_capture_is_read(venue: str) -> None:
    """Names, numbers, values, taker's side and time are those of the line, and the key is the symbol's."""
    for line in lines_of(venue):
        trades = VENUES[venue].decode(line)
        found = [LineTrade(*printed(trade)) for trade in trades]
        assert found == list(trades_of(venue, line))
        assert {f"{trade.exchange}|{trade.symbol}" for trade in trades} == {VENUES[venue].key(line)}


def faulty(venue: str, seed: int) -> list[bytes]:
    """Drop, repeat and move lines, and turn some futures trades into non-market ones."""
    random, lines = Random(f"{venue} {seed}"), list[tuple[int, bytes]]()
    for place, line in enumerate(lines_of(venue)):
        if venue == "binance-futures" and random.random() < 0.05:
            line = line.replace(b"MARKET", random.choice(OFF_BOOK))  # noqa: PLW2901
        if random.random() > 0.1:
            lines.append((place + random.choice([0] * 20 + [9]), line))
        if random.random() < 0.04:
            lines.append((place + random.randrange(40), line))
    return [line for _, line in sorted(lines, key=lambda placed: placed[0])]


class Counts(NamedTuple):
    """The counts of a plain reading of the lines."""

    rows: Counter[str]
    duplicates: Counter[str]
    skipped: Counter[str]
    disorder: int
    missing: dict[str, set[int]]


def expected_of(venue: str, lines: list[bytes]) -> Counts:
    """Count with dictionaries and sets."""
    rows, duplicates, skipped = Counter[str](), Counter[str](), Counter[str]()
    highest, seen, disorder = dict[str, int](), defaultdict[str, set[str]](set), 0
    for one in (one for line in lines for one in trades_of(venue, line)):
        is_new = one.identity not in seen[one.symbol]
        seen[one.symbol].add(one.identity)
        (rows if is_new else duplicates)[one.symbol] += one.is_market
        skipped[one.symbol] += not one.is_market
        if one.number is not None:
            is_late = one.number < highest.get(one.symbol, one.number)
            # Only if numbers have no holes is it known at once that a late trade is not a copy.
            disorder += is_late and (is_new or venue not in COUNTS_GAPS)
            highest[one.symbol] = max(highest.get(one.symbol, one.number), one.number)
    missing = {
        symbol: {*range(min(numbers), max(numbers))} - numbers
        for symbol, numbers in ((symbol, {*map(int, ids)}) for symbol, ids in seen.items() if venue in COUNTS_GAPS)
    }
    holes = {symbol: numbers for symbol, numbers in missing.items() if numbers}
    return Counts(+rows, +duplicates, +skipped, disorder, holes)


def rows_with(verdict: int, out: list[tuple[str, TradeSlice | Consumed]]) -> Counter[str]:
    """Count the rows with a verdict that reached the writer, by symbol."""
    pieces = [piece for _, piece in out if isinstance(piece, TradeSlice)]
    return Counter(
        piece.batch.columns.name(row)[1] for piece in pieces for row in piece.rows[piece.verdicts == verdict].tolist()
    )


def missing_of(out: list[tuple[str, list[SequenceEvent]]]) -> dict[str, set[int]]:
    """Return what the ledger's events leave missing."""
    missing = defaultdict[str, set[int]](set)
    for event in (event for _, some in out for event in some):
        numbers = {*range(event.first_sequence, event.last_sequence + 1)}
        if event.event is EventKind.GAP_OPENED:
            missing[event.symbol] |= numbers
        elif event.event is EventKind.GAP_FILLED:
            missing[event.symbol] -= numbers
    return {symbol: numbers for symbol, numbers in missing.items() if numbers}


def found_of(venue: str, lines: list[bytes]) -> Counts:
    """Count the outcomes of the flow for the lines, read in polls of 37."""
    exchange = VENUES[venue].exchange
    assert exchange is not None
    pieces = [(at, [(None, line) for line in lines[at : at + 37]]) for at in range(0, len(lines), 37)]
    before = OUT_OF_ORDER.labels(exchange)._value.get()
    out = run_in_memory({"trades:0": [message_batch(piece, at, venue=venue) for at, piece in pieces]})
    rows, duplicates, skipped = (rows_with(verdict, out["iceberg"]) for verdict in (STORED, DUPLICATE, SKIPPED))
    disorder = int(OUT_OF_ORDER.labels(exchange)._value.get() - before)
    return Counts(rows, duplicates, skipped, disorder, missing_of(out["events"]))


@pytest.mark.parametrize("venue", CAPTURES)
def test_an_unmodified_capture_has_neither_gaps_nor_duplicates(venue: str) -> None:
    """Nothing is missing or doubled in what an exchange sent, and the flow finds nothing."""
    lines = lines_of(venue)
    rows = Counter(one.symbol for line in lines for one in trades_of(venue, line))
    assert found_of(venue, lines) == Counts(rows, Counter(), Counter(), 0, {})


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("venue", CAPTURES)
def test_counts_are_those_of_a_plain_script(venue: str, seed: int) -> None:
    """Rows, duplicates, skipped, disorder and missing numbers, with gaps only on venues without holes."""
    lines = faulty(venue, seed)
    expected = expected_of(venue, lines)
    assert found_of(venue, lines) == expected
    assert expected.duplicates
    assert bool(expected.disorder) == (venue != "bybit")
    assert bool(expected.missing) == (venue in COUNTS_GAPS)
    assert bool(expected.skipped) == (venue == "binance-futures")

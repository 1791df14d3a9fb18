"""Seeded messages of a market with faults, for the benchmarks, and the counts that a correct job arrives at."""

import json
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from k2.kafka.producer import Headers, TradeProducer
from k2.ops.settings import read_settings
from tests.brokers import Broker

__all__ = ["FAULTS", "Mixture", "topic_of"]

EXCHANGE: Final = "coinbase"
FIRST_TIME_US: Final = 1_700_000_000_000_000
FIRST_NUMBER: Final = 1_000
STEP_US: Final = 100
"""Microseconds from one trade to the next."""
FAULTS: Final = ("malformed", "duplicates", "gaps", "conflicts", "late", "restarts", "new_symbols", "foreign")
"""The kinds of faults of which a mixture has shares."""
FOREIGN: Final = (
    b'{"e":"trade","E":1700000000100,"s":"BTCUSDT","t":12345,"p":"37000.10","q":"0.50","T":1700000000099,"m":true}'
)
"""A message in the form of Binance."""


class Mixture(msgspec.Struct, frozen=True):
    """Messages of one topic. Shares are of the messages; the symbols trade as unevenly as those of a real market."""

    messages: int
    symbols: int = 300
    value_bytes: int = 200
    """About; a longer value has a field that no venue reads."""
    malformed: float = 0.001
    duplicates: float = 0.004
    """A trade is published again, some messages later."""
    gaps: float = 0.0005
    """A number is left out."""
    conflicts: float = 0.0
    """A number is used again for another trade."""
    late: float = 0.0
    """A trade comes behind the next `late_by` messages of its symbol."""
    restarts: float = 0.0
    """The numbers of a symbol begin again."""
    new_symbols: float = 0.0
    """The first trade of a symbol, which has no other."""
    foreign: float = 0.0
    """A message of another venue."""
    late_by: int = 1
    seed: int = 7

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values; the same for the same mixture on every machine."""
        random = np.random.default_rng(self.seed)
        weights = 1 / np.arange(1, self.symbols + 1) ** 0.5
        symbols = random.choice(self.symbols, size=self.messages, p=weights / weights.sum()).tolist()
        bounds = np.cumsum([getattr(self, kind) for kind in FAULTS])
        faults = np.searchsorted(bounds, random.random(self.messages), side="right").tolist()
        ticks = random.integers(-3, 4, self.messages).tolist()
        lots = random.integers(1, 10_000, self.messages).tolist()
        market = [_Symbol(f"SYM-{symbol:05d}", 6_000_000 + symbol) for symbol in range(self.symbols)]
        for message_idx, (symbol_id, kind) in enumerate(zip(symbols, faults, strict=True)):
            fault = FAULTS[kind] if kind < len(FAULTS) else ""
            symbol = market[symbol_id]
            if fault == "new_symbols":
                symbol = _Symbol(f"NEW-{message_idx:07d}", 6_000_000)
            key, earlier = f"{EXCHANGE}|{symbol.name}".encode(), symbol.last
            symbol.messages += 1
            if fault == "duplicates" and earlier is not None:
                yield key, earlier
                continue
            if symbol.late and symbol.late[0][0] <= symbol.messages:
                yield key, symbol.late.popleft()[1]
                continue
            if fault == "restarts":
                symbol.number = FIRST_NUMBER
                symbol.late.clear()
            number = symbol.number
            if fault == "conflicts" and earlier is not None:
                number -= 1
            elif fault == "gaps":
                number += 1
            symbol.price += ticks[message_idx]
            value = self._value(symbol, number, lots[message_idx], message_idx)
            if fault == "late":
                symbol.late.append((symbol.messages + self.late_by, value))
                number += 1
                value = self._value(symbol, number, lots[message_idx], message_idx)
            if fault == "malformed":
                yield key, _broken(value, message_idx)
                continue
            if fault == "foreign":
                yield key, FOREIGN
                continue
            if number >= symbol.number:
                symbol.number = number + 1
                symbol.last = value
            yield key, value

    def _value(self, symbol: "_Symbol", number: int, lot: int, message_idx: int) -> bytes:
        time_us = FIRST_TIME_US + message_idx * STEP_US
        value = (
            f'{{"exchange":"{EXCHANGE}","symbol":"{symbol.name}","trade_id":"{number}-{lot}",'
            f'"sequence":{number},"price":"{symbol.price // 100}.{symbol.price % 100:02d}",'
            f'"quantity":"{lot // 100}.{lot % 100:02d}","side":"{"buy" if lot % 2 else "sell"}",'
            f'"timestamp":{time_us},"received":{time_us + 50}'
        )
        missing = self.value_bytes - len(value) - len(',"note":""}')
        return f'{value},"note":"{"x" * missing}"}}'.encode() if missing > 0 else f"{value}}}".encode()


class _Symbol:
    """What the next message of a symbol depends on."""

    def __init__(self, name: str, price: int) -> None:
        self.name = name
        self.price = price
        """In hundredths."""
        self.number = FIRST_NUMBER
        self.last: bytes | None = None
        self.late: deque[tuple[int, bytes]] = deque()
        """Values, each with the number of messages of the symbol at which it is due."""
        self.messages = 0


def _broken(value: bytes, message_idx: int) -> bytes:
    """Return a value that is cut, has a quantity that is not positive, or a time that is none."""
    if message_idx % 3 == 0:
        return value[: len(value) // 2]
    trade = json.loads(value)
    trade |= {"quantity": "-1"} if message_idx % 3 == 1 else {"timestamp": "noon"}
    return json.dumps(trade, separators=(",", ":")).encode()


def topic_of(
    broker: Broker, mixture: Mixture, partitions: int = 4, *, headers: Headers = (), is_empty: bool = False
) -> str:
    """Create a topic with the messages of a mixture, lz4, with these headers, and as tombstones if `is_empty`."""
    topic = broker.topic(partitions=partitions)
    with TradeProducer(read_settings({}, bootstrap_servers=broker.bootstrap_servers), topic) as producer:
        for key, value in mixture.records():
            producer.send(key, None if is_empty else value, headers=headers)
    return topic

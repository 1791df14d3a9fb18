"""Seeded messages of a market with faults, for the benchmarks, and the counts that a correct job arrives at."""

import json
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from k2.kafka.producer import TradeProducer
from k2.ops.settings import read_settings
from tests.brokers import Broker

__all__ = ["Mixture", "publish", "topic_of"]

EXCHANGE: Final = "coinbase"
FIRST_TIME_US: Final = 1_700_000_000_000_000
FIRST_NUMBER: Final = 1_000
STEP_US: Final = 100
"""Microseconds from one trade to the next."""


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
    seed: int = 7

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values; the same for the same mixture on every machine."""
        random = np.random.default_rng(self.seed)
        weights = 1 / np.arange(1, self.symbols + 1) ** 0.5
        symbols = random.choice(self.symbols, size=self.messages, p=weights / weights.sum()).tolist()
        faults = random.random(self.messages).tolist()
        ticks = random.integers(-3, 4, self.messages).tolist()
        lots = random.integers(1, 10_000, self.messages).tolist()
        keys = [f"{EXCHANGE}|SYM-{symbol:05d}".encode() for symbol in range(self.symbols)]
        numbers = [FIRST_NUMBER] * self.symbols
        prices = [6_000_000 + symbol for symbol in range(self.symbols)]
        last: list[bytes | None] = [None] * self.symbols
        malformed = self.malformed
        duplicates = malformed + self.duplicates
        gaps = duplicates + self.gaps
        conflicts = gaps + self.conflicts
        for message_idx, (symbol, fault) in enumerate(zip(symbols, faults, strict=True)):
            earlier = last[symbol]
            if malformed <= fault < duplicates and earlier is not None:
                yield keys[symbol], earlier
                continue
            number = numbers[symbol]
            if gaps <= fault < conflicts and earlier is not None:
                number -= 1
            elif duplicates <= fault < gaps:
                number += 1
            prices[symbol] += ticks[message_idx]
            value = self._value(symbol, number, prices[symbol], lots[message_idx], message_idx)
            if fault < malformed:
                yield keys[symbol], _broken(value, message_idx)
                continue
            if number >= numbers[symbol]:
                numbers[symbol] = number + 1
                last[symbol] = value
            yield keys[symbol], value

    def _value(self, symbol: int, number: int, price: int, lot: int, message_idx: int) -> bytes:
        time_us = FIRST_TIME_US + message_idx * STEP_US
        value = (
            f'{{"exchange":"{EXCHANGE}","symbol":"SYM-{symbol:05d}","trade_id":"{number}-{lot}",'
            f'"sequence":{number},"price":"{price // 100}.{price % 100:02d}",'
            f'"quantity":"{lot // 100}.{lot % 100:02d}","side":"{"buy" if lot % 2 else "sell"}",'
            f'"timestamp":{time_us},"received":{time_us + 50}'
        )
        missing = self.value_bytes - len(value) - len(',"note":""}')
        return f'{value},"note":"{"x" * missing}"}}'.encode() if missing > 0 else f"{value}}}".encode()


def _broken(value: bytes, message_idx: int) -> bytes:
    """Return a value that is cut, has a quantity that is not positive, or a time that is none."""
    if message_idx % 3 == 0:
        return value[: len(value) // 2]
    trade = json.loads(value)
    trade |= {"quantity": "-1"} if message_idx % 3 == 1 else {"timestamp": "noon"}
    return json.dumps(trade, separators=(",", ":")).encode()


def publish(broker: Broker, topic: str, mixture: Mixture, compression: str = "lz4") -> None:
    """Publish the messages of a mixture, in batches with this compression."""
    settings = read_settings({}, bootstrap_servers=broker.bootstrap_servers)
    with TradeProducer(settings, topic, **{"compression.type": compression}) as producer:
        for key, value in mixture.records():
            producer.send(key, value)


def topic_of(broker: Broker, mixture: Mixture, partitions: int = 4, compression: str = "lz4") -> str:
    """Create a topic with the messages of a mixture."""
    topic = broker.topic(partitions=partitions)
    publish(broker, topic, mixture, compression)
    return topic

"""A feed of live trades, published as they happen."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import Producer

from tests.flows.job import Job
from tests.flows.market import Message, publish

__all__ = ["SYMBOLS", "Feed", "now_us"]

SYMBOLS: Final = 4


class Feed:
    """A feed of live trades, numbered without a gap unless one is left."""

    def __init__(self, job: Job, topic: str) -> None:
        self._job, self._topic = job, topic
        self.number = 0

    def send(self, count: int, **fields: Any) -> None:
        """Publish trades of each symbol, with some fields other than usual."""
        self._publish([fields] * count, SYMBOLS)

    def send_at(self, timestamps: Sequence[int], symbols: int = SYMBOLS) -> None:
        """Publish a trade of each of the first symbols at each venue time."""
        self._publish([{"timestamp": timestamp} for timestamp in timestamps], symbols)

    def send_stamped(self, count: int, timestamp_ms: int) -> None:
        """Publish trades of each symbol with this Kafka timestamp, and that venue time unless it is ahead."""
        timestamp = min(timestamp_ms * 1_000, now_us())
        producer = Producer({"bootstrap.servers": self._job.bootstrap_servers})
        for _ in range(count):
            self.number += 1
            for symbol in range(SYMBOLS):
                key, value = self._trade(symbol, timestamp=timestamp)
                producer.produce(self._topic, value, key, timestamp=timestamp_ms)
        assert producer.flush(30) == 0

    def _publish(self, rounds: Sequence[dict[str, Any]], symbols: int) -> None:
        messages = []
        for fields in rounds:
            self.number += 1
            messages += [self._trade(symbol, **fields) for symbol in range(symbols)]
        publish(self._job.bootstrap_servers, self._topic, messages)

    def _trade(self, symbol: int, **fields: Any) -> Message:
        content = {"exchange": "x", "symbol": f"S{symbol}", "sequence": self.number, "price": "1", "quantity": "1"}
        return f"x|S{symbol}".encode(), json.dumps(content | {"timestamp": now_us()} | fields).encode()


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1_000

"""A small market with faults of every kind, published, and the job's results in a form to compare."""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pyarrow.compute as pc

from k2.kafka.producer import TradeProducer
from k2.query.reconcile import reconcile
from tests.flows.job import Job
from tests.query.tables import missing_now

__all__ = ["Publisher", "assert_reconciled", "assert_same", "content", "dead_letters_of", "market", "publish", "trade"]

FIRST_TIME: Final = 1_700_000_000_000_000
CONTENT: Final = [
    "exchange",
    "symbol",
    "trade_id",
    "sequence",
    "session",
    "price",
    "quantity",
    "side",
    "timestamp",
    "topic",
    "partition",
    "offset",
    "index",
    "kafka_timestamp",
]

Message = tuple[bytes, bytes]


def trade(number: int, symbol: str = "S", timestamp: int | None = None) -> Message:
    """Return one good trade, as key and value; its venue time (microseconds) follows from the number by default."""
    fields = {"exchange": "x", "symbol": symbol, "sequence": number, "price": f"{number}.5", "quantity": "1"}
    timestamp = FIRST_TIME + number if timestamp is None else timestamp
    return f"x|{symbol}".encode(), json.dumps(fields | {"timestamp": timestamp}).encode()


def market(symbols: int, rounds: int) -> list[Message]:
    """Return a market with gaps, duplicates, trades without a number, and truncated messages."""
    messages: list[Message] = []
    for number in range(1, rounds + 1):
        for symbol in range(symbols):
            place = number * symbols + symbol
            if place % 97 == 0:
                continue
            sequence: int | None = number if symbol % 5 else None
            fields = {"exchange": f"x{symbol % 3}", "symbol": f"S{symbol}", "sequence": sequence}
            fields |= {"trade_id": f"{symbol}-{number}", "price": f"{place}.{number:03d}", "quantity": "0.5"}
            fields |= {"side": "sell", "timestamp": FIRST_TIME + place}
            key, value = f"x{symbol % 3}|S{symbol}".encode(), json.dumps(fields).encode()
            messages += [(key, value)] * (2 if place % 53 == 0 else 1)
            if place % 211 == 0:
                messages.append((key, value[:-5]))
    return messages


def publish(servers: str, topic: str, messages: Iterable[Message], partition: int = -1) -> None:
    """Publish messages, all acknowledged, to the partitions that their keys choose unless one is given."""
    settings = Job(servers, Path(), topic).settings
    with TradeProducer(settings, topic) as producer:
        for key, value in messages:
            producer.send(key, value, partition=partition)


class Publisher:
    """Publishes from a thread of its own, only so far ahead of the committed offsets that no run reaches the end."""

    def __init__(self, servers: str, topic: str, messages: Sequence[Message], ahead: int = 1_200) -> None:
        self._messages, self._ahead = messages, ahead
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=publish, args=(servers, topic, self))
        self.committed = 0
        """The number of committed messages, which the test updates."""

    def __iter__(self) -> Iterator[Message]:
        for place, message in enumerate(self._messages):
            while place > self.committed + self._ahead and not self._hurry.wait(0.01):
                pass
            yield message

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Publish the rest."""
        self._hurry.set()
        self._thread.join()


def content(job: Job) -> list[dict[str, Any]]:
    """Return a table's rows, in the order of the topics."""
    order = [("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
    rows: list[dict[str, Any]] = job.table().select(CONTENT).sort_by(order).to_pylist()
    return rows


def _ledger(job: Job) -> tuple[list[Any], list[Any]]:
    """Return what the ledger says: the missing numbers, and the start of each session.

    Rows are not compared one by one: events that a crash kept from the ledger are written later, in fewer rows.
    """
    started = job.table("sequence_events").filter(pc.field("event") == "session_started")
    return missing_now(job.settings), sorted(started.select(["exchange", "symbol", "session"]).to_pylist(), key=str)


def dead_letters_of(job: Job) -> list[tuple[object, ...]]:
    """Return the dead letters, in the order of the topics."""
    return sorted(
        (letter.topic, letter.partition, letter.offset, letter.value, letter.error) for letter in job.letters()
    )


def assert_reconciled(job: Job) -> None:
    """Compare the rows and dead letters with the progress."""
    rows = reconcile(job.settings)
    assert rows
    assert all(row.holds for row in rows), rows


def assert_same(job: Job, quiet: Job) -> None:
    """Compare a job's rows, dead letters and ledger with those of one undisturbed run over the same topics."""
    assert content(job) == content(quiet)
    assert dead_letters_of(job) == dead_letters_of(quiet)
    assert _ledger(job) == _ledger(quiet)
    assert_reconciled(job)

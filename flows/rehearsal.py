"""A run of the dataflow on a small market in memory, into tables that are deleted: it calls every rule of the job.

The arguments of a rule determine its compiled form, and only the dataflow itself surely passes the right ones.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import cluster_main

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.kafka.librdkafka import read_nothing
from k2.model.batch import MessageBatch
from k2.model.content import NON_MARKET_CONTENT
from k2.model.progress import TopicPartition
from k2.model.reasons import RejectedError
from k2.model.symbols import Symbols
from k2.model.times import time_of
from k2.ops.settings import Settings, read_settings
from k2.restore.connections import TableConnectionSource
from k2.restore.feeds import TableFeedSource
from k2.restore.tables import TableStateSource
from k2.sequencing.fingerprints import Fingerprints
from k2.venues import VENUES
from k2.venues.reading import NESTING_MAX

__all__ = ["TOPICS", "numbers_of", "rehearse"]

START_US: Final = 1_723_161_300_000_000
TRADES: Final = 600
"""Of each topic in each run, so that the numbers of a symbol fill a page of fingerprints, and begin the next."""
SYMBOLS: Final = 2


def rehearse() -> None:
    """Run the dataflow twice, the second time from the state that the first has left in the tables."""
    read_nothing()
    with tempfile.TemporaryDirectory(prefix="k2-rehearsal-") as folder:
        settings = read_settings(
            {
                # So that no catalog that the user has configured is used.
                "K2_CATALOG": "k2-rehearsal",
                "K2_TOPICS": ",".join(f"{topic}={venue}" for topic, (venue, _) in TOPICS.items()),
                "K2_FEEDS": "numbers=A,copies=B",
            },
            data_dir=Path(folder),
        )
        for run in range(2):
            _run(settings, run)
    _call_rare_rules()


def _call_rare_rules() -> None:
    """Call what the dataflow needs for other processes, for messages with many brackets, and for contents not read."""
    where, nested = TopicPartition("numbers", 0), b"[" * (NESTING_MAX + 1)
    _batch(where, "k2", 0, [nested]).take(np.zeros(1, dtype=np.int32))
    with contextlib.suppress(RejectedError):
        VENUES["k2"].decode(nested)
    fingerprints = Fingerprints()
    fingerprints.put(0, 1, 0, NON_MARKET_CONTENT, START_US)
    fingerprints.has_unknown(0, 1, 0, [(0, 0)])


def _run(settings: Settings, run: int) -> None:
    """Run the dataflow on the next trades of each topic, until all are committed."""
    progress, symbols = read_progress(settings), Symbols()
    trades = TradesSink(settings, progress, symbols=symbols)
    trades.open()
    events = LedgerSink(settings, progress, fence=trades)
    events.open()
    job_io = JobIO(
        kafka=_Source(run),
        iceberg=trades,
        events=events,
        state_source=TableStateSource(settings, symbols=symbols),
        symbols=symbols,
        connections=TableConnectionSource(settings, trades.committer.table),
        feeds=TableFeedSource(settings, trades.committer.table),
    )
    cluster_main(trades_flow(job_io, settings), [], 0)  # type: ignore[no-untyped-call]


def _numbers(number: int) -> dict[str, object]:
    """Return a numbered trade as a canonical message."""
    return {**_ids(number), "sequence": number // SYMBOLS + 1}


def _ids(number: int) -> dict[str, object]:
    """Return a trade that is known by its id alone."""
    trade = {"exchange": "x", "symbol": f"S{number % SYMBOLS}", "trade_id": str(number), "side": "buy"}
    return {**trade, "price": "1.5", "quantity": "2", "timestamp": _time_us(number)}


def _sparse(number: int) -> dict[str, object]:
    """Return a trade far above the one before, so that each takes a page of fingerprints."""
    return {**_ids(number), "symbol": "S", "exchange": "sparse", "sequence": 1_000 * number}


def _table(number: int) -> dict[str, object]:
    """Return a message of dYdX, whose messages are numbered by connection."""
    trade = {"id": f"{number:08x}", "side": "BUY", "size": "2", "price": "1.5", "createdAt": _rfc3339(number)}
    frame = {"type": "channel_data", "connection_id": "c", "message_id": number, "channel": "v4_trades"}
    return {**frame, "id": f"S{number % SYMBOLS}-USD", "contents": {"trades": [trade]}}


def _ticker(number: int) -> dict[str, object]:
    """Return a ticker of Coinbase, whose numbers only ascend."""
    trade = {"type": "ticker", "product_id": f"S{number % SYMBOLS}-USD", "trade_id": 10 * number, "side": "buy"}
    return {**trade, "price": "1.5", "last_size": "2", "time": _rfc3339(number)}


TOPICS: Final[dict[str, tuple[str, Callable[[int], dict[str, object]]]]] = {
    "numbers": ("k2", _numbers),
    "copies": ("k2", _numbers),
    "sparse": ("k2", _sparse),
    "ids": ("k2", _ids),
    "table": ("dydx", _table),
    "ticker": ("coinbase-ticker", _ticker),
}
"""Venue and messages of each topic: in code and by a table, and of each mode of numbering that has rules of its own."""


def _time_us(number: int) -> int:
    return START_US + 1_000_000 * number


def _rfc3339(number: int) -> str:
    return time_of(_time_us(number)).isoformat().replace("+00:00", "Z")


def numbers_of(run: int) -> list[int]:
    """Return the numbers of the trades of a run as they arrive: some are missing, some late, some come twice.

    The last ones are copies of trades of the first run, which a second one looks up in the table.
    """
    numbers = range(run * TRADES, (run + 1) * TRADES)
    late = [number for number in numbers if number % 50 < SYMBOLS]
    return [*(number for number in numbers if number % 50 >= SYMBOLS), *late[:-SYMBOLS], *numbers[:20], *range(20)]


class _Messages(StatefulSourcePartition[MessageBatch, None]):
    def __init__(self, batches: Sequence[MessageBatch]) -> None:
        self._batches = [*batches]

    def next_batch(self) -> Iterable[MessageBatch]:
        if not self._batches:
            raise StopIteration
        return [self._batches.pop(0)]

    def snapshot(self) -> None:
        return None


class _Source(FixedPartitionedSource[MessageBatch, None]):
    """One partition of each topic, with the messages of a run."""

    def __init__(self, run: int) -> None:
        self._run = run

    def list_parts(self) -> list[str]:
        return [str(TopicPartition(topic, 0)) for topic in TOPICS]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Messages:  # noqa: ARG002
        where = TopicPartition.parse(for_part)
        venue, message = TOPICS[where.topic]
        numbers = numbers_of(self._run)
        batch = _batch(where, venue, self._run * len(numbers), [json.dumps(message(one)).encode() for one in numbers])
        return _Messages([MessageBatch.first(where, venue, batch.first_offset), batch])


def _batch(where: TopicPartition, venue: str, first_offset: int, values: Sequence[bytes]) -> MessageBatch:
    sizes = np.array([len(value) for value in values], dtype=np.int32)
    offsets = np.arange(first_offset, first_offset + len(values), dtype=np.int64)
    return MessageBatch(
        topic=where.topic,
        partition=where.partition,
        venue=venue,
        first_offset=first_offset,
        next_offset=first_offset + len(values),
        offsets=offsets,
        kafka_timestamps=START_US + 1_000_000 * offsets,
        # Writable, as what the job reads.
        data=np.frombuffer(bytearray().join(values), dtype=np.uint8),
        value_starts=np.cumsum(sizes, dtype=np.int64) - sizes,
        value_sizes=sizes,
        key_starts=np.zeros(len(values), dtype=np.int64),
        key_sizes=np.full(len(values), -1, dtype=np.int32),
    )

"""`k2 produce --table`: publish stored trades as canonical messages, for replays and tests of consumers."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import pyarrow as pa
import typer

from k2.cli.console import print_record, progress
from k2.cli.options import parse_span, parse_time_option
from k2.iceberg.table_progress import read_progress
from k2.kafka.producer import Headers, TradeProducer
from k2.model.errors import SettingsError
from k2.model.origin import ORIGIN_HEADER, VENUE_HEADER
from k2.ops.settings import Settings
from k2.query.ordered_trades import OrderedTrades, TradeOrder
from k2.query.parameters import RowsParameters, make_parameters
from k2.query.pool import FilesGoneError, Pool
from k2.venues.canonical_message import CanonicalMessage, canonical_message

__all__ = ["Selection", "check_not_read", "publish_table"]

ROWS_BETWEEN_PROGRESS: Final = 1_000
_FILLS: Final = b"k2-fill"
"""The venue that reads the first number of a range."""


class Selection(NamedTuple):
    """The options that select trades."""

    exchange: str | None
    symbol: str | None
    start: str | None
    end: str | None
    day: str | None

    def parameters(self) -> RowsParameters:
        """Return the selection as parameters of queries.

        Raises:
            SettingsError: a time is not one, or the span is empty.
        """
        start, end = self._span()
        return make_parameters(RowsParameters, exchange=self.exchange, symbol=self.symbol, start=start, end=end)

    def _span(self) -> tuple[datetime | None, datetime | None]:
        if self.day is None:
            return parse_span(self.start, self.end)
        if self.start is not None or self.end is not None:
            raise SettingsError("--day is a span of its own; leave out --start and --end, or --day")
        day = parse_time_option("--day", self.day)
        if day.time() != datetime.min.time():
            raise SettingsError(f"--day {self.day!r}: not a day; use a form such as 2024-08-09")
        return day, day + timedelta(days=1)


class _Message(NamedTuple):
    key: bytes
    value: bytes
    timestamp: int
    """Venue time, microseconds since the epoch."""
    recorded: int
    """When it was received, else the venue time; microseconds since the epoch."""
    headers: Headers


def check_not_read(settings: Settings, topic: str, *, is_confirmed: bool) -> None:
    """Reject a topic that the job reads, unless that is confirmed.

    Raises:
        SettingsError: the topic is in `K2_TOPICS`, or the table has progress of it.
    """
    read = {one.topic for one in settings.topics} | {one.topic for one in read_progress(settings).partitions()}
    if topic in read and not is_confirmed:
        raise SettingsError(
            f"--topic {topic}: the job reads it, so the table's own trades would come back: those with a number count "
            "as duplicates, and those without one are stored a second time unless their ids are within "
            "K2_DEDUP_WINDOW_SECONDS; name another topic, or add --yes"
        )


def publish_table(
    settings: Settings,
    topic: str,
    selection: Selection,
    order: str,
    partitions: int,
    wait: Callable[[int], None],
    *,
    has_trade_times: bool,
    as_json: bool,
) -> None:
    """Publish the selected trades, and print what was published.

    `wait` is called before each message with the time at which it was recorded, microseconds since the epoch.

    Raises:
        FilesGoneError: upkeep has removed a data file; the message says up to which trade was published.
    """
    began, published, last, parameters = time.monotonic(), 0, 0, selection.parameters()
    with ExitStack() as opened:
        pool = opened.enter_context(Pool(settings, connections=1))
        trades = OrderedTrades(settings, parameters, TradeOrder(order), pool)
        producer = opened.enter_context(TradeProducer(settings, topic))
        producer.ensure_topic(partitions=partitions)
        try:
            with progress("publishing", trades.count()) as bar:
                for message in _messages(trades):
                    wait(message.recorded)
                    producer.send(
                        message.key,
                        message.value,
                        timestamp_ms=message.timestamp // 1_000 if has_trade_times else None,
                        headers=message.headers,
                    )
                    published, last = published + 1, message.timestamp
                    if published % ROWS_BETWEEN_PROGRESS == 0:
                        bar.update(bar.task_ids[0], completed=published)
        except FilesGoneError as error:
            raise FilesGoneError(
                f"{error}; {published:,} trades were published, the last of {last} microseconds since the epoch: "
                "publish the rest by --start"
            ) from error
    if not published:
        typer.echo("k2: no trade is selected", err=True)
    print_record(
        {"topic": topic, "published": published, "seconds": round(time.monotonic() - began, 3)}, as_json=as_json
    )


def _messages(trades: OrderedTrades) -> Iterator[_Message]:
    for batch in trades.batches():
        yield from _of_batch(batch)


def _of_batch(batch: pa.RecordBatch) -> Iterator[_Message]:
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    origins = columns.pop("origin")
    for origin, *values in zip(origins, *columns.values(), strict=True):
        trade = CanonicalMessage(**dict(zip(columns, values, strict=True)))
        headers = [] if origin is None else [(ORIGIN_HEADER, origin.encode())]
        if trade.first_sequence is not None:
            headers.append((VENUE_HEADER, _FILLS))
        recorded = trade.timestamp if trade.received is None else trade.received
        key = f"{trade.exchange}|{trade.symbol}".encode()
        yield _Message(key, canonical_message(trade), trade.timestamp, recorded, headers)

"""Publish trades that fill what is missing: canonical messages with their origin, to the partition of their symbol."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from k2.fill.archives import ArchiveError
from k2.fill.selection import Ledger, Symbol
from k2.iceberg.table_progress import read_progress
from k2.kafka.client import KafkaClient
from k2.kafka.config import cluster_metadata, existing_partitions
from k2.kafka.producer import TradeProducer
from k2.model.errors import SettingsError, StateError
from k2.model.origin import ORIGIN_HEADER, VENUE_HEADER
from k2.model.progress import Progress, TopicPartition
from k2.model.reasons import RejectedError
from k2.ops.failpoints import failpoint
from k2.ops.settings import Settings
from k2.venues import VENUES
from k2.venues.time_ahead import too_far_ahead

__all__ = ["check_times", "messages", "publish", "target", "wait_until_read"]

NUMBERED_VENUE: Final = "k2-fill"
IDENTITY_VENUE: Final = "k2-identity-only"
"""Reads fills that have no number, so that the ids alone say what is a copy."""
POLL_SECONDS: Final = 0.5
ANY_PARTITION: Final = -1
"""Lets the producer choose by the key, for a symbol that the topic has no trades of yet."""


def messages(file: str, trades: pa.Table) -> Iterator[bytes]:
    """Yield the canonical message of each trade, all with a number or none; values have the digits of the file.

    Raises:
        ArchiveError: the job would reject a trade, so that it would become a dead letter.
    """
    decode = VENUES[venue_of(trades)].decode
    for row in trades.to_pylist():
        value = msgspec.json.encode({name: field for name, field in row.items() if field is not None})
        try:
            decode(value)
        except RejectedError as error:
            raise ArchiveError(f"{file}: trade {row['trade_id'] or row['sequence']}: {error.error}") from None
        yield value


def check_times(file: str, trades: pa.Table, seconds_ahead_max: int) -> None:
    """Check that the job takes the times of trades, of which there is at least one.

    Raises:
        ArchiveError: the job would reject one, because it is too far ahead of now.
    """
    latest, now_us = int(pc.max(trades["timestamp"]).as_py()), time.time_ns() // 1_000
    if latest - now_us > seconds_ahead_max * 1_000_000:
        rejection = too_far_ahead("timestamp", latest, now_us, seconds_ahead_max)
        raise ArchiveError(f"{file}: {rejection.error}")


def venue_of(trades: pa.Table) -> str:
    """Return the venue that decodes the messages of trades: with numbers, or with ids alone."""
    return IDENTITY_VENUE if trades["sequence"].null_count else NUMBERED_VENUE


def target(
    settings: Settings, symbol: Symbol, ledger: Ledger, stored: Sequence[TopicPartition], topic: str | None
) -> TopicPartition:
    """Return the topic and partition to publish to: of the symbol's topics in `K2_TOPICS` the first, or `topic`.

    `stored` are those of stored trades, for a symbol without events. The partition is that of its newest event.

    Raises:
        SettingsError: the job does not read the topic, or none that had trades of the symbol.
    """
    names = [one.topic for one in settings.topics]
    if topic is not None and topic not in names:
        raise SettingsError(f"--topic {topic!r} is not in K2_TOPICS ({', '.join(names)}); the job would not read it")
    known = {one.topic: one for one in reversed([*ledger.topic_partitions, *stored])}
    if topic is not None:
        return known.get(topic, TopicPartition(topic, ANY_PARTITION))
    found = [known[name] for name in names if name in known]
    if not found:
        raise SettingsError(
            f"no topic of K2_TOPICS ({', '.join(names)}) had trades of {symbol.exchange} {symbol.symbol}; name one "
            "with --topic, or correct the exchange (--exchange) or symbol (--symbol)"
        )
    return found[0]


def wait_until_read(
    settings: Settings,
    to: TopicPartition,
    seconds_max: float,
    *,
    progress: Callable[[Settings], Progress] = read_progress,
    ends: Callable[[Settings, TopicPartition], dict[TopicPartition, int]] | None = None,
) -> None:
    """Wait until the job has committed everything that is now in a partition, or in all of the topic.

    What an earlier backfill published is then stored, and no longer missing.

    Raises:
        StateError: it has not within `seconds_max`.
        UnreachableError: the broker or the catalog does not answer.
    """
    wanted = (ends or _ends)(settings, to)
    deadline = time.monotonic() + seconds_max
    while True:
        found = progress(settings)
        behind = {one: found.next_offset(one, found.writers) or 0 for one in wanted}
        behind = {one: offset for one, offset in behind.items() if offset < wanted[one]}
        if not behind:
            return
        if time.monotonic() >= deadline:
            where, offset = min(behind.items())
            raise StateError(
                f"{where} ends at offset {wanted[where]}, and the job has committed it up to {offset}; what is missing "
                "may be among the rest, so start the job, or wait longer with --wait SECONDS"
            )
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _ends(settings: Settings, to: TopicPartition) -> dict[TopicPartition, int]:
    partitions = existing_partitions(settings, cluster_metadata(settings), to.topic)
    if to.partition != ANY_PARTITION:
        partitions = [one for one in partitions if one.partition == to.partition]
    return KafkaClient(settings).high_watermarks(partitions)


def publish(
    settings: Settings, symbol: Symbol, to: TopicPartition, venue: str, origin: str, values: Iterable[bytes]
) -> None:
    """Publish messages with their origin, in their order; return when the broker has acknowledged all.

    A crash leaves the first of them in the topic. The next run finds these stored and publishes the others.

    Raises:
        NotDeliveredError: the broker has not acknowledged some.
        UnreachableError: no broker answers.
    """
    key = f"{symbol.exchange}|{symbol.symbol}".encode()
    headers = [(ORIGIN_HEADER, origin.encode()), (VENUE_HEADER, venue.encode())]
    failpoint("fill.publishing")
    with TradeProducer(settings, to.topic) as producer:
        for value in values:
            producer.send(key, value, partition=to.partition, headers=headers)
            failpoint("fill.sent")
    failpoint("fill.published")

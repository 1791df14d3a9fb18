"""Decode operator: turns batches of messages into trades by key group and into consumed offsets."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import bytewax.operators as op
import numpy as np
import structlog
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from k2.model.batch import MessageBatch, TradeSlice
from k2.model.consumed import Consumed
from k2.model.correction import Correction, PlacedCorrection
from k2.model.dead_letter import as_time
from k2.model.key_groups import GROUPS, group_key
from k2.model.reasons import HEAD_NUMBER
from k2.model.rejected_messages import RejectedMessages
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.ops.error_boundary import reports_errors
from k2.ops.metrics import DATED_AHEAD, MESSAGES_SKIPPED
from k2.venues import VENUES
from k2.venues.decode import Decoded
from k2.venues.decode import decode as decode_batch
from k2.venues.slices import empty_slice, split
from operators.silence_watch import SilenceWatch, unknown_lag
from operators.venue_watch import VenueWatch

__all__ = ["DecodedStreams", "decode"]

LOG_SECONDS: Final = 60.0

NON_MARKET_LABEL: Final = "off_book"
"""Reason for skipping a row: a non-market trade that consumes a sequence number of its symbol."""

_LOG = structlog.get_logger()


@dataclass(frozen=True)
class DecodedStreams:
    """Output streams of `decode`."""

    trades: KeyedStream[TradeSlice]
    """Slices of one batch and one key group, keyed by the group."""
    consumed: Stream[Consumed]
    """Offset range of each batch, with its messages that have no trade (dead letters, skipped), and its corrections."""


def decode(
    step_id: str,
    messages: Stream[MessageBatch],
    time_ahead_seconds_max: int,
    symbols: Symbols,
    venues: Collection[str] = (),
    lag: Callable[[], float] = unknown_lag,
) -> DecodedStreams:
    """Decode batches of messages. The step is stateless, so a replay has the same result.

    A message with a trade whose venue time is ahead of the Kafka timestamp by more than `time_ahead_seconds_max` is a
    dead letter. `venues` are those of all topics that the job reads: the trades of a venue that is a second view of one
    of them are skipped, and compared with those that arrived. `lag` returns the number of messages that this process
    has not read yet, without which no symbol counts as silent.
    """

    @reports_errors
    def decode_one(batch: MessageBatch) -> Decoded:
        is_second_view = VENUES.is_second_view(batch.venue, venues)
        return decode_batch(batch, time_ahead_seconds_max, symbols, is_second_view=is_second_view)

    decoded = op.map(step_id, messages, decode_one)
    account = partial(_consumed, dated_ahead=_DatedAhead(), venue_watch=VenueWatch(), silence_watch=SilenceWatch(lag))
    return DecodedStreams(
        trades=op.flat_map(f"{step_id}_split", decoded, _keyed),
        consumed=op.map(f"{step_id}_account", decoded, account),
    )


def _keyed(decoded: Decoded) -> Iterable[tuple[str, TradeSlice]]:
    return [(group_key(trade_slice.group), trade_slice) for trade_slice in _slices(decoded)]


def _slices(decoded: Decoded) -> Iterable[TradeSlice]:
    """Return a slice for each key group that has rows, and for the first batch of a partition for every key group.

    The first batch brings the states of all groups up to date with the table in one epoch, so a recovery store never
    has the states of only some groups.
    """
    trades = decoded.trades
    slices = split(trades, decoded.non_market, decoded.heads)
    if not trades.source.is_first:
        return slices
    present = {trade_slice.group for trade_slice in slices}
    return [*slices, *(empty_slice(trades, group) for group in range(GROUPS) if group not in present)]


def _consumed(
    decoded: Decoded, dated_ahead: "_DatedAhead", venue_watch: VenueWatch, silence_watch: SilenceWatch
) -> Consumed:
    source = decoded.trades.source
    for reason, count in decoded.skipped.counts().items():
        MESSAGES_SKIPPED.labels(reason).inc(count)
    if len(decoded.non_market):
        MESSAGES_SKIPPED.labels(NON_MARKET_LABEL).inc(len(decoded.non_market))
    if len(decoded.heads):
        MESSAGES_SKIPPED.labels(HEAD_NUMBER).inc(len(decoded.heads))
    if len(decoded.dated_ahead):
        dated_ahead.add(decoded)
    venue_watch.add(decoded)
    silence_watch.add(decoded)
    return Consumed(
        topic=source.topic,
        partition=source.partition,
        first_offset=source.first_offset,
        next_offset=source.next_offset,
        dead_letters=RejectedMessages.of(source, decoded.rejected),
        skipped=source.offsets[decoded.skipped.messages],
        last_message=source.last_message(),
        messages=len(source),
        corrections=tuple(_placed(source, *one) for one in decoded.corrections),
        is_live=source.is_live,
    )


def _placed(source: MessageBatch, message_idx: int, index: int, correction: Correction) -> PlacedCorrection:
    offset, kafka_timestamp = int(source.offsets[message_idx]), int(source.kafka_timestamps[message_idx])
    # Rows are read back at a start, which a time outside the years 1 to 9999 would prevent.
    time = None if as_time(kafka_timestamp) is None else kafka_timestamp
    return PlacedCorrection(correction, source.topic, source.partition, offset, index, time)


class _DatedAhead:
    """Counts trades dated ahead of their Kafka timestamps; logs those of an exchange once a minute at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def add(self, decoded: Decoded) -> None:
        """Count the trades of a batch."""
        columns, rows = decoded.trades.columns, decoded.dated_ahead.astype(np.int32)
        ahead_us = columns.timestamps[rows] - decoded.trades.kafka_timestamps_of(rows)
        symbols, firsts, counts = np.unique(columns.symbols[rows], return_index=True, return_counts=True)
        for symbol_id, first, count in zip(symbols.tolist(), firsts.tolist(), counts.tolist(), strict=True):
            exchange, _ = columns.names.name(symbol_id)
            DATED_AHEAD.labels(exchange).inc(count)
            self._unlogged[exchange] += count
            if self._clock() - self._logged_at.get(exchange, -math.inf) >= LOG_SECONDS:
                self._log(exchange, decoded, rows[first : first + 1], int(ahead_us[first]))

    def _log(self, exchange: str, decoded: Decoded, row: NDArray[np.int32], ahead_us: int) -> None:
        source = decoded.trades.source
        offset = int(decoded.trades.offsets_of(row)[0])
        _LOG.warning(
            "trades_dated_ahead",
            exchange=exchange,
            trades=self._unlogged.pop(exchange),
            example=f"{source.topic}:{source.partition}:{offset}",
            seconds_ahead=ahead_us / SECOND_US,
            hint="compare the clock of the venue's feed with that of its producer",
        )
        self._logged_at[exchange] = self._clock()

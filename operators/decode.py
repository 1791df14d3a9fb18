"""Decode operator: turns batches of messages into trades by key group and into consumed offsets."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from k2.model.batch import MessageBatch, TradeSlice
from k2.model.consumed import Consumed
from k2.model.dead_letter import DeadLetter
from k2.model.key_groups import GROUPS, group_key
from k2.model.symbols import Symbols
from k2.ops.metrics import DATED_AHEAD, MESSAGES_SKIPPED
from k2.venues.decode import Decoded, empty_slice, split
from k2.venues.decode import decode as decode_batch

__all__ = ["DecodedStreams", "decode"]

NON_MARKET_LABEL: Final = "off_book"
"""Reason for skipping a row: a non-market trade that consumes a sequence number of its symbol."""


@dataclass(frozen=True)
class DecodedStreams:
    """Output streams of `decode`."""

    trades: KeyedStream[TradeSlice]
    """Slices of one batch and one key group, keyed by the group."""
    consumed: Stream[Consumed]
    """Offset range of each batch, with its messages that have no trade: dead letters and skipped messages."""


def decode(
    step_id: str, messages: Stream[MessageBatch], time_ahead_seconds_max: int, symbols: Symbols
) -> DecodedStreams:
    """Decode batches of messages. The step is stateless, so a replay has the same result.

    A message with a trade whose venue time is ahead of the Kafka timestamp by more than `time_ahead_seconds_max` is a
    dead letter.
    """
    decode_one = partial(decode_batch, time_ahead_seconds_max=time_ahead_seconds_max, symbols=symbols)
    decoded = op.map(step_id, messages, decode_one)
    return DecodedStreams(
        trades=op.flat_map(f"{step_id}_split", decoded, _keyed),
        consumed=op.map(f"{step_id}_account", decoded, _consumed),
    )


def _keyed(decoded: Decoded) -> Iterable[tuple[str, TradeSlice]]:
    return [(group_key(trade_slice.group), trade_slice) for trade_slice in _slices(decoded)]


def _slices(decoded: Decoded) -> Iterable[TradeSlice]:
    """Return a slice for each key group that has rows, and for the first batch of a partition for every key group.

    The first batch brings the states of all groups up to date with the table in one epoch, so a recovery store never
    has the states of only some groups.
    """
    trades = decoded.trades
    slices = split(trades, decoded.non_market)
    if not trades.source.is_first:
        return slices
    present = {trade_slice.group for trade_slice in slices}
    return [*slices, *(empty_slice(trades, group) for group in range(GROUPS) if group not in present)]


def _consumed(decoded: Decoded) -> Consumed:
    source = decoded.trades.source
    skipped = np.array([message_idx for message_idx, _ in decoded.skipped], dtype=np.int64)
    for _, error in decoded.skipped:
        MESSAGES_SKIPPED.labels(error.why).inc()
    if len(decoded.non_market):
        MESSAGES_SKIPPED.labels(NON_MARKET_LABEL).inc(len(decoded.non_market))
    if len(decoded.dated_ahead):
        _count_dated_ahead(decoded)
    return Consumed(
        topic=source.topic,
        partition=source.partition,
        first_offset=source.first_offset,
        next_offset=source.next_offset,
        dead_letters=tuple(
            DeadLetter.of(source, message_idx, error.reason, error.error) for message_idx, error in decoded.rejected
        ),
        skipped=source.offsets[skipped],
    )


def _count_dated_ahead(decoded: Decoded) -> None:
    columns = decoded.trades.columns
    symbols, counts = np.unique(columns.symbols[decoded.dated_ahead], return_counts=True)
    for symbol_id, count in zip(symbols.tolist(), counts.tolist(), strict=True):
        exchange, _ = columns.names.name(symbol_id)
        DATED_AHEAD.labels(exchange).inc(count)

"""Messages to trades: one batch in, its trades by key group, what was consumed, and what was refused."""

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
from k2.model.symbols import SYMBOLS
from k2.ops.metrics import DATED_AHEAD, MESSAGES_SKIPPED
from k2.venues.decode import Decoded, empty_slice, split
from k2.venues.decode import decode as decode_batch

__all__ = ["DecodedStreams", "decode"]

OFF_BOOK: Final = "off_book"
"""Why a row is skipped: it has one of its symbol's numbers, and is no market trade."""


@dataclass(frozen=True)
class DecodedStreams:
    """What comes out of `decode`."""

    trades: KeyedStream[TradeSlice]
    """Rows of one batch and one key group, keyed by the group."""
    consumed: Stream[Consumed]
    """The range of offsets of each batch, and the messages in it without a trade."""


def decode(step_id: str, messages: Stream[MessageBatch], time_ahead_seconds_max: int) -> DecodedStreams:
    """Decode batches; stateless, so a replay gives the same.

    Messages with a trade dated further ahead of the Kafka timestamp than `time_ahead_seconds_max` are dead letters.
    """
    decoded = op.map(step_id, messages, partial(decode_batch, time_ahead_seconds_max=time_ahead_seconds_max))
    return DecodedStreams(
        trades=op.flat_map(f"{step_id}_split", decoded, _keyed),
        consumed=op.map(f"{step_id}_account", decoded, _consumed),
    )


def _keyed(decoded: Decoded) -> Iterable[tuple[str, TradeSlice]]:
    return [(group_key(piece.group), piece) for piece in _pieces(decoded)]


def _pieces(decoded: Decoded) -> Iterable[TradeSlice]:
    """Return a slice for each key group that has rows; at the start of a run for every group.

    So all groups' states are brought up to the table in one epoch, and a recovery store never holds some of them
    alone.
    """
    trades = decoded.trades
    pieces = split(trades, decoded.non_market)
    if not trades.source.is_first:
        return pieces
    present = {piece.group for piece in pieces}
    return [*pieces, *(empty_slice(trades, group) for group in range(GROUPS) if group not in present)]


def _consumed(decoded: Decoded) -> Consumed:
    source = decoded.trades.source
    skipped = np.array([message for message, _ in decoded.skipped], dtype=np.int64)
    for _, why in decoded.skipped:
        MESSAGES_SKIPPED.labels(why.why).inc()
    if len(decoded.non_market):
        MESSAGES_SKIPPED.labels(OFF_BOOK).inc(len(decoded.non_market))
    if len(decoded.dated_ahead):
        _count_dated_ahead(decoded)
    return Consumed(
        topic=source.topic,
        partition=source.partition,
        first_offset=source.first_offset,
        next_offset=source.next_offset,
        dead_letters=tuple(DeadLetter.of(source, message, why.reason, why.error) for message, why in decoded.rejected),
        skipped=source.offsets[skipped],
    )


def _count_dated_ahead(decoded: Decoded) -> None:
    symbols, counts = np.unique(decoded.trades.columns.symbols[decoded.dated_ahead], return_counts=True)
    for symbol, count in zip(symbols.tolist(), counts.tolist(), strict=True):
        exchange, _ = SYMBOLS.name(symbol)
        DATED_AHEAD.labels(exchange).inc(count)

"""Messages to columns: compiled where a venue has a loop for it, message by message for what that leaves."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.compiled import compiled
from k2.model.decimals import clipped
from k2.model.key_groups import GROUPS
from k2.model.reasons import Reason, RejectedError, SkippedError
from k2.model.symbols import SYMBOLS
from k2.model.times import TIME_AHEAD_TOLERANCE_US
from k2.model.trade import Trade
from k2.model.verdicts import SKIPPED, STORED
from k2.venues import VENUES, Venue
from k2.venues.rows import EXCHANGE_START, MESSAGE_BYTES_MAX, SYMBOL, SYMBOL_SIZE, WIDTH, columns_of
from k2.venues.time_ahead import TIME_AHEAD_SECONDS_MAX, time_ahead, too_far_ahead
from k2.venues.venue import CompiledDecoder

__all__ = ["MESSAGE_BYTES_MAX", "Decoded", "decode", "decode_by_reference", "empty_slice", "split"]

_MICROSECONDS: Final = 1_000_000
_NO_ROWS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch's messages: each is in exactly one of the first three."""

    trades: TradeBatch
    """Rows in the order of the messages."""
    rejected: list[tuple[int, RejectedError]]
    """(message number in the batch, why), ascending."""
    skipped: list[tuple[int, SkippedError]]
    """Likewise, the messages that are no market trade."""
    off_book: NDArray[np.int64]
    """int64: the rows, ascending, that bear a number of their symbol though they are no market trade."""
    dated_ahead: NDArray[np.int64]
    """int64: the rows, ascending, whose venue time is ahead of the Kafka timestamp by more than the tolerance."""


@dataclass(slots=True)
class _Read:
    """What the reference decoder made of the messages handed to it."""

    trades: list[Trade] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    rejected: list[tuple[int, RejectedError]] = field(default_factory=list)
    skipped: list[tuple[int, SkippedError]] = field(default_factory=list)

    @property
    def off_book(self) -> NDArray[np.int64]:
        """Which of the trades are no market trade."""
        return np.flatnonzero([not trade.is_market for trade in self.trades])


def decode(batch: MessageBatch, time_ahead_seconds_max: int = TIME_AHEAD_SECONDS_MAX) -> Decoded:
    """Return a batch's trades as columns, by the rules of its venue; the same on replay.

    A message that can't become a trade is rejected alone; its neighbours are not touched. A message with a trade
    whose venue time is ahead of the Kafka timestamp by more than `time_ahead_seconds_max` is rejected as a whole.
    """
    venue = VENUES[batch.venue]
    if venue.decode_compiled is None:
        return decode_by_reference(batch, time_ahead_seconds_max)
    columns, left = _decode_compiled(venue, venue.decode_compiled, batch)
    if not len(left):
        return _decoded(batch, columns, _Read(), _NO_ROWS, time_ahead_seconds_max)
    read = _read(venue, batch, left)
    off_book = len(columns) + read.off_book
    if read.trades:
        columns = TradeColumns.concatenate([columns, _columns(read)])
        order = np.argsort(columns.messages, kind="stable")
        columns, off_book = columns.take(order), np.flatnonzero(np.isin(order, off_book))
    return _decoded(batch, columns, read, off_book, time_ahead_seconds_max)


def decode_by_reference(batch: MessageBatch, time_ahead_seconds_max: int = TIME_AHEAD_SECONDS_MAX) -> Decoded:
    """Return what `decode` gives, by the reference decoder alone."""
    read = _read(VENUES[batch.venue], batch, np.arange(len(batch), dtype=np.int32))
    return _decoded(batch, _columns(read), read, read.off_book, time_ahead_seconds_max)


def split(trades: TradeBatch, off_book: NDArray[np.int64] | None = None) -> list[TradeSlice]:
    """Return one slice for each key group that has rows, the rows ascending.

    Nothing is said of them yet, but that the rows `off_book` are `SKIPPED`; sessions are zeros.
    """
    symbols = trades.columns.symbols
    rows = np.empty(len(symbols), dtype=np.int32)
    ends = np.zeros(GROUPS, dtype=np.int64)
    _split(symbols, SYMBOLS.groups, rows, ends)
    shares = np.split(rows, ends[:-1])
    verdicts = np.full(len(symbols), STORED, dtype=np.uint8)
    verdicts[_NO_ROWS if off_book is None else off_book] = SKIPPED
    return [
        TradeSlice(trades, group, share, verdicts[share], np.zeros(len(share), dtype=np.int32))
        for group, share in enumerate(shares)
        if len(share)
    ]


def empty_slice(trades: TradeBatch, group: int) -> TradeSlice:
    """Return the slice of a key group that has no rows in a batch."""
    none = np.empty(0, dtype=np.int32)
    return TradeSlice(trades, group, none, np.empty(0, dtype=np.uint8), none)


@compiled
def _split(
    symbols: NDArray[np.int32], groups: NDArray[np.int32], rows: NDArray[np.int32], ends: NDArray[np.int64]
) -> None:
    """Sort row numbers by group, stably, by counting; `ends` (zeros before) gets where each group's end."""
    counts = np.zeros(len(ends), dtype=np.int64)
    for row in range(len(symbols)):
        counts[groups[symbols[row]]] += 1
    total = 0
    for group in range(len(ends)):
        ends[group] = total
        total += counts[group]
    for row in range(len(symbols)):
        group = groups[symbols[row]]
        rows[ends[group]] = row
        ends[group] += 1


def _decode_compiled(
    venue: Venue, kernel: CompiledDecoder, batch: MessageBatch
) -> tuple[TradeColumns, NDArray[np.int32]]:
    """Return the trades that the kernel took, and the numbers of the messages that it left."""
    rows = np.empty((len(batch), WIDTH), dtype=np.int64)
    left = np.empty(len(batch), dtype=np.int32)
    count = kernel(batch.data, batch.value_starts, batch.value_sizes, SYMBOLS.table, rows, left)
    _number_new_symbols(batch.data, venue.exchange, rows[:count])
    return columns_of(rows[:count], batch.data), left[: len(batch) - count]


def _number_new_symbols(data: NDArray[np.uint8], exchange: str | None, rows: NDArray[np.int64]) -> None:
    """Intern the pairs that the kernel did not know: plain Python, once a pair and poll that bring it first."""
    for row in np.flatnonzero(rows[:, SYMBOL] < 0):
        exchange_start, exchange_size, start, size = rows[row, EXCHANGE_START : SYMBOL_SIZE + 1].tolist()
        own = data[exchange_start : exchange_start + exchange_size].tobytes().decode()
        symbol = data[start : start + size].tobytes().decode()
        rows[row, SYMBOL] = SYMBOLS.intern(own if exchange is None else exchange, symbol)


def _read(venue: Venue, batch: MessageBatch, messages: NDArray[np.int32]) -> _Read:
    read = _Read()
    for message in messages.tolist():
        try:
            trades = _read_one(venue, batch, message)
        except RejectedError as error:
            read.rejected.append((message, error))
        except SkippedError as error:
            read.skipped.append((message, error))
        except (ValueError, TypeError, KeyError) as error:
            # A fault of the record that no rule foresaw is still that record's alone.
            what = RejectedError(Reason.INVALID, f"value: {type(error).__name__}: {clipped(error)}")
            read.rejected.append((message, what))
        else:
            read.trades += trades
            read.messages += [message] * len(trades)
            read.indexes += range(len(trades))
    return read


def _read_one(venue: Venue, batch: MessageBatch, message: int) -> list[Trade]:
    size = int(batch.value_sizes[message])
    if size > MESSAGE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"value: {size} bytes, more than {MESSAGE_BYTES_MAX}")
    value = batch.value(message)
    if value is None:
        raise RejectedError(Reason.MALFORMED, "value: null (a tombstone)")
    return venue.decode(value)


def _columns(read: _Read) -> TradeColumns:
    return TradeColumns.from_trades(read.trades, read.messages, read.indexes)


def _decoded(
    batch: MessageBatch, columns: TradeColumns, read: _Read, off_book: NDArray[np.int64], time_ahead_seconds_max: int
) -> Decoded:
    """Reject the messages with a trade dated too far ahead; return the rest, its rows numbered without theirs."""
    rejected = read.rejected
    ahead = time_ahead(columns.timestamps, batch.kafka_timestamps[columns.messages])
    too_far = np.flatnonzero(ahead > time_ahead_seconds_max * _MICROSECONDS)
    if len(too_far):
        refused = _rejected_ahead(batch, columns, too_far, time_ahead_seconds_max)
        rejected = sorted([*rejected, *refused.items()], key=_message_of)
        kept = np.flatnonzero(~np.isin(columns.messages, list(refused)))
        columns, ahead, off_book = columns.take(kept), ahead[kept], np.flatnonzero(np.isin(kept, off_book))
    dated_ahead = np.flatnonzero(ahead > TIME_AHEAD_TOLERANCE_US)
    return Decoded(TradeBatch(batch, columns), rejected, read.skipped, off_book, dated_ahead)


def _message_of(rejected: tuple[int, RejectedError]) -> int:
    return rejected[0]


def _rejected_ahead(
    batch: MessageBatch, columns: TradeColumns, rows: NDArray[np.int64], seconds_max: int
) -> dict[int, RejectedError]:
    """Return by message number why it is rejected: the first of its rows that is dated too far ahead."""
    field, rejected = VENUES[batch.venue].time_field, dict[int, RejectedError]()
    for row in rows.tolist():
        message = int(columns.messages[row])
        if message not in rejected:
            name = field.format(index=columns.indexes[row])
            times = int(columns.timestamps[row]), int(batch.kafka_timestamps[message])
            rejected[message] = too_far_ahead(name, *times, seconds_max)
    return rejected

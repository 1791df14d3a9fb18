"""Decoding of batches to columns: with the venue's compiled decoder if it has one, else with the reference decoder.

The reference decoder also decodes the messages that a compiled decoder leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import MessageBatch, TradeBatch, TradeColumns
from k2.model.compiled import compiled
from k2.model.correction import Correction
from k2.model.decimals import clipped
from k2.model.errors import K2Error
from k2.model.origin import INDEX_HEADER, VENUE_HEADER
from k2.model.reasons import HEAD_NUMBER, Reason, RejectedError, SkippedError
from k2.model.symbol_names import SymbolTable
from k2.model.symbols import Symbols, as_bytes, lookup
from k2.model.times import SECOND_US, TIME_AHEAD_TOLERANCE_US
from k2.model.trade import NO_SIDE, Trade
from k2.venues import VENUES, Venue
from k2.venues.payloads import unpacked
from k2.venues.rows import (
    EXCHANGE_SIZE,
    EXCHANGE_START,
    HEAD_SIDE,
    MESSAGE,
    MESSAGE_BYTES_MAX,
    REASON,
    SYMBOL,
    SYMBOL_SIZE,
    SYMBOL_START,
    TRADES_MAX,
    WIDTH,
    columns_of,
)
from k2.venues.skipped import SkippedMessages
from k2.venues.time_ahead import TIME_AHEAD_SECONDS_MAX, time_ahead, too_far_ahead
from k2.venues.venue import CompiledDecoder

__all__ = ["MESSAGE_BYTES_MAX", "Decoded", "decode", "decode_by_reference"]

ANY_INDEX: Final = -2
"""Stands for the index of a message of which all trades are taken."""
INTERNED_FIRST: Final = 64
"""Rows whose pairs are interned before the others are looked up again."""
_NO_ROWS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)
E = TypeVar("E", RejectedError, SkippedError)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded batch; each message is rejected, or skipped, or has rows and corrections."""

    trades: TradeBatch
    """Rows in message order."""
    rejected: list[tuple[int, RejectedError]]
    """(index of the message in the batch, error), ascending."""
    skipped: SkippedMessages
    """Messages without a trade that are not errors; of a second view, a message once for each of its corrections."""
    non_market: NDArray[np.int64]
    """int64: rows, ascending, of non-market trades, which consume a sequence number."""
    heads: NDArray[np.int64]
    """int64: rows, ascending, that only name the number of a trade."""
    dated_ahead: NDArray[np.int64]
    """int64: rows, ascending, whose venue time is ahead of the Kafka timestamp by more than the tolerance."""
    corrections: list[tuple[int, int, Correction]] = field(default_factory=list)
    """(index of the message in the batch, index among its trades and corrections, correction), ascending."""


@dataclass(slots=True)
class _ReferenceResult:
    """Result of the reference decoder for some messages, with what the kernel skipped of the others."""

    trades: list[Trade] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    rejected: list[tuple[int, RejectedError]] = field(default_factory=list)
    skipped: list[tuple[int, SkippedError]] = field(default_factory=list)
    skipped_compiled: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int32))
    """int32[n, 2]: what the kernel skipped (see `SkippedMessages.of`)."""
    corrections: list[tuple[int, int, Correction]] = field(default_factory=list)

    def add(self, message_idx: int, entries: Sequence[Trade | Correction]) -> None:
        """Add the trades and corrections of a message, in their order."""
        for index, entry in enumerate(entries):
            if isinstance(entry, Correction):
                self.corrections.append((message_idx, index, entry))
            else:
                self.trades.append(entry)
                self.messages.append(message_idx)
                self.indexes.append(index)

    @property
    def non_market(self) -> NDArray[np.int64]:
        """int64: indices of the non-market trades in `trades`."""
        return np.flatnonzero([not trade.is_market and not trade.is_head for trade in self.trades])

    @property
    def heads(self) -> NDArray[np.int64]:
        """int64: indices in `trades` of those that only name a number."""
        return np.flatnonzero([trade.is_head for trade in self.trades])


class _Kinds(NamedTuple):
    """Rows that are not stored, each int64 and ascending."""

    non_market: NDArray[np.int64]
    heads: NDArray[np.int64]

    def taken(self, rows: NDArray[np.int64] | NDArray[np.intp]) -> "_Kinds":
        """Return the places of these rows among `rows`."""
        return _Kinds(*(np.flatnonzero(np.isin(rows, kind)) for kind in self))


def decode(
    batch: MessageBatch,
    time_ahead_seconds_max: int = TIME_AHEAD_SECONDS_MAX,
    symbols: Symbols | None = None,
    *,
    is_second_view: bool = False,
) -> Decoded:
    """Decode a batch to columns by the rules of its venue; the result is the same on replay.

    `is_second_view`: whether the venue of whose trades this one is another view is read as well, so that each row only
    names a number, and each correction is skipped.

    A message that cannot become a trade is rejected without affecting others. A message with a trade whose venue time
    is ahead of the Kafka timestamp by more than `time_ahead_seconds_max` is rejected as a whole. The symbol ids are
    those of the registry `symbols`, a new one if none is given.
    """
    symbols = Symbols() if symbols is None else symbols
    if batch.marks:
        return _decode_marked(batch, time_ahead_seconds_max, symbols, is_second_view=is_second_view)
    venue = VENUES[batch.venue]
    if venue.decode_compiled is None:
        return decode_by_reference(batch, time_ahead_seconds_max, symbols, is_second_view=is_second_view)
    unpacked_batch = batch if venue.payload is None else unpacked(batch, venue.payload)
    columns, others = _decode_compiled(venue, venue.decode_compiled, unpacked_batch, symbols)
    is_left = others[:, REASON] == 0
    result = _decode_messages(venue, batch, others[is_left, 0])
    result.skipped_compiled = others[~is_left]
    compiled_kinds = _kinds_of(columns)
    kinds = _Kinds(
        np.concatenate([compiled_kinds.non_market, len(columns) + result.non_market]),
        np.concatenate([compiled_kinds.heads, len(columns) + result.heads]),
    )
    if result.trades:
        columns = TradeColumns.concatenate([columns, _columns(result, symbols)])
        order = np.argsort(columns.messages, kind="stable")
        columns, kinds = columns.take(order), kinds.taken(order)
    return _decoded(batch, columns, result, kinds, time_ahead_seconds_max, is_second_view)


def decode_by_reference(
    batch: MessageBatch,
    time_ahead_seconds_max: int = TIME_AHEAD_SECONDS_MAX,
    symbols: Symbols | None = None,
    *,
    is_second_view: bool = False,
) -> Decoded:
    """Decode a batch as `decode` does, with the reference decoder only."""
    result = _decode_messages(VENUES[batch.venue], batch, np.arange(len(batch), dtype=np.int32))
    columns = _columns(result, Symbols() if symbols is None else symbols)
    kinds = _Kinds(result.non_market, result.heads)
    return _decoded(batch, columns, result, kinds, time_ahead_seconds_max, is_second_view)


def _decode_marked(
    batch: MessageBatch, time_ahead_seconds_max: int, symbols: Symbols, *, is_second_view: bool
) -> Decoded:
    """Decode a batch of marked messages, which all name the same venue or none; take only the trades they name."""
    named = next(iter(batch.marks.values())).venue
    if named is not None and named != batch.venue:
        error = RejectedError(Reason.UNSUPPORTED, f"header {VENUE_HEADER}: {VENUES.unknown_message(named)}")
        nothing = _ReferenceResult(rejected=[(message_idx, error) for message_idx in range(len(batch))])
        kinds = _Kinds(_NO_ROWS, _NO_ROWS)
        return _decoded(batch, _columns(nothing, symbols), nothing, kinds, time_ahead_seconds_max, is_second_view)
    decoded = decode(replace(batch, marks={}), time_ahead_seconds_max, symbols, is_second_view=is_second_view)
    return _only_marked(replace(decoded, trades=replace(decoded.trades, source=batch)))


def _only_marked(decoded: Decoded) -> Decoded:
    """Return only those trades and corrections of a message that its marks name; reject it if it has none of them."""
    source, columns = decoded.trades.source, decoded.trades.columns
    wanted = {
        message_idx: marks.trade_index for message_idx, marks in source.marks.items() if marks.trade_index is not None
    }
    if not wanted:
        return decoded
    index_of = np.full(len(source), ANY_INDEX, dtype=np.int64)
    index_of[[*wanted]] = [*wanted.values()]
    row_indexes = index_of[columns.messages]
    rows = np.flatnonzero((row_indexes == ANY_INDEX) | (row_indexes == columns.indexes))
    corrections = [one for one in decoded.corrections if wanted.get(one[0], one[1]) == one[1]]
    found = {
        *columns.messages[rows].tolist(),
        *(one[0] for one in corrections),
        *(message_idx for message_idx, _ in decoded.rejected),
        *decoded.skipped.messages.tolist(),
    }
    absent = [
        (message_idx, RejectedError(Reason.INVALID, f"header {INDEX_HEADER}: the message has no trade of this index"))
        for message_idx in sorted(wanted.keys() - found)
    ]
    kinds = _Kinds(decoded.non_market, decoded.heads).taken(rows)
    return replace(
        decoded,
        trades=TradeBatch(source, columns.take(rows)),
        rejected=sorted([*decoded.rejected, *absent], key=_message_idx_of),
        non_market=kinds.non_market,
        heads=kinds.heads,
        dated_ahead=np.flatnonzero(np.isin(rows, decoded.dated_ahead)),
        corrections=corrections,
    )


def _decode_compiled(
    venue: Venue, kernel: CompiledDecoder, batch: MessageBatch, symbols: Symbols
) -> tuple[TradeColumns, NDArray[np.int32]]:
    """Return the trades that the kernel decoded, and int32[m, 2]: the other messages, and why they have no rows."""
    # Enough for one trade a message; the kernel stops if messages have more, and goes on with more rows.
    rows = np.empty((len(batch) + TRADES_MAX, WIDTH), dtype=np.int64)
    others = np.empty((len(batch), 2), dtype=np.int32)
    first, row_count, other_count = 0, 0, 0
    while first < len(batch):
        if first:
            rows = _grown(rows, row_count, first / len(batch))
        free_rows, free_others = rows[row_count:], others[other_count:]
        starts, sizes = batch.value_starts[first:], batch.value_sizes[first:]
        read, new_rows, new_others = kernel(batch.data, starts, sizes, symbols.table, free_rows, free_others)
        free_rows[:new_rows, MESSAGE] += first
        free_others[:new_others, 0] += first
        first, row_count, other_count = first + read, row_count + new_rows, other_count + new_others
    rows = rows[:row_count]
    _intern_new_symbols(batch.data, venue.exchange, rows, symbols)
    return columns_of(rows, batch.data, symbols, has_ranges=venue.has_ranges), others[:other_count]


def _grown(rows: NDArray[np.int64], used: int, share: float) -> NDArray[np.int64]:
    """Return a copy of rows with room for those of all messages, if the others are like the share that is decoded."""
    grown = np.empty((max(int(used / share * 1.1), used) + 2 * TRADES_MAX, WIDTH), dtype=np.int64)
    grown[:used] = rows[:used]
    return grown


def _kinds_of(columns: TradeColumns) -> _Kinds:
    """Return which rows of a kernel are not stored: those without a quantity; the sides of heads are then none."""
    if not _has_zero(columns.quantities):
        return _Kinds(_NO_ROWS, _NO_ROWS)
    rows = np.flatnonzero(~columns.quantities.any(axis=1))
    is_head = columns.sides[rows] == HEAD_SIDE
    columns.sides[rows[is_head]] = NO_SIDE
    return _Kinds(rows[~is_head], rows[is_head])


@compiled
def _has_zero(quantities: NDArray[np.uint64]) -> bool:
    for row in range(len(quantities)):
        if quantities[row, 0] == 0 and quantities[row, 1] == 0:
            return True
    return False


def _intern_new_symbols(
    data: NDArray[np.uint8], exchange: str | None, rows: NDArray[np.int64], symbols: Symbols
) -> None:
    """Assign symbol ids to the pairs that the kernel did not know.

    In the first batch these are all rows, of a few pairs or of thousands. So a few rows are interned in plain Python,
    what they make known is looked up for the others, and twice as many are interned next.
    """
    new, count, own_exchange = np.flatnonzero(rows[:, SYMBOL] < 0), INTERNED_FIRST, as_bytes(exchange or "")
    while len(new):
        named = rows[new[:count], EXCHANGE_START : SYMBOL_SIZE + 1].tolist()
        pairs = [
            (_text(data, exchange_start, exchange_size) if exchange is None else exchange, _text(data, start, size))
            for exchange_start, exchange_size, start, size in named
        ]
        rows[new[:count], SYMBOL] = symbols.intern_all(pairs)
        new = new[count:]
        new = new[: _look_up_again(new, rows, data, own_exchange, symbols.table)]
        count *= 2


def _text(data: NDArray[np.uint8], start: int, size: int) -> str:
    return data[start : start + size].tobytes().decode()


@compiled
def _look_up_again(
    new: NDArray[np.int64],
    rows: NDArray[np.int64],
    data: NDArray[np.uint8],
    own_exchange: NDArray[np.uint8],
    table: SymbolTable,
) -> int:
    """Write the ids of the rows `new` whose pairs are known by now; move the others to the front, and count them.

    uint8[bytes] `own_exchange` is that of the venue, empty if its messages name theirs.
    """
    unknown = 0
    for row in new:
        start, size = rows[row, SYMBOL_START], rows[row, SYMBOL_SIZE]
        if len(own_exchange):
            symbol_id = lookup(table, own_exchange, 0, len(own_exchange), data, start, size)
        else:
            symbol_id = lookup(table, data, rows[row, EXCHANGE_START], rows[row, EXCHANGE_SIZE], data, start, size)
        if symbol_id < 0:
            new[unknown], unknown = row, unknown + 1
        else:
            rows[row, SYMBOL] = symbol_id
    return unknown


def _decode_messages(venue: Venue, batch: MessageBatch, messages: NDArray[np.int32]) -> _ReferenceResult:
    result, data = _ReferenceResult(), batch.data.data
    starts, sizes = batch.value_starts[messages].tolist(), batch.value_sizes[messages].tolist()
    for message_idx, start, size in zip(messages.tolist(), starts, sizes, strict=True):
        try:
            entries = _decode_message(venue, data, start, size)
        except RejectedError as error:
            result.rejected.append((message_idx, _without_frames(error)))
        except SkippedError as error:
            result.skipped.append((message_idx, _without_frames(error)))
        except K2Error:
            # A part outside, such as a schema registry, does not answer: that is no fault of the message.
            raise
        except (ValueError, TypeError, KeyError) as error:
            # An unforeseen error of a record must not affect other records.
            rejection = RejectedError(Reason.INVALID, f"value: {type(error).__name__}: {clipped(error)}")
            result.rejected.append((message_idx, rejection))
        else:
            result.add(message_idx, entries)
    return result


def _without_frames(error: E) -> E:
    """Return an error without the frames that raised it: with them, each would hold hundreds of objects.

    A batch of thousands of rejected messages then takes 60 us a message for the collection of garbage, instead of none.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _decode_message(venue: Venue, data: memoryview, start: int, size: int) -> Sequence[Trade | Correction]:
    """Decode data[start:start + size], or a tombstone, whose size is -1."""
    if size > MESSAGE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"value: {size} bytes, more than {MESSAGE_BYTES_MAX}")
    if size < 0:
        raise RejectedError(Reason.MALFORMED, "value: null (a tombstone)")
    return venue.decode(bytes(data[start : start + size]))


def _columns(result: _ReferenceResult, symbols: Symbols) -> TradeColumns:
    return TradeColumns.from_trades(result.trades, result.messages, result.indexes, symbols)


def _decoded(
    batch: MessageBatch,
    columns: TradeColumns,
    result: _ReferenceResult,
    kinds: "_Kinds",
    time_ahead_seconds_max: int,
    is_second_view: bool,  # noqa: FBT001  passed on
) -> Decoded:
    """Reject the messages with a trade dated too far ahead; return the result without their rows and corrections.

    The time of a correction orders nothing, and is not compared.
    """
    rejected, corrections = result.rejected, result.corrections
    ahead = time_ahead(columns.timestamps, batch.kafka_timestamps[columns.messages])
    too_far = np.flatnonzero(ahead > time_ahead_seconds_max * SECOND_US)
    if len(too_far):
        rejected_ahead = _rejected_ahead(batch, columns, too_far, time_ahead_seconds_max)
        rejected = sorted([*rejected, *rejected_ahead.items()], key=_message_idx_of)
        corrections = [one for one in corrections if one[0] not in rejected_ahead]
        accepted = np.flatnonzero(~np.isin(columns.messages, list(rejected_ahead)))
        columns, ahead, kinds = columns.take(accepted), ahead[accepted], kinds.taken(accepted)
    dated_ahead = np.flatnonzero(ahead > TIME_AHEAD_TOLERANCE_US)
    skips = result.skipped
    if is_second_view:
        kinds = _Kinds(_NO_ROWS, np.arange(len(columns), dtype=np.int64))
        # They name trades by the ids of this view, which may be those of other trades in the one that is stored.
        skips = sorted([*skips, *((one[0], SkippedError(HEAD_NUMBER)) for one in corrections)], key=_message_idx_of)
        corrections = []
    trades, skipped = TradeBatch(batch, columns), SkippedMessages.of(result.skipped_compiled, skips)
    return Decoded(trades, rejected, skipped, kinds.non_market, kinds.heads, dated_ahead, corrections)


def _message_idx_of(outcome: tuple[int, RejectedError | SkippedError]) -> int:
    return outcome[0]


def _rejected_ahead(
    batch: MessageBatch, columns: TradeColumns, rows: NDArray[np.int64], seconds_max: int
) -> dict[int, RejectedError]:
    """Return the error of each rejected message by index, for its first row that is dated too far ahead."""
    field, rejected = VENUES[batch.venue].time_field, dict[int, RejectedError]()
    for row in rows.tolist():
        message_idx = int(columns.messages[row])
        if message_idx not in rejected:
            name = field.format(index=columns.indexes[row])
            times = int(columns.timestamps[row]), int(batch.kafka_timestamps[message_idx])
            rejected[message_idx] = too_far_ahead(name, *times, seconds_max)
    return rejected

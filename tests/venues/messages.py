"""Message batches for tests, and the result of decoding them as plain values."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np

from k2.model.batch import NULL_TIME, MessageBatch, TradeColumns
from k2.model.trade import SIDES, Trade
from k2.venues.decode import Decoded

K2_MESSAGE: Final = (
    b'{"exchange":"binance","symbol":"BTCUSDT","trade_id":"a7","sequence":7,"price":"61837.63","quantity":"0.02",'
    b'"side":"sell","timestamp":1723161255342000,"received":"2024-08-08T23:54:15.4Z"}'
)
BINANCE_MESSAGE: Final = (
    b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",'
    b'"T":1723161255342,"m":true,"M":true}'
)


def batch_of(values: Sequence[bytes | None], venue: str = "k2") -> MessageBatch:
    """Return values as one poll would deliver them, with a key before each."""
    pieces = [b"key" + (value or b"") for value in values]
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    count = len(values)
    return MessageBatch(
        topic="trades",
        partition=0,
        venue=venue,
        first_offset=100,
        next_offset=100 + count,
        offsets=np.arange(100, 100 + count, dtype=np.int64),
        kafka_timestamps=np.full(count, NULL_TIME, dtype=np.int64),
        data=np.frombuffer(bytearray().join(pieces), dtype=np.uint8),
        value_starts=starts + 3,
        value_sizes=np.array([-1 if value is None else len(value) for value in values], dtype=np.int32),
        key_starts=starts,
        key_sizes=np.full(count, 3, dtype=np.int32),
    )


def rows_of(columns: TradeColumns) -> list[tuple[Any, ...]]:
    """Return every value of every row."""
    return [
        (
            int(columns.messages[row]),
            int(columns.indexes[row]),
            columns.name(row),
            columns.trade_id(row),
            int(columns.sequences[row]) if columns.has_sequence[row] else None,
            int(columns.first_sequences[row]) if columns.has_sequence[row] else None,
            value_of(columns.prices[row]),
            value_of(columns.quantities[row]),
            int(columns.sides[row]),
            int(columns.timestamps[row]),
            int(columns.received[row]),
        )
        for row in range(len(columns))
    ]


def value_of(words: Any) -> int:
    """Return the integer that two words encode."""
    value = (int(words[1]) << 64) | int(words[0])
    return value - (1 << 128) if value >> 127 else value


def outcome(decoded: Decoded) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]], list[int]]:
    """Return the whole result of decoding as plain values."""
    rejected = [(message, str(error)) for message, error in decoded.rejected]
    return rows_of(decoded.trades.columns), rejected, [message for message, _ in decoded.skipped]


def printed(trade: Trade) -> tuple[str, str | None, int | None, Decimal, Decimal, str, int]:
    """Return symbol, id, number, price, quantity, side and time (microseconds) of a decoded trade."""
    price, quantity = (Decimal(value).scaleb(-18) for value in (trade.price, trade.quantity))
    return trade.symbol, trade.trade_id, trade.sequence, price, quantity, str(SIDES[trade.side]), trade.timestamp

"""What a topic holds, counted from its messages: the rows that a contender must store, and those it must leave out."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

__all__ = ["Expected", "Sums", "expected_of"]


class Sums(NamedTuple):
    """Rows of a table, and sums over them in which a wrong, lost or doubled row shows."""

    rows: int = 0
    distinct: int = 0
    """Pairs of symbol and sequence number."""
    price: Decimal = Decimal(0)
    quantity: Decimal = Decimal(0)
    timestamp_us: int = 0


class Expected(NamedTuple):
    """What a topic holds."""

    messages: int
    trades: Sums
    """Each trade once."""
    copies: Sums
    """All valid messages, with the copies of trades."""
    malformed: int


class _Trade(msgspec.Struct):
    symbol: str
    sequence: int
    price: Decimal
    quantity: Decimal
    timestamp: int


def expected_of(values: Iterable[bytes]) -> Expected:
    """Count the valid, repeated and malformed among messages.

    A message is valid if it is JSON, its quantity is positive, and its time is an integer.
    """
    decoder = msgspec.json.Decoder(_Trade)
    seen: set[tuple[str, int]] = set()
    trades, copies, malformed = _Count(), _Count(), 0
    messages = 0
    for value in values:
        messages += 1
        try:
            trade = decoder.decode(value)
        except msgspec.DecodeError:
            malformed += 1
            continue
        if trade.quantity <= 0:
            malformed += 1
            continue
        copies.add(trade)
        name = (trade.symbol, trade.sequence)
        if name not in seen:
            seen.add(name)
            trades.add(trade)
    return Expected(messages, trades.sums(len(seen)), copies.sums(len(seen)), malformed)


class _Count:
    """Sums under way."""

    def __init__(self) -> None:
        self._rows = 0
        self._price = self._quantity = Decimal(0)
        self._timestamp_us = 0

    def add(self, trade: _Trade) -> None:
        self._rows += 1
        self._price += trade.price
        self._quantity += trade.quantity
        self._timestamp_us += trade.timestamp

    def sums(self, distinct: int) -> Sums:
        return Sums(self._rows, distinct, self._price, self._quantity, self._timestamp_us)

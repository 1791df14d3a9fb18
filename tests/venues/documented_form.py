"""A message as a venue documents it, with the trades that it has."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from k2.model.correction import Correction
from k2.model.trade import Trade

__all__ = ["UNIT", "Documented", "trade_of"]

UNIT: Final = 10**18


class Documented(NamedTuple):
    """A message, and its trades in the order in which they happened."""

    venue: str
    message: Any
    trades: Sequence[Trade | Correction]


def trade_of(
    venue: tuple[str, str], ids: tuple[str | None, int | None], amounts: tuple[float, float], side: int, time: int
) -> Trade:
    """Return a trade; prices and quantities are given in thousandths that floats hold exactly."""
    price, quantity = (round(amount * 1000) * UNIT // 1000 for amount in amounts)
    return Trade(*venue, *ids, price, quantity, side, time)

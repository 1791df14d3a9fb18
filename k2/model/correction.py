"""Corrections: a venue takes back a trade, or replaces its values, some time after it sent it."""

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import msgspec

__all__ = ["Correction", "CorrectionKind", "PlacedCorrection"]


class CorrectionKind(StrEnum):
    """What a correction does to the trade that it means."""

    CANCELLED = "cancelled"
    CORRECTED = "corrected"


class Correction(NamedTuple):
    """One valid correction; decoders reject invalid ones."""

    what: CorrectionKind
    exchange: str
    symbol: str
    trade_id: str
    """The id of the trade that is meant, which need not be stored."""
    new_trade_id: str | None
    """The id of the trade that replaces it; None if it keeps its id, or is cancelled."""
    old_price: Decimal | None
    """decimal(38, 18); None if the message does not have it, as each value below."""
    old_quantity: Decimal | None
    new_price: Decimal | None
    new_quantity: Decimal | None
    old_conditions: str | None
    """The venue's sale conditions, as JSON."""
    new_conditions: str | None
    timestamp: int
    """Venue time of the correction, microseconds since the epoch, UTC."""
    received: int | None = None
    """Capture time, microseconds since the epoch, UTC."""


class PlacedCorrection(msgspec.Struct, frozen=True, array_like=True):
    """A correction with the Kafka coordinates of its message: a row of the table `corrections`."""

    correction: Correction
    topic: str
    partition: int
    offset: int
    index: int
    """Index among the trades and corrections of its message."""
    kafka_timestamp: int | None
    """Microseconds since the epoch, UTC; None if the broker has none."""

    @property
    def coordinates(self) -> tuple[str, int, int, int]:
        """Topic, partition, offset and index, which are unique among all rows and dead letters."""
        return self.topic, self.partition, self.offset, self.index

"""Copies of corrections: a correction that is sent again with the same content within the window is a duplicate."""

import hashlib
from decimal import Context, Decimal
from typing import Final

import msgspec

from k2.model.correction import Correction, PlacedCorrection
from k2.model.decimals import PRECISION

__all__ = ["SeenCorrections"]

KEPT_MIN: Final = 100_000
"""The newest corrections are held whatever their time, so that one wrong Kafka timestamp expires none early."""
_DIGEST_BYTES: Final = 16
_EXACT: Final = Context(prec=PRECISION)


class SeenCorrections:
    """The contents of the corrections that a writer has stored, for two windows."""

    def __init__(self, window_us: int) -> None:
        """Compare corrections that are at most `window_us` microseconds of Kafka time apart."""
        self._window_us = window_us
        self._stored_at: dict[bytes, int | None] = {}

    def __len__(self) -> int:
        return len(self._stored_at)

    def add(self, placed: PlacedCorrection) -> bool:
        """Note a correction; return whether it is new. A duplicate is not noted.

        Without a Kafka timestamp, of the message or of the stored one, the content alone decides. The verdicts do not
        depend on how messages are cut into batches, and a replay of uncommitted ones gives the same.
        """
        content, time = _digest(placed.correction), placed.kafka_timestamp
        if content in self._stored_at:
            stored_at = self._stored_at.pop(content)
            if stored_at is None or time is None or abs(time - stored_at) <= self._window_us:
                self._stored_at[content] = stored_at
                return False
        self._stored_at[content] = time
        if time is not None:
            self._expire(time - 2 * self._window_us)
        return True

    def _expire(self, before: int) -> None:
        """Drop the oldest that are of an earlier time; they are in the order in which they were noted."""
        while len(self._stored_at) > KEPT_MIN:
            content, time = next(iter(self._stored_at.items()))
            if time is not None and time >= before:
                return
            del self._stored_at[content]


def _digest(correction: Correction) -> bytes:
    """Return a hash of all that a venue says in a correction, and so of all but the time of its capture."""
    values = [_plain(value) for value in correction._replace(received=None)]
    return hashlib.blake2b(msgspec.msgpack.encode(values), digest_size=_DIGEST_BYTES).digest()


def _plain(value: object) -> object:
    """Return a decimal without trailing zeros, which the table adds, and any other value unchanged."""
    return str(value.normalize(_EXACT)) if isinstance(value, Decimal) else value

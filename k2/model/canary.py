"""The canary: a symbol of the job's own, whose numbers it publishes, and every hundredth of which it leaves out.

A message depends on its number alone, but for its time, which is not content. So a number that is published again, by
the next start or by another job, is a duplicate.
"""

from typing import Final, NamedTuple

import msgspec

from k2.model.key_groups import group_of

__all__ = ["LEFT_OUT_EVERY", "CanarySymbol", "is_left_out", "left_out", "next_number"]

LEFT_OUT_EVERY: Final = 100


class CanarySymbol(NamedTuple):
    """The exchange and symbol under which the canary trades."""

    exchange: str
    symbol: str

    @property
    def group(self) -> int:
        """Its key group."""
        return group_of(self.exchange, self.symbol)

    @property
    def key(self) -> bytes:
        """The Kafka key of its messages."""
        return f"{self.exchange}|{self.symbol}".encode()

    def message(self, number: int, timestamp_us: int) -> bytes:
        """Return the message with a number, as one of venue `k2`."""
        names = {"exchange": self.exchange, "symbol": self.symbol, "sequence": number, "timestamp": timestamp_us}
        return msgspec.json.encode({**names, "price": "1", "quantity": "1"})


def is_left_out(number: int) -> bool:
    """Return whether a number is never published."""
    return number % LEFT_OUT_EVERY == 0


def left_out(first: int, last: int) -> range:
    """Return the numbers from `first` to `last`, both inclusive, that are never published.

    >>> [*left_out(1, 99)], [*left_out(100, 100)], [*left_out(100, 301)], [*left_out(5, 4)]
    ([], [100], [100, 200, 300], [])
    """
    return range(-(-first // LEFT_OUT_EVERY) * LEFT_OUT_EVERY, last + 1, LEFT_OUT_EVERY)


def next_number(number: int) -> int:
    """Return the number to publish after another.

    >>> [next_number(number) for number in (0, 98, 99, 101)]
    [1, 99, 101, 102]
    """
    return number + 2 if is_left_out(number + 1) else number + 1

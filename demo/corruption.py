"""Corruptions of messages: each way to make a message invalid, and the expected reason of its dead letter."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["CORRUPTIONS", "Corruption", "cut_short"]

_PRICE: Final = re.compile(rb'"price":"?[0-9.]+"?')
_QUANTITY: Final = re.compile(rb'"quantity":"?[0-9.]+"?')
_TIME: Final = re.compile(rb'"timestamp":("[^"]*"|[0-9]+)')
_SYMBOL: Final = re.compile(rb'"symbol":"[^"]*",')


class Corruption(NamedTuple):
    """One way to corrupt a message."""

    reason: str
    corrupt: Callable[[bytes], bytes | None]


def cut_short(value: bytes) -> bytes:
    """Return the first half of a message."""
    return value[: len(value) // 2]


def _replacing(pattern: re.Pattern[bytes], text: bytes) -> Callable[[bytes], bytes]:
    return lambda value: pattern.sub(text, value)


CORRUPTIONS: Final = {
    "cut short": Corruption("malformed", cut_short),
    "not UTF-8": Corruption("malformed", lambda value: value.replace(b'"symbol":"', b'"symbol":"\xff\xfe', 1)),
    "an array": Corruption("malformed", lambda value: b"[" + value + b"]"),
    "null value": Corruption("malformed", lambda _: None),
    "price of wrong type": Corruption("invalid", _replacing(_PRICE, b'"price":true')),
    "price NaN": Corruption("invalid", _replacing(_PRICE, b'"price":"NaN"')),
    "price too fine": Corruption("invalid", _replacing(_PRICE, b'"price":"1.1234567890123456789"')),
    "negative quantity": Corruption("invalid", _replacing(_QUANTITY, b'"quantity":"-1.5"')),
    "time beyond 64 bits": Corruption("invalid", _replacing(_TIME, b'"timestamp":92233720368547758080')),
    "no symbol": Corruption("invalid", _replacing(_SYMBOL, b"")),
}
"""By their names in the report."""

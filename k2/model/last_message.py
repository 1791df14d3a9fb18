"""The last message read of a topic partition: kept with the progress, to notice a log that was cut and grew again."""

import hashlib
from typing import Final

import msgspec

__all__ = ["LastMessage", "message_hash"]

_NULL: Final = -1
_WORD_BYTES: Final = 8


class LastMessage(msgspec.Struct, frozen=True):
    """The last message that was read of a topic partition."""

    offset: int
    hash: str
    """`message_hash` of the message."""
    leader_epoch: int | None = None
    """Leader epoch of the message's batch; None if the broker gives none."""


def message_hash(key: bytes | None, value: bytes | None, timestamp: int) -> str:
    """Return a 64-bit hash of a message as 16 hexadecimal digits, the same on every machine and in every version.

    It is BLAKE2b over the sizes and bytes of key and value and over the Kafka timestamp in microseconds (`NULL_TIME` if
    there is none). Sizes and timestamp are 8 bytes each, little-endian, signed; the size of a null is -1.
    """
    digest = hashlib.blake2b(digest_size=_WORD_BYTES)
    for part in (key, value):
        digest.update(_word(_NULL if part is None else len(part)))
        digest.update(part or b"")
    digest.update(_word(timestamp))
    return digest.hexdigest()


def _word(number: int) -> bytes:
    return number.to_bytes(_WORD_BYTES, "little", signed=True)

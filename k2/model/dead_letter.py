"""Dead letters: messages that are not stored, as JSON lines with the reason and the original bytes."""

import base64
from datetime import datetime
from typing import Final, Literal

import msgspec

from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.reasons import Reason
from k2.model.times import time_of

__all__ = ["Coordinates", "DeadLetter", "as_text", "as_time", "error_type"]

Encoding = Literal["base64"]


class Coordinates(msgspec.Struct, frozen=True):
    """Kafka coordinates of a trade; unique among all rows and dead letters."""

    topic: str
    partition: int
    offset: int
    index: int = 0


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message that is not in the table, and the reason. Fields are named as in the file."""

    topic: str
    partition: int
    offset: int
    index: int = 0
    """Index of the trade in its message, for a message with several trades."""
    kafka_timestamp: datetime | None
    """UTC; null if the broker has none, or one outside the years 1 to 9999."""
    key: str | None
    value: str | None
    """The value as text, or in base64 if `value_encoding` is set; null for a null value (a tombstone)."""
    reason: Reason
    error: str
    """The field and what is wrong with it; for a conflict, the stored content, the received content and the remedy."""
    error_type: str
    venue: str
    dead_lettered_at: datetime | None = None
    """UTC; set when the dead letter is written."""
    key_encoding: Encoding | None = None
    value_encoding: Encoding | None = None
    exchange: str | None = None
    """This field and those below are set for conflicts only, and absent from files of earlier versions."""
    symbol: str | None = None
    sequence: int | None = None
    session: int | None = None
    """Session of the stored trade; 0 for a conflict of trade ids."""
    timestamp: datetime | None = None
    """Venue time of the trade, UTC."""
    origin: str | None = None
    """Where the message came from, if not from the live feed (`k2.model.origin`); `venue` is then the one it named."""

    @classmethod
    def of(cls, batch: MessageBatch, message_idx: int, reason: Reason, error: str, index: int = 0) -> "DeadLetter":
        """Return the dead letter of one message of a batch."""
        key, key_encoding = as_text(batch.key(message_idx))
        value, value_encoding = as_text(batch.value(message_idx))
        return cls(
            topic=batch.topic,
            partition=batch.partition,
            offset=int(batch.offsets[message_idx]),
            index=index,
            kafka_timestamp=as_time(int(batch.kafka_timestamps[message_idx])),
            key=key,
            key_encoding=key_encoding,
            value=value,
            value_encoding=value_encoding,
            reason=reason,
            error=error,
            error_type=error_type(reason),
            venue=batch.venue,
            origin=None if (marks := batch.marks.get(message_idx)) is None else marks.origin,
        )

    @classmethod
    def parse(cls, line: bytes) -> "DeadLetter":
        """Parse one line of a file.

        Raises:
            ValueError: the line is not a dead letter.
        """
        return _DECODER.decode(line)

    def line(self) -> bytes:
        """Return the dead letter as one line that ends with a newline. The JSON text contains no other newline."""
        return _ENCODER.encode(self) + b"\n"

    @property
    def coordinates(self) -> Coordinates:
        """Kafka coordinates of the trade."""
        return Coordinates(self.topic, self.partition, self.offset, self.index)

    def key_bytes(self) -> bytes | None:
        """Return the original key bytes of the message."""
        return _as_bytes(self.key, self.key_encoding)

    def value_bytes(self) -> bytes | None:
        """Return the original value bytes of the message."""
        return _as_bytes(self.value, self.value_encoding)


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(DeadLetter)


def as_time(microseconds: int) -> datetime | None:
    """Convert microseconds since the epoch to a UTC datetime; None if absent or outside the years 1 to 9999."""
    if microseconds == NULL_TIME:
        return None
    try:
        return time_of(microseconds)
    except OverflowError:
        return None


def error_type(reason: Reason) -> str:
    """Return the name of the exception that stands for a reason."""
    return "TypeError" if reason is Reason.UNSUPPORTED else "ValueError"


def as_text(data: bytes | None) -> tuple[str | None, Encoding | None]:
    """Return the text of a key or value, and its encoding if it is not UTF-8."""
    if data is None:
        return None, None
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"


def _as_bytes(text: str | None, encoding: Encoding | None) -> bytes | None:
    if text is None:
        return None
    return base64.b64decode(text) if encoding == "base64" else text.encode()

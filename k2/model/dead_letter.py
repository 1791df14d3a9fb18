"""A dead letter: a message set aside with its reason, as a line of JSON that gives its bytes back."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.reasons import Reason

__all__ = ["Coordinates", "DeadLetter", "as_time"]

Encoding = Literal["base64"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Coordinates(msgspec.Struct, frozen=True):
    """Where a trade came from: at most one row or one dead letter bears the same."""

    topic: str
    partition: int
    offset: int
    index: int = 0


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message that is not in the table, and why; fields as in the file."""

    topic: str
    partition: int
    offset: int
    index: int = 0
    """The trade's place in its message, for a message that bears several."""
    kafka_timestamp: datetime | None
    """UTC; null where the broker gave none, or one outside the years 1 to 9999."""
    key: str | None
    value: str | None
    """The text, or with `value_encoding` the bytes in base64; null for a null value (a tombstone)."""
    reason: Reason
    error: str
    """The field and what is wrong with it; of a conflict, what is stored, what came and what settles it."""
    error_type: str
    venue: str
    dead_lettered_at: datetime | None = None
    """UTC; set when the letter is written."""
    key_encoding: Encoding | None = None
    value_encoding: Encoding | None = None
    exchange: str | None = None
    """This and the fields below: of a conflict alone, and absent from files of earlier versions."""
    symbol: str | None = None
    sequence: int | None = None
    session: int | None = None
    """The session of the stored trade; 0 if the conflict is one of trade ids."""
    timestamp: datetime | None = None
    """The venue's time of the trade, UTC."""

    @classmethod
    def of(cls, batch: MessageBatch, message: int, reason: Reason, error: str, index: int = 0) -> "DeadLetter":
        """Set aside one message of a batch."""
        key, key_encoding = _as_text(batch.key(message))
        value, value_encoding = _as_text(batch.value(message))
        return cls(
            topic=batch.topic,
            partition=batch.partition,
            offset=int(batch.offsets[message]),
            index=index,
            kafka_timestamp=as_time(int(batch.kafka_timestamps[message])),
            key=key,
            key_encoding=key_encoding,
            value=value,
            value_encoding=value_encoding,
            reason=reason,
            error=error,
            error_type=_ERROR_TYPES[reason],
            venue=batch.venue,
        )

    @classmethod
    def parse(cls, line: bytes) -> "DeadLetter":
        """Read one line of a file.

        Raises:
            ValueError: it is not a dead letter.
        """
        return _DECODER.decode(line)

    def line(self) -> bytes:
        """Return the letter's line, with its newline; the text itself never holds a raw one."""
        return _ENCODER.encode(self) + b"\n"

    @property
    def coordinates(self) -> Coordinates:
        """Where the letter's trade came from."""
        return Coordinates(self.topic, self.partition, self.offset, self.index)

    def key_bytes(self) -> bytes | None:
        """Return the message's key as it was."""
        return _as_bytes(self.key, self.key_encoding)

    def value_bytes(self) -> bytes | None:
        """Return the message's value as it was."""
        return _as_bytes(self.value, self.value_encoding)


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(DeadLetter)
_ERROR_TYPES: Final = {
    Reason.MALFORMED: "ValueError",
    Reason.INVALID: "ValueError",
    Reason.UNSUPPORTED: "TypeError",
    Reason.CONFLICT: "ValueError",
    Reason.TOO_LARGE: "ValueError",
}


def as_time(microseconds: int) -> datetime | None:
    """Return a time in microseconds since the epoch, UTC; None if it is absent or outside the years 1 to 9999."""
    if microseconds == NULL_TIME:
        return None
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None


def _as_text(data: bytes | None) -> tuple[str | None, Encoding | None]:
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

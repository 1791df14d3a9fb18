"""Headers of messages that are not of the live feed: where they come from, and how they are decoded.

A replayed dead letter or a fill from an archive is published to the topic of its symbol, and goes through the same
rules as every message. Its headers say where it comes from, which becomes the column `origin` of its rows.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from k2.model.progress import TopicPartition

__all__ = [
    "HEADERS",
    "INDEX_HEADER",
    "ORIGIN_BYTES_MAX",
    "ORIGIN_HEADER",
    "VENUE_HEADER",
    "MessageMarks",
    "archive_origin",
    "marks_of",
    "person_origin",
    "replay_origin",
    "rest_origin",
]

ORIGIN_HEADER: Final = "k2-origin"
"""Header with the origin of a message, UTF-8; a longer one than `ORIGIN_BYTES_MAX` is cut."""
VENUE_HEADER: Final = "k2-venue"
"""Header with the name of the venue that decodes the message, in place of the topic's."""
INDEX_HEADER: Final = "k2-index"
"""Header with the index, in decimal, of the only trade to take of a message with several."""
HEADERS: Final = (ORIGIN_HEADER, VENUE_HEADER, INDEX_HEADER)
ORIGIN_BYTES_MAX: Final = 1_000
_ARCHIVE: Final = "archive "
_REST: Final = "rest "


class MessageMarks(NamedTuple):
    """The headers of a message that is not of the live feed; None for each one that is absent."""

    origin: str | None = None
    venue: str | None = None
    trade_index: int | None = None
    """-1 if the header is not a number: no trade has this index."""

    @property
    def is_in_stream(self) -> bool:
        """Whether the message is where it was in the stream: neither a fill nor the replay of a conflict.

        Only the replay of a conflict names one trade of its message.
        """
        return self.trade_index is None and not (self.origin or "").startswith((_ARCHIVE, _REST))


def marks_of(headers: Iterable[tuple[str, bytes | str | None]]) -> MessageMarks | None:
    """Return the marks in the headers of a message, of each name the last one; None if it has none of them."""
    found = {name: _as_bytes(value) for name, value in headers if name in HEADERS}
    if not found:
        return None
    origin, venue, index = (found.get(name) for name in HEADERS)
    return MessageMarks(
        None if origin is None else origin[:ORIGIN_BYTES_MAX].decode(errors="replace"),
        venue.decode(errors="replace") if venue else None,
        None if index is None else _index(index),
    )


def _as_bytes(value: bytes | str | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _index(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else -1


def replay_origin(topic_partition: TopicPartition, offset: int) -> str:
    """Return the origin of a replayed dead letter, by the Kafka coordinates of the message that was set aside."""
    return f"replay {topic_partition}:{offset}"


def archive_origin(sha256: str, name: str) -> str:
    """Return the origin of a fill from an archive, by the SHA-256 of the file in hex and its name or address."""
    return _cut(f"{_ARCHIVE}sha256:{sha256} {name}")


def rest_origin(sha256: str, address: str) -> str:
    """Return the origin of a fill from a REST answer, by the SHA-256 of its bytes in hex and its address."""
    return _cut(f"{_REST}sha256:{sha256} {address}")


def person_origin(name: str) -> str:
    """Return the origin of a fill that a person entered."""
    return _cut(f"person {name}")


def _cut(text: str) -> str:
    return text.encode()[:ORIGIN_BYTES_MAX].decode(errors="ignore")

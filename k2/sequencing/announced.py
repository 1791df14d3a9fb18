"""Announced numbers: numbers above a symbol's newest trade that are missing, persisted next to the progress.

The rows of the table do not show that they exist, and the message that named them is not read again. A process that
starts must know them, with or without its recovery store: the trades that come later fill them.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from k2.model.documents import read_document
from k2.model.progress import TopicPartition
from k2.model.state_source import AnnouncedNumber, SessionKey

__all__ = ["AnnouncedNumbers"]

FORMAT: Final = 1


class _Number(msgspec.Struct, frozen=True, array_like=True):
    exchange: str
    symbol: str
    session: int
    number: int
    at: int
    """Kafka time at which it was named, microseconds."""
    topic: str
    partition: int
    offset: int


class _Document(msgspec.Struct, frozen=True):
    format: int
    announced: list[_Number]


class AnnouncedNumbers:
    """The highest announced number of each session of one writer's symbols that has not arrived."""

    def __init__(self, text: str | None = None) -> None:
        """Start from the text of the property; None for a table without it.

        Raises:
            ValueError: the text does not have the shape written by `text`, or has another format version.
        """
        read = () if text is None else read_document(text, _Document, FORMAT).announced
        announced = (
            AnnouncedNumber(
                SessionKey(one.exchange, one.symbol, one.session),
                one.number,
                one.at,
                TopicPartition(one.topic, one.partition),
                one.offset,
            )
            for one in read
        )
        self._announced = {one.key: one for one in announced}
        self._is_changed = False

    def update(self, changes: Iterable[AnnouncedNumber]) -> None:
        """Apply the changes that some rows made."""
        for one in changes:
            self._is_changed = True
            if one.number is None:
                self._announced.pop(one.key, None)
            else:
                self._announced[one.key] = one

    def take_change(self) -> bool:
        """Return whether anything changed since the last call."""
        is_changed, self._is_changed = self._is_changed, False
        return is_changed

    def each(self) -> list[AnnouncedNumber]:
        """Return the announced numbers, one per session."""
        return [*self._announced.values()]

    def text(self) -> str:
        """Return the text of the property."""
        announced = [
            _Number(*key, one.number, one.at, one.topic_partition.topic, one.topic_partition.partition, one.offset)
            for key, one in sorted(self._announced.items())
            if one.number is not None
        ]
        return msgspec.json.encode(_Document(FORMAT, announced)).decode()

"""Doubts: unsettled conflicts, persisted in a table property next to the progress.

Two successive conflicts decide that numbering began again. A process that ends between the two must know the first one
when it restarts, with or without its recovery store.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from k2.model.documents import read_document
from k2.model.state_source import NumberDoubt

__all__ = ["Doubts"]

FORMAT: Final = 1


class _Document(msgspec.Struct, frozen=True):
    format: int
    doubts: list[tuple[str, str, int, int]]
    """Exchange, symbol, sequence number, effective time in microseconds."""


class Doubts:
    """The doubts of one writer's symbols."""

    def __init__(self, text: str | None = None) -> None:
        """Start from the text of the property; None for a table without it.

        Raises:
            ValueError: the text does not have the shape written by `text`, or has another format version.
        """
        read = () if text is None else read_document(text, _Document, FORMAT).doubts
        self._doubts = {one[:2]: NumberDoubt(*one) for one in read}
        self._is_changed = False

    def update(self, changes: Iterable[NumberDoubt]) -> None:
        """Apply the changes that some rows made."""
        for one in changes:
            self._is_changed = True
            if one.sequence is None:
                self._doubts.pop((one.exchange, one.symbol), None)
            else:
                self._doubts[one.exchange, one.symbol] = one

    def take_change(self) -> bool:
        """Return whether anything changed since the last call."""
        is_changed, self._is_changed = self._is_changed, False
        return is_changed

    def each(self) -> list[NumberDoubt]:
        """Return the unsettled conflicts, one per symbol."""
        return [*self._doubts.values()]

    def text(self) -> str:
        """Return the text of the property."""
        doubts = [
            (one.exchange, one.symbol, one.sequence, one.at)
            for _, one in sorted(self._doubts.items())
            if one.sequence is not None
        ]
        return msgspec.json.encode(_Document(FORMAT, doubts)).decode()

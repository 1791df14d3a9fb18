"""Doubts: unsettled conflicts, persisted in a table property next to the progress.

Two successive conflicts decide that numbering began again. A process that ends between the two must know the first one
when it restarts, with or without its recovery store.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from k2.model.documents import read_document
from k2.model.state_source import NumberDoubt

__all__ = ["PROPERTY", "Doubts", "doubts_in"]

PROPERTY: Final = "k2.doubts."
"""Prefix of a property of the table `trades`, one per writer."""
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
            TableError: the text does not have the shape written by `text`, or has another format version.
        """
        self._doubts = {(one.exchange, one.symbol): one for one in _read(text)}
        self._is_changed = False

    def update(self, changes: Iterable[NumberDoubt]) -> None:
        """Apply the changes that some rows made."""
        for one in changes:
            self._is_changed = True
            if one.sequence is None:
                self._doubts.pop((one.exchange, one.symbol), None)
            else:
                self._doubts[one.exchange, one.symbol] = one

    def changed(self, writer: str) -> dict[str, str]:
        """Return the property to set with the next commit; empty if nothing changed since the last call."""
        if not self._is_changed:
            return {}
        self._is_changed = False
        return {PROPERTY + writer: self.text()}

    def text(self) -> str:
        """Return the text of the property."""
        doubts = [
            (one.exchange, one.symbol, one.sequence, one.at)
            for _, one in sorted(self._doubts.items())
            if one.sequence is not None
        ]
        return msgspec.json.encode(_Document(FORMAT, doubts)).decode()


def doubts_in(properties: Mapping[str, str]) -> list[NumberDoubt]:
    """Return the doubts of all writers from the properties of the table `trades`."""
    return [one for name, text in properties.items() if name.startswith(PROPERTY) for one in _read(text)]


def _read(text: str | None) -> list[NumberDoubt]:
    if text is None:
        return []
    return [NumberDoubt(*one) for one in read_document(f"{PROPERTY}N", text, _Document, FORMAT).doubts]

"""Conflicts that are not settled yet, as they stand in a property of the table beside the progress.

Whether numbering began again is decided by two conflicts in succession. A process that ends between the two must
know the first when it starts again, with its recovery store or without.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from k2.model.documents import read_document
from k2.model.state_source import NumberDoubt

__all__ = ["PROPERTY", "Doubts", "doubts_in"]

PROPERTY: Final = "k2.doubts."
"""Property of the table `trades`, one a writer."""
FORMAT: Final = 1


class _Document(msgspec.Struct, frozen=True):
    format: int
    doubts: list[tuple[str, str, int, int]]
    """Exchange, symbol, number, effective time in microseconds."""


class Doubts:
    """The unsettled conflicts of one writer's symbols."""

    def __init__(self, text: str | None = None) -> None:
        """Start from the property's text; None for a table without it.

        Raises:
            TableError: the text is not of the shape that `changed` gives, or of a later format.
        """
        self._doubts = {(one.exchange, one.symbol): one for one in _read(text)}
        self._is_changed = False

    def update(self, changes: Iterable[NumberDoubt]) -> None:
        """Take over what some rows changed."""
        for one in changes:
            self._is_changed = True
            if one.sequence is None:
                self._doubts.pop((one.exchange, one.symbol), None)
            else:
                self._doubts[one.exchange, one.symbol] = one

    def changed(self, writer: str) -> dict[str, str]:
        """Return the property to set with the next commit, once; nothing where nothing changed."""
        if not self._is_changed:
            return {}
        self._is_changed = False
        return {PROPERTY + writer: self.text()}

    def text(self) -> str:
        """Return the property's text."""
        doubts = [
            (one.exchange, one.symbol, one.sequence, one.at)
            for _, one in sorted(self._doubts.items())
            if one.sequence is not None
        ]
        return msgspec.json.encode(_Document(FORMAT, doubts)).decode()


def doubts_in(properties: Mapping[str, str]) -> list[NumberDoubt]:
    """Return the unsettled conflicts of all writers, by the properties of the table `trades`."""
    return [one for name, text in properties.items() if name.startswith(PROPERTY) for one in _read(text)]


def _read(text: str | None) -> list[NumberDoubt]:
    if text is None:
        return []
    return [NumberDoubt(*one) for one in read_document(f"{PROPERTY}N", text, _Document, FORMAT).doubts]

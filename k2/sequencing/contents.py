"""The content of a symbol's stored numbers, as the specification of sequence tracking asks for it."""

from typing import Protocol

from k2.model.content import UNKNOWN

__all__ = ["Contents", "PlainContents"]


class Contents(Protocol):
    """The content of the numbers of one symbol, by session (from 1)."""

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` if it is not known."""

    def put(self, session: int, sequence: int, content: int) -> None:
        """Record the content of a stored number."""


class PlainContents:
    """All contents in a dictionary; `k2.sequencing.fingerprints` is the compact form."""

    def __init__(self) -> None:
        self._contents: dict[tuple[int, int], int] = {}

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` if it is not known."""
        return self._contents.get((session, sequence), UNKNOWN)

    def put(self, session: int, sequence: int, content: int) -> None:
        """Record the content of a stored number."""
        self._contents[session, sequence] = content

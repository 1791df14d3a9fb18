"""Contents: what is stored under the numbers of one symbol, in plain form for the specification."""

from typing import Protocol

from k2.model.content import UNKNOWN

__all__ = ["Contents", "PlainContents"]


class Contents(Protocol):
    """The content of the numbers of one symbol, by session (from 1)."""

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` if it is not known."""

    def find_session(self, newest: int, searched: int, sequence: int, content: int) -> int | None:
        """Return the newest session with this content under a number; None if there is none.

        It is one of the `searched` sessions up to and including `newest`. `content` is not `UNKNOWN`.
        """

    def put(self, session: int, sequence: int, content: int) -> None:
        """Record the content of a stored number."""


class PlainContents:
    """All contents in a dictionary; `k2.sequencing.fingerprints` is the compact form."""

    def __init__(self) -> None:
        self._contents: dict[tuple[int, int], int] = {}

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` if it is not known."""
        return self._contents.get((session, sequence), UNKNOWN)

    def find_session(self, newest: int, searched: int, sequence: int, content: int) -> int | None:
        """Return the newest session with a content under a number, as `Contents.find_session`."""
        sessions = range(newest, max(newest - searched, 0), -1)
        return next((session for session in sessions if self.get(session, sequence) == content), None)

    def put(self, session: int, sequence: int, content: int) -> None:
        """Record the content of a stored number."""
        self._contents[session, sequence] = content

"""Strict parsing of versioned JSON documents in table properties."""

from typing import Protocol, TypeVar

import msgspec

__all__ = ["Document", "UnknownFormatError", "read_document"]


class UnknownFormatError(ValueError):
    """A document has another format version than the one that is read here."""


class Document(Protocol):
    """A document with a format version."""

    @property
    def format(self) -> int:
        """Return the format version."""


D = TypeVar("D", bound=Document)


def read_document(text: str, kind: type[D], known_format: int) -> D:
    """Parse the text of a table property.

    Raises:
        ValueError: the text does not have the documented shape.
        UnknownFormatError: the document has another format version.
    """
    document = msgspec.json.decode(text, type=kind)
    if document.format != known_format:
        raise UnknownFormatError(f"has format {document.format}; this version reads {known_format}")
    return document

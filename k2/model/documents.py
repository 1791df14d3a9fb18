"""Strict parsing of versioned JSON documents in table properties."""

from typing import Protocol, TypeVar

import msgspec

__all__ = ["Document", "read_document"]


class Document(Protocol):
    """A document with a format version."""

    @property
    def format(self) -> int:
        """Return the format version."""


D = TypeVar("D", bound=Document)


def read_document(text: str, kind: type[D], known_format: int) -> D:
    """Parse the text of a table property.

    Raises:
        ValueError: the text does not have the documented shape, or has another format version.
    """
    try:
        document = msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"cannot be read: {error}") from error
    if document.format != known_format:
        raise ValueError(f"has format {document.format}; this version reads {known_format}")
    return document

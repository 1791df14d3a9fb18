"""JSON documents in table properties: read strictly, and of one format."""

from typing import Protocol, TypeVar

import msgspec

from k2.model.errors import TableError

__all__ = ["Document", "read_document"]


class Document(Protocol):
    """A document that says of what format it is."""

    @property
    def format(self) -> int:
        """Return its format."""


D = TypeVar("D", bound=Document)


def read_document(name: str, text: str, kind: type[D], known_format: int) -> D:
    """Read the text of a property.

    Raises:
        TableError: it is not of the documented shape, or of another format.
    """
    try:
        document = msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise TableError(f"table property {name} cannot be read: {error}") from error
    if document.format != known_format:
        raise TableError(f"table property {name} has format {document.format}, this version reads {known_format}")
    return document

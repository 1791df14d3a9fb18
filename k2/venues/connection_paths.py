"""Paths of what every message of a connection has: from the message's root, as `$.sequence_num` or `$[-1]`."""

from typing import Any, Final

from k2.venues.table_paths import parse_path

__all__ = ["Steps", "find", "parse_connection_path"]

Steps = tuple[str | int, ...]
"""Keys of objects and indexes of arrays; -1 is the last element."""
_LAST: Final = "[-1]"


def parse_connection_path(text: str) -> Steps:
    """Parse a path from the message's root, which may end with `[-1]`, the last element of an array.

    Raises:
        ValueError: the text is not such a path.

    >>> parse_connection_path("$.sequence_num"), parse_connection_path("$[-1]")
    (('sequence_num',), (-1,))
    """
    if not text.startswith("$"):
        raise ValueError(f"begins at the trade: {text!r}; each message has one number, so begin with $")
    if text.endswith(_LAST):
        before = text.removesuffix(_LAST)
        return *(() if before == "$" else parse_path(before).steps), -1
    return parse_path(text).steps


def find(root: Any, steps: Steps) -> Any:
    """Return the value at a path; None if there is none."""
    for step in steps:
        if isinstance(step, str):
            root = root.get(step) if type(root) is dict else None
        else:
            root = root[step] if type(root) is list and -len(root) <= step < len(root) else None
    return root

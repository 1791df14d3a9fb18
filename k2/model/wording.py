"""Words of messages for people: counts with their nouns, and the name that was probably meant."""

from collections.abc import Iterable

__all__ = ["closest", "format_count"]


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless the count is 1.

    >>> [format_count(count, "range") for count in (0, 1, 1_000)]
    ['0 ranges', '1 range', '1,000 ranges']
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to one; None if none is.

    >>> closest("tardes", ["trades", "quotes"])
    'trades'
    """
    import difflib  # noqa: PLC0415  only an error needs it

    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)

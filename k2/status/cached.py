"""Cached values, each kept while the version of what it is read from stays the same."""

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Cached"]

T = TypeVar("T")


class Cached(Generic[T]):
    """A value that is read again only if its version changes."""

    def __init__(self) -> None:
        self._held: tuple[str, T] | None = None

    def get(self, version: str, read: Callable[[], T]) -> T:
        """Return the value of a version, which `read` returns if another one is held."""
        if self._held is None or self._held[0] != version:
            self._held = version, read()
        return self._held[1]

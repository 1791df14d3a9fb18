"""LRU cache with a size limit."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LruCache"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """A thread-safe cache of immutable values, of limited total size."""

    def __init__(self, size_max: int, size_of: Callable[[Value], int] = lambda _: 1) -> None:
        """Create a cache whose values' sizes, in the unit of `size_of`, add up to at most `size_max`."""
        self._size_max = size_max
        self._size_of = size_of
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """The total size of the cached values."""
        return self._size

    def get(self, key: Key) -> Value | None:
        """Return the value of a key; None if it is not cached."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> Value:
        """Cache a value unless the key is cached already, and return it."""
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._size += self._size_of(value)
            while self._size > self._size_max:
                _, oldest = self._values.popitem(last=False)
                self._size -= self._size_of(oldest)
        return value

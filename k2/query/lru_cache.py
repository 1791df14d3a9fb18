"""Values that are remembered, those asked for the longest ago forgotten where there are too many."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LruCache"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """A cache of what never changes under its key, of a size that it never goes beyond; of use to several threads."""

    def __init__(self, size_max: int, size_of: Callable[[Value], int] = lambda _: 1) -> None:
        """Keep values whose sizes sum up to `size_max` at the most, in the unit of `size_of`."""
        self._size_max = size_max
        self._size_of = size_of
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """The sizes of all values that are kept now, summed up."""
        return self._size

    def find(self, key: Key) -> Value | None:
        """Return a key's value; None where it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, value: Value) -> Value:
        """Keep a value, unless another thread has done so, and give it."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._size += self._size_of(value)
            while self._size > self._size_max:
                _, oldest = self._kept.popitem(last=False)
                self._size -= self._size_of(oldest)
        return value

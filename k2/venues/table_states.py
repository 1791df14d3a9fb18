"""The paths of a table as states and edges, so that one scan of a message finds the values of all of them."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from k2.venues.table_layout import (
    CLOSES,
    EDGE_MASK,
    ELEMENTS,
    FIRST_EDGES,
    GROUP,
    ITEM_SLOT,
    OPENS,
    ROOT_SLOT,
    STATE_WORDS,
)

__all__ = ["EACH", "Steps", "UnfitTableError", "Words", "put_states"]

Steps = tuple[str | int, ...]
"""Keys of objects, indexes of arrays, and `[]`."""
Words = list[int]

EACH: Final = "[]"
_KEYS_MAX: Final = 64
"""Keys of one object that a table may name: they are bits of a word while the object is scanned."""


class UnfitTableError(Exception):
    """A table that the kernel does not decode."""


class _Position(NamedTuple):
    """A place on a path: that of a value of the message, of the elements of a list, or of a value of an element."""

    steps: Steps
    at: int
    slot: int
    """0 for the elements of a list."""
    group: int
    """The list; 0 for a value of the message."""

    @property
    def is_list(self) -> bool:
        """Whether the path leads to the elements of a list."""
        return not self.slot


def put_states(
    words: Words, slots: Mapping[Steps, int], item_slots: Mapping[Steps, int], groups: Mapping[Steps, int]
) -> tuple[int, int]:
    """Append the states of all paths to a program; return the places of that without positions, and of the message's.

    Args:
        words: the program, appended to.
        slots: the slot of each path from the message's root.
        item_slots: the slot of each path from an element.
        groups: the number of each list of elements, by its path.

    Raises:
        UnfitTableError: elements of two lists overlap, or an object has too many keys.
    """
    fields = frozenset((steps, slot) for steps, slot in item_slots.items())
    start = [_Position(steps, 0, slot, 0) for steps, slot in slots.items()]
    start += [_Position(steps, 0, 0, group) for steps, group in groups.items()]
    states = _States(words, fields)
    return states.put(frozenset()), states.put(frozenset(start))


class _States:
    """Writes each state once: the set of the positions that a value has on all paths."""

    def __init__(self, words: Words, fields: frozenset[tuple[Steps, int]]) -> None:
        self._words = words
        self._fields = fields
        self._known: dict[frozenset[_Position], int] = {}

    def put(self, positions: frozenset[_Position]) -> int:
        """Write the state of a value, and those of all values within it; return its place."""
        if positions in self._known:
            return self._known[positions]
        at = len(self._words)
        self._known[positions] = at
        self._words += [0] * STATE_WORDS
        lists = [one for one in positions if one.is_list]
        begun = [one.group for one in lists if one.at == len(one.steps)]
        within = positions | {_Position(steps, 0, slot, group) for group in begun for steps, slot in self._fields}
        if len({one.group for one in within if one.group and not one.is_list} | set(begun)) > 1:
            raise UnfitTableError
        self._set(at, GROUP, max(begun, default=0))
        self._set(at, OPENS, sum(0 < one.at < len(one.steps) and one.steps[one.at - 1] == EACH for one in lists))
        self._set(at, CLOSES, sum(_is_inner_list(one) for one in lists))
        for one in within:
            if one.at == len(one.steps) and one.slot:
                self._set(at, ITEM_SLOT if one.group else ROOT_SLOT, one.slot)
        self._put_elements(at, within)
        self._put_keys(at, within)
        return at

    def _set(self, at: int, column: np.uint64, value: int) -> None:
        self._words[at + int(column)] = value

    def _put_elements(self, at: int, positions: frozenset[_Position]) -> None:
        """Write the states of the elements of an array: of those that a path numbers, and of each other."""
        numbers = [step for one in positions for step in _next(one) if isinstance(step, int)]
        children = [self.put(_advanced(positions, {number, EACH})) for number in range(max(numbers, default=-1) + 1)]
        # A value within one that no path leads to stays in the state without positions.
        children.append(self.put(_advanced(positions, {EACH})) if positions else at)
        self._set(at, ELEMENTS, len(self._words))
        self._words += [*children, 0]

    def _put_keys(self, at: int, positions: frozenset[_Position]) -> None:
        keys = sorted({step for one in positions for step in _next(one) if isinstance(step, str) and step != EACH})
        if len(keys) > _KEYS_MAX:
            raise UnfitTableError
        for number, key in enumerate(keys):
            child, text = self.put(_advanced(positions, {key})), key.encode()
            head = at + int(FIRST_EDGES) + (text[0] & int(EDGE_MASK))
            edge = len(self._words)
            self._words += [self._words[head], 1 << number, child, len(text), *text]
            self._words[head] = edge


def _next(position: _Position) -> Iterator[str | int]:
    yield from position.steps[position.at : position.at + 1]


def _advanced(positions: frozenset[_Position], steps: set[str | int]) -> frozenset[_Position]:
    """Return the positions that a step leads to."""
    return frozenset(one._replace(at=one.at + 1) for one in positions if steps.intersection(_next(one)))


def _is_inner_list(position: _Position) -> bool:
    """Return whether a value is a list of trades, or on the way to them, within an element of another list."""
    return EACH in position.steps[: position.at] and EACH in _next(position)

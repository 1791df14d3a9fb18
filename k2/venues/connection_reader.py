"""Reads the number that a connection gives each of its messages, also those without a trade."""

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import MessageBatch
from k2.model.connections import ConnectionSlice
from k2.model.reasons import RejectedError
from k2.model.symbol_names import SYMBOL_BYTES_MAX
from k2.model.symbols import as_bytes
from k2.venues.connection_kernel import FOUND, IN_OBJECT, LEFT, NOWHERE, Place, group_ids, read_numbers
from k2.venues.connection_paths import Steps, find, parse_connection_path
from k2.venues.payloads import writable
from k2.venues.reading import read_json
from k2.venues.rows import MESSAGE_BYTES_MAX
from k2.venues.table import ConnectionNumbers, VenueTable
from k2.venues.venue import ConnectionReader

__all__ = ["NUMBER_MAX", "connection_reader"]

NUMBER_MAX: Final = 2**62
"""Numbers are below it, so that the distance of two fits 64 bits."""
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def connection_reader(table: VenueTable) -> ConnectionReader | None:
    """Return the function that reads the numbers of a batch's messages; None if the table has no `connection`.

    It returns a slice for each connection that has numbered messages in the batch. A message whose number is absent,
    or not a whole number below 2^62, is left out, and so is one without an id if the table names one.
    """
    if table.connection is None:
        return None
    assert isinstance(table.exchange, str), "such a table has one exchange"
    return _Reader(table.exchange, table.connection).read


class _Reader:
    def __init__(self, exchange: str, rule: ConnectionNumbers) -> None:
        self._exchange = exchange
        self._number = parse_connection_path(rule.number.path)
        self._name = None if rule.id is None else parse_connection_path(rule.id.path)
        self._places = _place(self._number), _place(self._name)
        self._is_compiled = _is_top_level(self._number, self._name)

    def read(self, batch: MessageBatch) -> list[ConnectionSlice]:
        count = len(batch)
        numbers, codes = np.empty(count, dtype=np.int64), np.zeros(count, dtype=np.int32)
        results = np.full(count, LEFT, dtype=np.int8)
        names: list[str | None] = []
        if self._is_compiled:
            names = self._read_compiled(batch, numbers, codes, results)
        for message in np.flatnonzero(results == LEFT).tolist():
            found = self._read_message(batch, message)
            results[message] = LEFT if found is None else FOUND
            if found is not None:
                numbers[message], name = found
                if name not in names:
                    names.append(name)
                codes[message] = names.index(name)
        is_found = results == FOUND
        return [
            self._slice(batch, name, numbers, np.flatnonzero(is_found & (codes == code)))
            for code, name in enumerate(names)
        ]

    def _read_compiled(
        self,
        batch: MessageBatch,
        numbers: NDArray[np.int64],
        codes: NDArray[np.int32],
        results: NDArray[np.int8],
    ) -> list[str | None]:
        """Read what the kernel accepts; return the ids of the codes."""
        id_starts, id_sizes = np.empty(len(batch), dtype=np.int64), np.empty(len(batch), dtype=np.int64)
        data = writable(batch).data
        read_numbers(data, batch.value_starts, batch.value_sizes, *self._places, numbers, id_starts, id_sizes, results)
        found = np.flatnonzero(results == FOUND)
        if self._name is None:
            return [None] if len(found) else []
        firsts = np.empty(len(found), dtype=np.int64)
        count = group_ids(data, found, id_starts, id_sizes, codes, firsts)
        spans = ((int(id_starts[first]), int(id_sizes[first])) for first in firsts[:count])
        return [batch.data[start : start + size].tobytes().decode() for start, size in spans]

    def _read_message(self, batch: MessageBatch, message: int) -> tuple[int, str | None] | None:
        """Return the number and id of a message, by the reference; None if it has no number."""
        value = batch.value(message) if batch.value_sizes[message] <= MESSAGE_BYTES_MAX else None
        if value is None:
            return None
        try:
            root = read_json(value)
        except RejectedError:
            return None
        number = _as_number(find(root, self._number))
        name = None if self._name is None else _as_name(find(root, self._name))
        return None if number is None or (name is None and self._name is not None) else (number, name)

    def _slice(
        self, batch: MessageBatch, name: str | None, numbers: NDArray[np.int64], messages: NDArray[np.int64]
    ) -> ConnectionSlice:
        timestamps = np.maximum(batch.kafka_timestamps[messages], 0)
        return ConnectionSlice(
            self._exchange, batch.topic_partition, name, numbers[messages], batch.offsets[messages], timestamps
        )


def _place(steps: Steps | None) -> Place:
    step = None if steps is None else steps[0]
    key = as_bytes(step if isinstance(step, str) else "")
    return Place(key, NOWHERE if step is None else IN_OBJECT if isinstance(step, str) else step)


def _is_top_level(number: Steps, name: Steps | None) -> bool:
    """Return whether the kernel can read two places: both at the top level, of an object or of an array."""
    if len(number) > 1 or (name is not None and len(name) > 1):
        return False
    return name is None or isinstance(number[0], str) is isinstance(name[0], str)


def _as_number(value: Any) -> int | None:
    if type(value) is str and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value < NUMBER_MAX else None


def _as_name(value: Any) -> str | None:
    if type(value) is int:
        value = str(value)
    is_name = type(value) is str and value and len(value.encode()) <= SYMBOL_BYTES_MAX and not _CONTROL.search(value)
    return value if is_name else None

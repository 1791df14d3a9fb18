"""Native reader: copies messages from librdkafka queues into columns, without a Python object per message.

The wheel of confluent-kafka bundles librdkafka. Configuration, security, assignment and watermarks remain with
confluent-kafka; only messages are read through the C API (rdkafka.h: `rd_kafka_consume_batch_queue`,
`rd_kafka_message_t`), in compiled loops that release the GIL.

The consumer must not have a Python callback: the C code of confluent-kafka would look for a thread state that does not
exist in these calls.
"""

import ctypes
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import confluent_kafka
import numpy as np
from numba.core import config
from numpy.typing import NDArray

from k2.kafka.native_calls import (
    call_destroy,
    call_headers,
    call_last_header,
    call_timestamp,
    copy,
    load_int32,
    load_int64,
)
from k2.model.compiled import compiled
from k2.model.origin import HEADERS, MessageMarks, marks_of

__all__ = ["Fetched", "Library", "PartitionQueue", "load_library"]

POLL_MESSAGES_MAX: Final = 20_000
"""Maximum of one poll: with 20,000 messages per poll, a message costs a fifth less than with 5,000."""

_HANDLE_OFFSET: Final = 16
"""Byte offset of the `rd_kafka_t *` in a `confluent_kafka.Consumer`: the first field after the object header."""

# Offsets of the fields of rd_kafka_message_t on 64-bit platforms (rdkafka.h).
_PAYLOAD: Final = 24
_PAYLOAD_SIZE: Final = 32
_KEY: Final = 40
_KEY_SIZE: Final = 48
_OFFSET: Final = 56
# Offsets of fields that rdkafka.h does not have (rd_kafka_msg_t, in rdkafka_msg.h): the bytes of the headers as they
# were read, which follow the value in Kafka's record format.
_HEADERS_SIZE: Final = 120
_HEADERS: Final = 128
_SIZE_OF_NO_HEADERS: Final = 1
"""Bytes of a record without headers: their count, 0, as a varint."""


class _HeaderSearch(NamedTuple):
    """What finds the messages that have one of the job's headers."""

    headers_function: np.uint64
    """Address of `rd_kafka_message_headers`."""
    last_function: np.uint64
    """Address of `rd_kafka_header_get_last`."""
    names: NDArray[np.uint64]
    """uint64[n], addresses of the names."""
    target: np.uint64
    """Address of 16 bytes that the functions overwrite."""
    found: NDArray[np.int32]
    """int32[`POLL_MESSAGES_MAX`], gets the indices of the messages."""


@compiled
def _has_header(message: np.uint64, value_size: int, search: _HeaderSearch) -> bool:
    """Return whether a message has one of the headers; those of others are not read in Python.

    librdkafka takes 0.1 us to say that a message has none, so that is seen from its bytes. Only if the private fields
    are where they are expected do they point to the end of the value; otherwise librdkafka is asked.
    """
    end = load_int64(message + np.uint64(_PAYLOAD)) + value_size
    if (
        load_int64(message + np.uint64(_HEADERS)) == end
        and load_int32(message + np.uint64(_HEADERS_SIZE)) == _SIZE_OF_NO_HEADERS
    ):
        return False
    if call_headers(search.headers_function, message, search.target) != 0:
        return False
    headers = np.uint64(load_int64(search.target))
    for name in search.names:
        if call_last_header(search.last_function, headers, name, search.target) == 0:
            return True
    return False


@compiled
def _read_fields(
    pointers: NDArray[np.uint64],
    count: int,
    timestamp_function: np.uint64,
    search: _HeaderSearch,
    offsets: NDArray[np.int64],
    timestamps_ms: NDArray[np.int64],
    sizes: NDArray[np.int32],
    errors: NDArray[np.int32],
) -> tuple[int, int]:
    """Read the fields of `count` messages other than their bytes.

    `pointers` is uint64[count]. Filled are `offsets`, `timestamps_ms` (-1 for none) and `errors`, each [count],
    `sizes`, int32[2 * count]: of the values, then of the keys, -1 for a null; and `search.found`.

    Returns:
        The total size of values and keys, and how many messages have one of the headers of `search`.
    """
    total, found_count = 0, 0
    for message_idx in range(count):
        message = pointers[message_idx]
        errors[message_idx] = load_int32(message)
        offsets[message_idx] = load_int64(message + np.uint64(_OFFSET))
        timestamps_ms[message_idx] = call_timestamp(timestamp_function, message)
        value_size = load_int64(message + np.uint64(_PAYLOAD_SIZE))
        key_size = load_int64(message + np.uint64(_KEY_SIZE))
        has_value = load_int64(message + np.uint64(_PAYLOAD)) != 0
        has_key = load_int64(message + np.uint64(_KEY)) != 0
        sizes[message_idx] = value_size if has_value else -1
        sizes[count + message_idx] = key_size if has_key else -1
        total += (value_size if has_value else 0) + (key_size if has_key else 0)
        if errors[message_idx] == 0 and _has_header(message, value_size, search):
            search.found[found_count], found_count = message_idx, found_count + 1
    return total, found_count


@compiled
def _move_bytes(
    pointers: NDArray[np.uint64],
    count: int,
    destroy_function: np.uint64,
    data_address: np.uint64,
    sizes: NDArray[np.int32],
    starts: NDArray[np.int64],
) -> None:
    """Copy values and keys contiguously to `data_address` and destroy the messages.

    `starts`, int64[2 * count], is filled in the order of `sizes`.
    """
    position = np.int64(0)
    for message_idx in range(count):
        message = pointers[message_idx]
        value_size, key_size = sizes[message_idx], sizes[count + message_idx]
        starts[message_idx] = position
        if value_size > 0:
            source = np.uint64(load_int64(message + np.uint64(_PAYLOAD)))
            copy(data_address + np.uint64(position), source, np.uint64(value_size))
            position += value_size
        starts[count + message_idx] = position
        if key_size > 0:
            source = np.uint64(load_int64(message + np.uint64(_KEY)))
            copy(data_address + np.uint64(position), source, np.uint64(key_size))
            position += key_size
        call_destroy(destroy_function, message)


class Fetched(NamedTuple):
    """Columns of one poll: n messages and events. An event has an error code; its value is the text of the error."""

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    errors: NDArray[np.int32]
    """int32[n]: error code of librdkafka; 0 for a message."""
    data: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    """int32[2 * n]: bytes of the values, then of the keys; -1 for a null."""
    starts: NDArray[np.int64]
    """int64[2 * n], into `data`, in the order of `sizes`."""
    leader_epoch: int = -1
    """Leader epoch of the last message; -1 if there is no message, or the broker gives no epoch."""
    marks: Mapping[int, MessageMarks] = MappingProxyType({})
    """By index, the marks of the messages that are not of the live feed."""


class Library:
    """C API of the librdkafka instance that confluent-kafka uses."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self.name = _function(library.rd_kafka_name, ctypes.c_char_p, ctypes.c_void_p)
        self.partition_queue = _function(
            library.rd_kafka_queue_get_partition,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int32,
        )
        self.forward = _function(library.rd_kafka_queue_forward, None, ctypes.c_void_p, ctypes.c_void_p)
        self.destroy_queue = _function(library.rd_kafka_queue_destroy, None, ctypes.c_void_p)
        self.consume = _function(
            library.rd_kafka_consume_batch_queue,
            ctypes.c_ssize_t,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_size_t,
        )
        self.io_event = _function(
            library.rd_kafka_queue_io_event_enable,
            None,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_size_t,
        )
        self.leader_epoch = _function(library.rd_kafka_message_leader_epoch, ctypes.c_int32, ctypes.c_void_p)
        self.headers = _function(
            library.rd_kafka_message_headers, ctypes.c_int32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        )
        self.header_all = _function(
            library.rd_kafka_header_get_all,
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.POINTER(ctypes.c_void_p),
            ctypes.POINTER(ctypes.c_size_t),
        )
        self.headers_function = _address(library.rd_kafka_message_headers)
        self.last_header_function = _address(library.rd_kafka_header_get_last)
        self._names = [ctypes.c_char_p(name.encode()) for name in HEADERS]
        self.header_names = np.array(
            [ctypes.cast(name, ctypes.c_void_p).value for name in self._names], dtype=np.uint64
        )
        self.timestamp_function = _address(library.rd_kafka_message_timestamp)
        self.destroy_function = _address(library.rd_kafka_message_destroy)

    def handle(self, consumer: confluent_kafka.Consumer) -> int | None:
        """Return the `rd_kafka_t *` of a consumer; None if it is not at the expected offset."""
        handle = ctypes.c_void_p.from_address(id(consumer) + _HANDLE_OFFSET).value
        if not handle:
            return None
        name = self.name(handle)
        return handle if name is not None and name.startswith(b"rdkafka#consumer-") else None

    def headers_of(self, message: int) -> Iterator[tuple[str, bytes | None]]:
        """Yield the names and values of the headers of the message at an address."""
        headers = ctypes.c_void_p()
        if self.headers(message, ctypes.byref(headers)):
            return
        name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
        idx = 0
        while not self.header_all(headers, idx, ctypes.byref(name), ctypes.byref(value), ctypes.byref(size)):
            data = None if value.value is None else ctypes.string_at(value.value, size.value)
            yield (name.value or b"").decode(errors="replace"), data
            idx += 1


class PartitionQueue:
    """Queue of one topic partition, separate from the queue of the consumer; create it before the assignment."""

    def __init__(self, library: Library, handle: int, topic: str, partition: int) -> None:
        self._library = library
        self._queue = library.partition_queue(handle, topic.encode(), partition)
        if not self._queue:
            raise RuntimeError(f"librdkafka returns no queue for {topic}:{partition}")
        library.forward(self._queue, None)
        self._pointers = np.zeros(POLL_MESSAGES_MAX, dtype=np.uint64)
        # Taken once, because NumPy takes 3 us for it: 64 idle partitions cost 3.3 instead of 3.8 % of a core.
        self._pointers_address = self._pointers.ctypes.data
        self._target = np.zeros(2, dtype=np.uint64)
        self._search = _HeaderSearch(
            library.headers_function,
            library.last_header_function,
            library.header_names,
            np.uint64(self._target.ctypes.data),
            np.empty(POLL_MESSAGES_MAX, dtype=np.int32),
        )

    def poll(self) -> Fetched | None:
        """Return the queued messages, at most `POLL_MESSAGES_MAX`; None if there are none."""
        count = self._library.consume(self._queue, 0, self._pointers_address, POLL_MESSAGES_MAX)
        return self._columns(count) if count > 0 else None

    def _columns(self, count: int) -> Fetched:
        offsets, timestamps_ms = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        errors, sizes = np.empty(count, dtype=np.int32), np.empty(2 * count, dtype=np.int32)
        starts = np.empty(2 * count, dtype=np.int64)
        library = self._library
        timestamp, search = library.timestamp_function, self._search
        total, marked = _read_fields(self._pointers, count, timestamp, search, offsets, timestamps_ms, sizes, errors)
        leader_epoch, marks = self._leader_epoch(errors), self._marks(search.found[:marked])
        data = np.empty(total, dtype=np.uint8)
        address = np.uint64(data.ctypes.data)
        _move_bytes(self._pointers, count, library.destroy_function, address, sizes, starts)
        return Fetched(offsets, timestamps_ms, errors, data, sizes, starts, leader_epoch, marks)

    def _leader_epoch(self, errors: NDArray[np.int32]) -> int:
        """Return the leader epoch of the last of the messages, which are not yet destroyed; -1 for none."""
        for message_idx in range(len(errors) - 1, -1, -1):
            if errors[message_idx] == 0:
                return int(self._library.leader_epoch(int(self._pointers[message_idx])))
        return -1

    def _marks(self, marked: NDArray[np.int32]) -> dict[int, MessageMarks]:
        """Return by index the marks of messages that have some, which are not yet destroyed."""
        found = ((idx, marks_of(self._library.headers_of(int(self._pointers[idx])))) for idx in marked.tolist())
        return {idx: marks for idx, marks in found if marks is not None}

    def wake(self, descriptor: int) -> None:
        """Make librdkafka write a byte to `descriptor` when the queue gets messages after it was polled empty."""
        self._library.io_event(self._queue, descriptor, b"\0", 1)

    def close(self) -> None:
        """Release the queue; it must not be polled again."""
        self._library.io_event(self._queue, -1, None, 0)
        self._library.destroy_queue(self._queue)


@cache
def load_library() -> Library | None:
    """Load the librdkafka that the wheel of confluent-kafka bundles; None if it is not found or not compatible."""
    if config.DISABLE_JIT or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    paths = sorted(folder.glob("librdkafka-*.so*"))
    if len(paths) != 1:
        return None
    try:
        return Library(paths[0])
    except (OSError, AttributeError):
        return None


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype = result
    function.argtypes = list(arguments)
    return function


def _address(function: Any) -> np.uint64:
    return np.uint64(ctypes.cast(function, ctypes.c_void_p).value or 0)

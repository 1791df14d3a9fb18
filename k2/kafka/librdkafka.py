"""Messages out of librdkafka's queues into columns, without a Python object a message.

confluent-kafka's wheel bundles librdkafka, and settings, security, assignment and watermarks stay its own; only
messages are taken out by librdkafka's C interface (rdkafka.h: `rd_kafka_consume_batch_queue`,
`rd_kafka_message_t`), by compiled loops that release the GIL.

Condition: no Python callback on the consumer, since confluent-kafka's C side of one looks for a thread state that a
call from here does not have.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import confluent_kafka
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numpy.typing import NDArray

from k2.model.compiled import compiled

__all__ = ["Fetched", "Library", "PartitionQueue", "load_library"]

POLL_MESSAGES_MAX: Final = 20_000
"""Messages taken at once: polls of this many cost a fifth less a message than polls of 5,000."""

_HANDLE_PLACE: Final = 16
"""Where a `confluent_kafka.Consumer` holds its `rd_kafka_t *`: the first field after the object's header."""

# Offsets of the fields of rd_kafka_message_t on 64-bit platforms (rdkafka.h).
_PARTITION: Final = 16
_PAYLOAD: Final = 24
_PAYLOAD_SIZE: Final = 32
_KEY: Final = 40
_KEY_SIZE: Final = 48
_OFFSET: Final = 56


@intrinsic  # type: ignore[untyped-decorator]
def _load_int64(_context: Any, address: Any) -> Any:
    """Read eight bytes at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        return builder.load(builder.inttoptr(arguments[0], word.as_pointer()))

    return types.int64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _load_int32(_context: Any, address: Any) -> Any:
    """Read four bytes at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        return builder.load(builder.inttoptr(arguments[0], word.as_pointer()))

    return types.int32(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _copy(_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes between addresses (memcpy)."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        to, start = (builder.inttoptr(argument, byte) for argument in arguments[:2])
        cgutils.raw_memcpy(builder, to, start, arguments[2], 1)
        return _context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _call_timestamp(_context: Any, function: Any, message: Any) -> Any:
    """Call `rd_kafka_message_timestamp(message, NULL)` by its address, so that the loop can be cached on disk."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = builder.inttoptr(arguments[0], ir.FunctionType(word, [word, word]).as_pointer())
        return builder.call(called, [arguments[1], ir.Constant(word, 0)])

    return types.int64(types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _call_destroy(_context: Any, function: Any, message: Any) -> Any:
    """Call `rd_kafka_message_destroy(message)` by its address."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = builder.inttoptr(arguments[0], ir.FunctionType(ir.VoidType(), [word]).as_pointer())
        builder.call(called, [arguments[1]])
        return _context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@compiled
def _read_heads(
    pointers: NDArray[np.uint64],
    count: int,
    timestamp_function: np.uint64,
    offsets: NDArray[np.int64],
    timestamps_ms: NDArray[np.int64],
    sizes: NDArray[np.int32],
    errors: NDArray[np.int32],
) -> int:
    """Read what stands next to the bytes of `count` messages; give how many bytes they hold together.

    `pointers` uint64[count]; `offsets`, `timestamps_ms` (-1 for none), `errors` [count]; `sizes` int32[2 * count]:
    the values', then the keys', -1 for a null.
    """
    total = 0
    for place in range(count):
        message = pointers[place]
        errors[place] = _load_int32(message)
        offsets[place] = _load_int64(message + np.uint64(_OFFSET))
        timestamps_ms[place] = _call_timestamp(timestamp_function, message)
        value_size = _load_int64(message + np.uint64(_PAYLOAD_SIZE))
        key_size = _load_int64(message + np.uint64(_KEY_SIZE))
        has_value = _load_int64(message + np.uint64(_PAYLOAD)) != 0
        has_key = _load_int64(message + np.uint64(_KEY)) != 0
        sizes[place] = value_size if has_value else -1
        sizes[count + place] = key_size if has_key else -1
        total += (value_size if has_value else 0) + (key_size if has_key else 0)
    return total


@compiled
def _move_bytes(
    pointers: NDArray[np.uint64],
    count: int,
    destroy_function: np.uint64,
    data_address: np.uint64,
    sizes: NDArray[np.int32],
    starts: NDArray[np.int64],
) -> None:
    """Copy values and keys side by side to `data_address` and give each message back to librdkafka.

    `starts` int64[2 * count] is filled as `sizes` is laid out.
    """
    place_in_data = np.int64(0)
    for place in range(count):
        message = pointers[place]
        value_size, key_size = sizes[place], sizes[count + place]
        starts[place] = place_in_data
        if value_size > 0:
            source = np.uint64(_load_int64(message + np.uint64(_PAYLOAD)))
            _copy(data_address + np.uint64(place_in_data), source, np.uint64(value_size))
            place_in_data += value_size
        starts[count + place] = place_in_data
        if key_size > 0:
            source = np.uint64(_load_int64(message + np.uint64(_KEY)))
            _copy(data_address + np.uint64(place_in_data), source, np.uint64(key_size))
            place_in_data += key_size
        _call_destroy(destroy_function, message)


class Fetched(NamedTuple):
    """What one poll of a queue gave: n messages as columns; those with an error code are no data."""

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    errors: NDArray[np.int32]
    """int32[n]: librdkafka's code, 0 for a message; the value then holds the reason as text."""
    data: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    """int32[2 * n]: the values', then the keys'; -1 for a null."""
    starts: NDArray[np.int64]
    """int64[2 * n], into `data`, laid out as `sizes`."""


class Library:
    """librdkafka's C interface, of the very instance that confluent-kafka uses."""

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
        self.timestamp_function = _address(library.rd_kafka_message_timestamp)
        self.destroy_function = _address(library.rd_kafka_message_destroy)

    def handle(self, consumer: confluent_kafka.Consumer) -> int | None:
        """Return a consumer's `rd_kafka_t *`; None where what stands in its place is none."""
        handle = ctypes.c_void_p.from_address(id(consumer) + _HANDLE_PLACE).value
        if not handle:
            return None
        name = self.name(handle)
        return handle if name is not None and name.startswith(b"rdkafka#consumer-") else None


class PartitionQueue:
    """One topic partition's own queue, apart from the consumer's; made before the partition is assigned."""

    def __init__(self, library: Library, handle: int, topic: str, partition: int) -> None:
        self._library = library
        self._queue = library.partition_queue(handle, topic.encode(), partition)
        if not self._queue:
            raise RuntimeError(f"librdkafka gave no queue for {topic}:{partition}")
        library.forward(self._queue, None)
        self._pointers = np.zeros(POLL_MESSAGES_MAX, dtype=np.uint64)

    def poll(self) -> Fetched | None:
        """Take the messages that are there, at most `POLL_MESSAGES_MAX`; None for none."""
        count = self._library.consume(self._queue, 0, self._pointers.ctypes.data, POLL_MESSAGES_MAX)
        return self._columns(count) if count > 0 else None

    def _columns(self, count: int) -> Fetched:
        offsets, timestamps_ms = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        errors, sizes = np.empty(count, dtype=np.int32), np.empty(2 * count, dtype=np.int32)
        starts = np.empty(2 * count, dtype=np.int64)
        library = self._library
        total = _read_heads(self._pointers, count, library.timestamp_function, offsets, timestamps_ms, sizes, errors)
        data = np.empty(total, dtype=np.uint8)
        address = np.uint64(data.ctypes.data)
        _move_bytes(self._pointers, count, library.destroy_function, address, sizes, starts)
        return Fetched(offsets, timestamps_ms, errors, data, sizes, starts)

    def close(self) -> None:
        """Give the queue back; it may not be polled again."""
        self._library.destroy_queue(self._queue)


@cache
def load_library() -> Library | None:
    """Find the librdkafka that confluent-kafka's wheel bundles; None where it is not as expected."""
    if config.DISABLE_JIT or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if len(found) != 1:
        return None
    try:
        return Library(found[0])
    except (OSError, AttributeError):
        return None


def _function(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype = result
    function.argtypes = list(arguments)
    return function


def _address(function: Any) -> np.uint64:
    return np.uint64(ctypes.cast(function, ctypes.c_void_p).value or 0)

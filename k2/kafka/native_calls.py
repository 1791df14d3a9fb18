"""Native calls: loads, copies and functions of librdkafka by address, for compiled loops.

Addresses of functions are arguments, so that a loop can be cached.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "call_destroy",
    "call_headers",
    "call_last_header",
    "call_timestamp",
    "copy",
    "load_int32",
    "load_int64",
]


@intrinsic  # type: ignore[untyped-decorator]
def load_int64(_context: Any, address: Any) -> Any:
    """Load an int64 from an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        return builder.load(builder.inttoptr(arguments[0], word.as_pointer()))

    return types.int64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def load_int32(_context: Any, address: Any) -> Any:
    """Load an int32 from an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        return builder.load(builder.inttoptr(arguments[0], word.as_pointer()))

    return types.int32(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def copy(_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes between addresses (memcpy)."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        to, start = (builder.inttoptr(argument, byte) for argument in arguments[:2])
        cgutils.raw_memcpy(builder, to, start, arguments[2], 1)
        return _context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_timestamp(_context: Any, function: Any, message: Any) -> Any:
    """Call `rd_kafka_message_timestamp(message, NULL)`. The address is an argument so that the loop can be cached."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = builder.inttoptr(arguments[0], ir.FunctionType(word, [word, word]).as_pointer())
        return builder.call(called, [arguments[1], ir.Constant(word, 0)])

    return types.int64(types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_destroy(_context: Any, function: Any, message: Any) -> Any:
    """Call `rd_kafka_message_destroy(message)`. The address is an argument, as above."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = builder.inttoptr(arguments[0], ir.FunctionType(ir.VoidType(), [word]).as_pointer())
        builder.call(called, [arguments[1]])
        return _context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_headers(_context: Any, function: Any, message: Any, target: Any) -> Any:
    """Call `rd_kafka_message_headers(message, target)`; 0 if the message has headers. The address is an argument."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), [word, word]).as_pointer())
        return builder.call(called, [arguments[1], arguments[2]])

    return types.int32(types.uint64, types.uint64, types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_last_header(_context: Any, function: Any, headers: Any, name: Any, target: Any) -> Any:
    """Call `rd_kafka_header_get_last(headers, name, target, target + 8)`; 0 if there is a header of this name."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), [word] * 4).as_pointer())
        size = builder.add(arguments[3], ir.Constant(word, 8))
        return builder.call(called, [*arguments[1:], size])

    return types.int32(types.uint64, types.uint64, types.uint64, types.uint64), codegen

"""Protobuf messages as JSON, exact: a whole number as its digits, an enum as its name, a Timestamp as nanoseconds.

Needs the extra `schema-registry`; import it only where a table reads Protobuf.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from k2.model.reasons import Reason, RejectedError
from k2.venues.wire_format import SchemaReader, UnreadableSchemaError, decimal_digits

__all__ = ["ProtobufFile", "protobuf_reader"]

ProtobufFile = tuple[str, bytes]
"""Name, by which other files import it, and serialized `FileDescriptorProto` of a file."""

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_DECIMAL: Final = "confluent.type.Decimal"
_SCALE_MAX: Final = 1_000
_INDEXES_MAX: Final = 100
_ENCODE: Final = msgspec.json.Encoder().encode
_BUILT_IN: Final = (
    any_pb2,
    source_context_pb2,
    type_pb2,
    api_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
"""Files that are a part of Protobuf, which a registry need not have; each after those that it imports."""
_FLOATS: Final = frozenset({FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE})

ToValue = Callable[[Any], Any]
"""Returns a value of a message as JSON has it."""


def protobuf_reader(file: ProtobufFile, imports: Sequence[ProtobufFile] = ()) -> SchemaReader:
    """Return the reader of the messages of a file; `imports` are the files that it imports, each after its own.

    A record begins with the indexes of its message in the file. Fields have the names of the file. One that is absent,
    and has presence, is left out; any other has its default. The wrappers of `google.protobuf`, such as `StringValue`,
    are their value, and a `confluent.type.Decimal` is its digits. Bytes are base64.

    Raises:
        UnreadableSchemaError: a file is not valid, or imports one that is not given.
    """
    descriptors = _file(file, imports)
    readers: dict[tuple[int, ...], Callable[[bytes], bytes]] = {}

    def to_json(record: bytes) -> bytes:
        indexes, start = _indexes(record)
        if indexes not in readers:
            readers[indexes] = _reader(descriptors, indexes)
        return readers[indexes](record[start:])

    first = [*descriptors.message_types_by_name.values()][:1]
    return SchemaReader(to_json, tuple(path for one in first for path in _floats(one, "", ())))


def _file(file: ProtobufFile, imports: Sequence[ProtobufFile]) -> FileDescriptor:
    pool, known = DescriptorPool(), set[str]()
    for built_in in _BUILT_IN:
        pool.AddSerializedFile(built_in.DESCRIPTOR.serialized_pb)
        known.add(built_in.DESCRIPTOR.name)
    try:
        for name, data in (*imports, file):
            if name in known:
                continue
            known.add(name)
            descriptor = descriptor_pb2.FileDescriptorProto.FromString(data)
            # The name that a registry gives a file is not that by which others import it.
            descriptor.name = name
            pool.Add(descriptor)
        return pool.FindFileByName(file[0])
    except (DecodeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableSchemaError(f"not a Protobuf schema: {error}") from error


def _indexes(record: bytes) -> tuple[tuple[int, ...], int]:
    """Return the indexes of a record's message, outermost first, and where the message begins."""
    if record.startswith(b"\0"):
        # One byte for the usual case, the first message of the file.
        return (0,), 1
    count, at = _varint(record, 0)
    if not 0 < count <= _INDEXES_MAX:
        raise RejectedError(Reason.MALFORMED, f"value: {count} message indexes")
    indexes = []
    for _ in range(count):
        index, at = _varint(record, at)
        indexes.append(index)
    return tuple(indexes), at


def _varint(record: bytes, at: int) -> tuple[int, int]:
    """Return a whole number in zigzag encoding, and where it ends."""
    number = shift = 0
    for end in range(at, min(at + 10, len(record))):
        number |= (record[end] & 0x7F) << shift
        shift += 7
        if record[end] < 0x80:
            return (number >> 1) ^ -(number & 1), end + 1
    raise RejectedError(Reason.MALFORMED, "value: its message indexes have no end")


def _reader(file: FileDescriptor, indexes: tuple[int, ...]) -> Callable[[bytes], bytes]:
    message_types = [*file.message_types_by_name.values()]
    descriptor: Descriptor | None = None
    for index in indexes:
        if not 0 <= index < len(message_types):
            raise RejectedError(Reason.UNSUPPORTED, f"value: its schema has no message with the indexes {[*indexes]}")
        descriptor = message_types[index]
        message_types = [*descriptor.nested_types]
    assert descriptor is not None, "there is at least one index"
    message_class, values = GetMessageClass(descriptor), _message_values(descriptor, {})

    def to_json(data: bytes) -> bytes:
        try:
            return _ENCODE(values(message_class.FromString(data)))
        except (DecodeError, OverflowError, RecursionError) as error:
            raise RejectedError(
                Reason.MALFORMED, f"value: not a {descriptor.full_name} of its Protobuf schema ({error})"
            ) from None

    return to_json


def _message_values(descriptor: Descriptor, known: dict[str, ToValue]) -> ToValue:
    """Return the function that returns the fields of a message; `known` are those of other messages by name."""
    if descriptor.full_name == _TIMESTAMP:
        return lambda message: message.seconds * 1_000_000_000 + message.nanos
    if descriptor.full_name == _DECIMAL:
        return _decimal
    if _is_wrapper(descriptor):
        convert = _scalar(descriptor.fields_by_name["value"])
        return lambda message: convert(message.value)
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    fields: list[tuple[str, bool, ToValue]] = []

    def values(message: Message) -> dict[str, Any]:
        return {
            name: convert(getattr(message, name))
            for name, has_presence, convert in fields
            if not has_presence or message.HasField(name)
        }

    # Known before its fields are, because a message may contain itself.
    known[descriptor.full_name] = values
    fields += [(one.name, one.has_presence, _field(one, known)) for one in descriptor.fields]
    return values


def _decimal(message: Any) -> str:
    if abs(message.scale) > _SCALE_MAX:
        raise OverflowError(f"a decimal has the scale {message.scale}")
    return decimal_digits(message.value, message.scale)


def _is_wrapper(descriptor: Descriptor) -> bool:
    return bool(descriptor.file.name == wrappers_pb2.DESCRIPTOR.name)


def _field(field: FieldDescriptor, known: dict[str, ToValue]) -> ToValue:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        convert = _single(message.fields_by_name["value"], known)
        return lambda value: {_key(key): convert(value[key]) for key in value}
    convert = _single(field, known)
    return (lambda value: [convert(one) for one in value]) if field.is_repeated else convert


def _single(field: FieldDescriptor, known: dict[str, ToValue]) -> ToValue:
    return _scalar(field) if field.message_type is None else _message_values(field.message_type, known)


def _scalar(field: FieldDescriptor) -> ToValue:
    if field.enum_type is not None:
        names = {number: one.name for number, one in field.enum_type.values_by_number.items()}
        # A value that the schema does not name keeps its number.
        return lambda value: names.get(value, value)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return lambda value: float(str(np.float32(value)))
    return _unchanged


def _unchanged(value: Any) -> Any:
    return value


def _key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _floats(descriptor: Descriptor, path: str, enclosing: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of binary floats; those of a message within itself are left out."""
    around = (*enclosing, descriptor.full_name)
    for field in descriptor.fields:
        at = f"{path}.{field.name}".removeprefix(".") + ("[]" if field.is_repeated else "")
        inner = field.message_type
        if inner is None:
            if field.type in _FLOATS:
                yield at
        elif _is_wrapper(inner):
            if inner.fields_by_name["value"].type in _FLOATS:
                yield at
        elif inner.full_name not in around and not inner.GetOptions().map_entry:
            yield from _floats(inner, at, around)

"""Payload formats: how the bytes of a message become the JSON that its table reads."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from k2.model.batch import MessageBatch
from k2.model.reasons import Reason, RejectedError
from k2.venues.rows import MESSAGE_BYTES_MAX
from k2.venues.wire_format import SchemaKind, read_framed

__all__ = ["Payload", "inflate", "payload_of", "unpacked", "writable"]

Unpack = Callable[[bytes], bytes]
"""Returns the JSON of a message, at most `MESSAGE_BYTES_MAX` bytes.

Raises `RejectedError` for a message that is not in the format.
"""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
"""The header and the checksum of gzip instead of those of zlib."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload format."""

    unpack: Unpack
    first_byte: int | None = None
    """The byte with which each packed message begins; others are JSON as they are. None if all are packed."""
    schema_kind: SchemaKind | None = None
    """The kind of schema that is needed to unpack a message; None if none is."""


def inflate(value: bytes) -> bytes:
    """Return a message without its gzip; one that does not begin as gzip is returned as it is.

    No more than the limit of a message is inflated, whatever the message claims to contain.

    Raises:
        RejectedError: `malformed`, the gzip is damaged or has no end; `too_large`, its content is.
    """
    if not value.startswith(_GZIP_MAGIC):
        return value
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        found = stream.decompress(value, MESSAGE_BYTES_MAX + 1)
    except zlib.error as error:
        raise RejectedError(Reason.MALFORMED, f"value: damaged gzip ({_cause(error)})") from None
    if len(found) > MESSAGE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"value: inflates to more than {MESSAGE_BYTES_MAX} bytes")
    if not stream.eof or stream.unused_data:
        what = "bytes after the end of its gzip" if stream.eof else "its gzip has no end"
        raise RejectedError(Reason.MALFORMED, f"value: {what}")
    return found


def _cause(error: zlib.error) -> str:
    """Return the words of zlib after its number, as in `Error -3 while decompressing data: invalid block type`."""
    return str(error).rpartition(": ")[2]


def payload_of(name: str) -> Payload | None:
    """Return the payload format of a table; None for plain JSON."""
    match name:
        case "gzip":
            return Payload(inflate, _GZIP_MAGIC[0])
        case "avro" | "protobuf":
            return Payload(partial(read_framed, name), schema_kind=name)
        case _:
            return None


def writable(batch: MessageBatch) -> MessageBatch:
    """Return a batch with data that can be written, for which loops are compiled; that of a source can."""
    return batch if batch.data.flags.writeable else replace(batch, data=batch.data.copy())


def unpacked(batch: MessageBatch, payload: Payload) -> MessageBatch:
    """Return a batch with the JSON of each message as its value, for a compiled decoder.

    A message that cannot be unpacked has a null value, so that the decoder leaves it to the reference decoder, which
    raises the error. A batch without packed messages is returned as it is. Keys are not kept.
    """
    sizes = batch.value_sizes
    is_packed = sizes > 0
    if payload.first_byte is not None:
        is_packed[is_packed] = batch.data[batch.value_starts[is_packed]] == payload.first_byte
        if not is_packed.any():
            return batch
    parts, found_sizes = list[bytes](), np.full(len(batch), -1, dtype=np.int32)
    for message_idx, packed in enumerate(is_packed.tolist()):
        value = batch.value(message_idx) if sizes[message_idx] <= MESSAGE_BYTES_MAX else None
        if value is None:
            continue
        try:
            found = payload.unpack(value) if packed else value
        except RejectedError:
            continue
        parts.append(found)
        found_sizes[message_idx] = len(found)
    lengths = np.maximum(found_sizes, 0).astype(np.int64)
    return replace(
        batch,
        data=np.frombuffer(bytearray().join(parts), dtype=np.uint8),
        value_starts=np.cumsum(lengths) - lengths,
        value_sizes=found_sizes,
        key_starts=np.zeros(len(batch), dtype=np.int64),
        key_sizes=np.full(len(batch), -1, dtype=np.int32),
    )

"""The wire format of a schema registry: a byte 0, the number of the schema in four bytes, and the encoded record.

The process sets how schemas are found (`SCHEMAS`), because rules ask no registry.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from k2.model.reasons import Reason, RejectedError
from k2.venues.rows import MESSAGE_BYTES_MAX

__all__ = [
    "SCHEMAS",
    "SchemaKind",
    "SchemaReader",
    "Schemas",
    "UnreadableSchemaError",
    "decimal_digits",
    "read_framed",
    "schema_id_of",
]

SchemaKind = Literal["avro", "protobuf"]

_HEADER_BYTES: Final = 5
_DECIMAL_BYTES_MAX: Final = 1_000


class UnreadableSchemaError(ValueError):
    """A schema that is not valid, or that is not read."""


class SchemaReader(NamedTuple):
    """What reads the records of one schema."""

    to_json: Callable[[bytes], bytes]
    """Returns a record, the bytes after the number of the schema, as JSON.

    Raises `RejectedError` for bytes that are no record of the schema.
    """
    floats: tuple[str, ...]
    """Paths of the fields that are binary floats, in the order of the schema, with `[]` for each list."""


FindSchema = Callable[[SchemaKind, int], SchemaReader]
"""Returns the reader of a schema by its number.

Raises `RejectedError`, `unsupported`, if the registry has no such schema of that kind, and `K2Error` if the registry
does not answer.
"""


class Schemas:
    """The schemas that this process can find."""

    def __init__(self) -> None:
        self._find: FindSchema = _unknown

    def use(self, find: FindSchema | None) -> None:
        """Find schemas by a function from now on; None finds none."""
        self._find = _unknown if find is None else find

    def reader(self, kind: SchemaKind, schema_id: int) -> SchemaReader:
        """Return the reader of a schema; raises as `FindSchema` does."""
        return self._find(kind, schema_id)


def _unknown(kind: SchemaKind, schema_id: int) -> SchemaReader:
    raise RejectedError(
        Reason.UNSUPPORTED, f"value: {kind} schema {schema_id} cannot be looked up; set K2_SCHEMA_REGISTRY_URL"
    )


SCHEMAS: Final = Schemas()


def decimal_digits(number: bytes, scale: int) -> str:
    """Return the decimal `number` / 10**`scale`; its bytes are a whole number in two's complement, high byte first.

    A number of more than 1,000 bytes is returned in hexadecimal digits, which no price or quantity can have: Python
    converts no number of some thousand digits.

    >>> decimal_digits((-1234567).to_bytes(4, signed=True), 4), decimal_digits(b"", 2)
    ('-123.4567', '0.00')
    """
    if len(number) > _DECIMAL_BYTES_MAX:
        return number.hex()
    value = int.from_bytes(number, signed=True)
    if scale <= 0:
        return str(value * 10**-scale)
    digits = f"{abs(value):0{scale + 1}}"
    return f"{'-' if value < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def read_framed(kind: SchemaKind, value: bytes) -> bytes:
    """Return the JSON of a message in the wire format.

    Raises:
        RejectedError: `malformed`, it is not in the wire format, or not a record of its schema; `unsupported`, the
            registry has no such schema of this kind; `too_large`, its JSON is.
        K2Error: the registry does not answer.
    """
    if not value.startswith(b"\0"):
        found = f"its first byte is 0x{value[0]:02x}, not 0" if value else "it is empty"
        raise RejectedError(Reason.MALFORMED, f"value: not in the wire format of a schema registry: {found}")
    if len(value) < _HEADER_BYTES:
        raise RejectedError(Reason.MALFORMED, "value: not in the wire format of a schema registry: it has no schema id")
    schema_id = int.from_bytes(value[1:_HEADER_BYTES])
    json = SCHEMAS.reader(kind, schema_id).to_json(value[_HEADER_BYTES:])
    if len(json) > MESSAGE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"value: {len(json)} bytes as JSON, more than {MESSAGE_BYTES_MAX}")
    return json


def schema_id_of(value: bytes) -> int | None:
    """Return the number of the schema of a message; None if it is not in the wire format."""
    is_framed = value.startswith(b"\0") and len(value) >= _HEADER_BYTES
    return int.from_bytes(value[1:_HEADER_BYTES]) if is_framed else None

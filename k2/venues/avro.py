"""Avro records as JSON, exact: a decimal as its digits, a time as the number that is encoded.

Needs the extra `schema-registry`; import it only where a table reads Avro.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import fastavro
import msgspec
import numpy as np
from fastavro.read import LOGICAL_READERS

from k2.model.reasons import Reason, RejectedError
from k2.venues.wire_format import SchemaReader, UnreadableSchemaError, decimal_digits

__all__ = ["avro_reader"]

_DECIMAL: Final = "k2-decimal"
"""fastavro's own reader of decimals rounds one with more digits than its schema declares."""
_FLOAT: Final = "k2-float"
"""A float of 32 bits becomes that of 64 bits with the same shortest decimal."""
_ENCODE: Final = msgspec.json.Encoder().encode


def avro_reader(schema: str, references: Sequence[str] = ()) -> SchemaReader:
    """Return the reader of the records of a schema; `references` are the schemas that it uses, each after its own.

    Logical types other than decimal are left as they are encoded, so a time is a whole number in the unit of its
    schema. A value of a union is the value itself, without its type. Bytes are base64.

    Raises:
        UnreadableSchemaError: the schema is not valid; or it contains itself, or a list whose elements take no bytes,
            so that a short message could take any amount of memory.
    """
    LOGICAL_READERS.update({f"bytes-{_DECIMAL}": _decimal, f"fixed-{_DECIMAL}": _decimal, f"float-{_FLOAT}": _float})
    names: dict[str, Any] = {}
    try:
        for text in references:
            fastavro.parse_schema(msgspec.json.decode(text), named_schemas=names, _write_hint=False)
        parsed = fastavro.parse_schema(msgspec.json.decode(schema), named_schemas=names, _write_hint=False)
        own = fastavro.parse_schema(_Exact(names).schema(parsed, ()))
    except UnreadableSchemaError:
        raise
    except Exception as error:
        # fastavro raises errors of many types for what is not a schema.
        raise UnreadableSchemaError(f"not an Avro schema: {type(error).__name__}: {error}") from error
    read = fastavro.schemaless_reader

    def to_json(record: bytes) -> bytes:
        stream = io.BytesIO(record)
        try:
            value = _ENCODE(read(stream, own, None))
        except Exception as error:  # noqa: BLE001  as above: EOFError, IndexError, UnicodeDecodeError and others
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise RejectedError(Reason.MALFORMED, f"value: not a record of its Avro schema ({what})") from None
        if stream.tell() != len(record):
            raise RejectedError(Reason.MALFORMED, "value: bytes after the end of its Avro record")
        return value

    return SchemaReader(to_json, (*_floats(own, "", {}),))


class _Exact:
    """A copy of a schema that fastavro reads without loss, with the types in it that other schemas define."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._defined = set[str]()

    def schema(self, schema: Any, enclosing: tuple[str, ...]) -> Any:
        """Return the copy of a part; `enclosing` are the names of the records that contain it."""
        if isinstance(schema, list):
            return [self.schema(one, enclosing) for one in schema]
        if isinstance(schema, str):
            return self._named(schema, enclosing)
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self.schema(kind, enclosing)
        rest = {key: value for key, value in schema.items() if key not in {"logicalType", "default"}}
        self._defined |= {rest["name"]} if "name" in rest else set()
        if kind in {"record", "error"}:
            inner = (*enclosing, schema["name"])
            return {
                **rest,
                "fields": [{"name": one["name"], "type": self.schema(one["type"], inner)} for one in schema["fields"]],
            }
        if kind == "array":
            return {**rest, "items": self._element(self.schema(schema["items"], enclosing))}
        if kind == "map":
            return {**rest, "values": self.schema(schema["values"], enclosing)}
        if kind in {"bytes", "fixed"} and schema.get("logicalType") == "decimal":
            return {**rest, "logicalType": _DECIMAL}
        return {**rest, "logicalType": _FLOAT} if kind == "float" else rest

    def _named(self, name: str, enclosing: tuple[str, ...]) -> Any:
        if name in enclosing:
            raise UnreadableSchemaError(f"{name} contains itself, which is not read")
        if name == "float":
            return {"type": "float", "logicalType": _FLOAT}
        return name if name in self._defined or name not in self._names else self.schema(self._names[name], enclosing)

    def _element(self, schema: Any) -> Any:
        if _is_empty(schema):
            raise UnreadableSchemaError("a list has elements that take no bytes, which is not read")
        return schema


def _is_empty(schema: Any) -> bool:
    """Return whether a value takes no bytes."""
    if not isinstance(schema, dict):
        return bool(schema == "null")
    if schema["type"] == "fixed":
        return not schema["size"]
    is_record = schema["type"] in {"record", "error", "null"}
    return is_record and all(_is_empty(one["type"]) for one in schema.get("fields", []))


def _decimal(data: bytes, schema: Mapping[str, Any] | None = None, _reader_schema: object = None) -> str:
    return decimal_digits(data, int((schema or {}).get("scale", 0)))


def _float(value: float, _schema: object = None, _reader_schema: object = None) -> float:
    return float(str(np.float32(value)))


def _floats(schema: Any, path: str, defined: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of binary floats."""
    if isinstance(schema, list):
        for one in schema:
            yield from _floats(one, path, defined)
        return
    if isinstance(schema, str):
        if schema == "double":
            yield path
        if schema in defined:
            yield from _floats(defined[schema], path, defined)
        return
    if "name" in schema:
        defined[schema["name"]] = schema
    if schema["type"] in {"float", "double"}:
        yield path
    for one in schema.get("fields", []):
        yield from _floats(one["type"], f"{path}.{one['name']}".removeprefix("."), defined)
    if "items" in schema:
        yield from _floats(schema["items"], f"{path}[]", defined)

"""Decode pickled states of a recovery store without running any code."""

import io
import pickle
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from k2.model.errors import StateError
from k2.model.progress import TopicPartition

__all__ = ["offset_in", "offsets_in", "table_in"]

FORMAT: Final = 1


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles dicts, lists, tuples, strings, numbers and None; rejects a pickle that refers to anything else.

    Those types are opcodes of the pickle format; only a reference to a name in a module could run code.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def offset_in(key: str, state: bytes) -> int:
    """Return the next offset to read in a state of the Kafka source.

    Raises:
        StateError: it is not a state of the Kafka source, or has another format.
    """
    return int(_value(key, state, "offset", int))


def offsets_in(key: str, state: bytes) -> Mapping[TopicPartition, int]:
    """Return the offsets in a state of an Iceberg writer.

    Raises:
        StateError: it is not a state of an Iceberg writer, or has another format.
    """
    return {TopicPartition.parse(name): offset for name, offset in _value(key, state, "offsets", dict).items()}


def table_in(key: str, state: bytes) -> str | None:
    """Return the UUID of the table in a state of an Iceberg writer; None if the state records none.

    Raises:
        StateError: it is not a state of an Iceberg writer, or has another format.
    """
    table = _document(key, state).get("table")
    return None if table is None else str(table)


def _value(key: str, state: bytes, field: str, kind: type[Any]) -> Any:
    value = _document(key, state).get(field)
    if not isinstance(value, kind):
        raise StateError(_foreign_state(key))
    return value


def _document(key: str, state: bytes) -> dict[str, Any]:
    try:
        document = _PlainUnpickler(io.BytesIO(state)).load()
    except Exception as error:  # a damaged pickle may raise anything
        raise StateError(f"the recovery store's state of {key} cannot be read ({error}); restore a backup") from error
    if not isinstance(document, dict):
        raise StateError(_foreign_state(key))
    if document.get("format") != FORMAT:
        raise StateError(
            f"the recovery store's state of {key} has format {document.get('format')!r}, this version reads {FORMAT}; "
            "use the version that wrote it"
        )
    return document


def _foreign_state(key: str) -> str:
    return f"the recovery store's state of {key} is not from this job; restore a backup"

"""States in a recovery store, unpickled without running anything."""

import io
import pickle
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from trades.errors import StateError
from trades.progress import TopicPartition

__all__ = ["offset_in", "offsets_in"]

FORMAT: Final = 1


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, tuples, text, numbers, None; a pickle that names anything else is refused.

    Those types are opcodes of the pickle format; only a name in a module could run code.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def offset_in(key: str, state: bytes) -> int:
    """Give the offset to read next in a state of the Kafka source.

    Raises:
        StateError: it is no such state, or of another format.
    """
    return int(_value(key, state, "offset", int))


def offsets_in(key: str, state: bytes) -> Mapping[TopicPartition, int]:
    """Give the offsets in a state of an Iceberg writer.

    Raises:
        StateError: it is no such state, or of another format.
    """
    return {TopicPartition.parse(name): offset for name, offset in _value(key, state, "offsets", dict).items()}


def _value(key: str, state: bytes, field: str, kind: type[Any]) -> Any:
    try:
        document = _PlainUnpickler(io.BytesIO(state)).load()
    except Exception as error:  # a damaged pickle may raise anything
        raise StateError(f"the recovery store's state of {key} cannot be read ({error}); restore a backup") from error
    if not isinstance(document, dict) or not isinstance(document.get(field), kind):
        raise StateError(f"the recovery store's state of {key} is none of this job's; restore a backup")
    if document.get("format") != FORMAT:
        raise StateError(
            f"the recovery store's state of {key} has format {document.get('format')!r}, this version reads {FORMAT}; "
            "use the version that wrote it"
        )
    return document[field]

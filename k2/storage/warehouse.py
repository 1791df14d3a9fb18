"""Files of the job's tables in a warehouse, found without a catalog."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog
from pyarrow.fs import FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2.ops.settings import Settings

__all__ = ["TABLES", "local_path", "metadata_files", "table_location", "table_with_files"]

TABLES: Final = ("trades", "sequence_events", "commits", "corrections")
_METADATA: Final = ".metadata.json"
_LOCAL: Final = "file"
_log = structlog.get_logger()


def table_location(warehouse: str, settings: Settings, name: str) -> str:
    """Return the location at which PyIceberg's SQL catalog creates a table."""
    return f"{warehouse.rstrip('/')}/{settings.namespace}/{name}"


def local_path(location: str) -> Path | None:
    """Return the path of a local location; None if it is on another store."""
    scheme, _, path = PyArrowFileIO.parse_location(location)
    return Path(path) if scheme == _LOCAL else None


def table_with_files(warehouse: str, settings: Settings, properties: Mapping[str, str]) -> str | None:
    """Return the location of the first of the job's tables that has files in a warehouse; None if none has.

    On a local disk any file counts, elsewhere a metadata file, because a table's data files may be very many.
    """
    for name in TABLES:
        location = table_location(warehouse, settings, name)
        folder = local_path(location)
        files = _remote_metadata_files(location, properties) if folder is None else _files_below(folder)
        if next(files, None) is not None:
            return location
    return None


def metadata_files(location: str, properties: Mapping[str, str]) -> list[str]:
    """Return the locations of a table's metadata files, of all versions and in no order.

    Raises:
        OSError: the store does not respond, or forbids it.
    """
    scheme, host, path = PyArrowFileIO.parse_location(location, dict(properties))
    filesystem = PyArrowFileIO(dict(properties)).fs_by_scheme(scheme, host)
    found = filesystem.get_file_info(FileSelector(f"{path}/metadata", allow_not_found=True))
    return [
        f"{location}/metadata/{one.base_name}"
        for one in found
        if one.type == FileType.File and one.base_name.endswith(_METADATA)
    ]


def _files_below(folder: Path) -> Iterator[str]:
    return (name for _, _, names in os.walk(folder) for name in names)


def _remote_metadata_files(location: str, properties: Mapping[str, str]) -> Iterator[str]:
    try:
        yield from metadata_files(location, properties)
    except OSError as error:
        # A key that may not list does not keep the job from running.
        _log.warning("warehouse_not_listed", location=location, error=str(error))

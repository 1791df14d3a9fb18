"""Compare the copy of an Iceberg table in another folder with its source, as an engine reads both."""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.manifest import DataFile, FileFormat, ManifestEntryStatus, ManifestFile, read_manifest_list
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from k2.model.errors import CatalogError
from k2.storage.table_copy import Folders, read_metadata, reading

__all__ = ["check_copy"]

_WITH_PATHS = {"location", "properties", "snapshots", "metadata_log", "statistics", "partition_statistics"}


def check_copy(name: str, source: str, target: str, folders: Folders) -> TableMetadata:
    """Check that two metadata files of a table, by their locations, have the same content but for paths.

    That is: schemas, properties of the job, snapshots and their ids, manifests, and the numbers, bounds and partition
    of each data file. Each data file of the copy exists, and has its rows. Return the metadata of the copy.

    Raises:
        CatalogError: the two differ, or a file of the copy is missing or damaged.
    """
    theirs, ours = PyArrowFileIO(), _PlacedFileIO(folders)
    before, after = read_metadata(name, theirs.new_input(source)), read_metadata(name, ours.new_input(target))
    if after.location != folders.rename(before.location) or _without_paths(before) != _without_paths(after):
        raise _differs_error(name, target)
    checked: set[str] = set()
    for old, new in zip(before.snapshots, after.snapshots, strict=True):
        manifests = _manifests(name, theirs, old.manifest_list), _manifests(name, ours, new.manifest_list)
        for one, other in zip(*manifests, strict=True):
            if _values(one)[2:] != _values(other)[2:] or folders.rename(one.manifest_path) != other.manifest_path:
                raise _differs_error(name, new.manifest_list)
            if other.manifest_path not in checked:
                checked.add(other.manifest_path)
                for file in _live_files(name, folders, (theirs, one), (ours, other)):
                    _check_file(name, folders, file)
    return after


class _PlacedFileIO(PyArrowFileIO):
    """Reads the files of a copy where they were written, by their locations in its metadata."""

    def __init__(self, folders: Folders) -> None:
        super().__init__()
        self._folders = folders

    def new_input(self, location: str) -> PyArrowFile:
        """Return a file of the copy."""
        return super().new_input(str(self._folders.written(location)))


def _without_paths(metadata: TableMetadata) -> list[Any]:
    own = {key: value for key, value in metadata.properties.items() if key.startswith("k2.")}
    snapshots = [snapshot.model_dump(exclude={"manifest_list"}) for snapshot in metadata.snapshots]
    return [metadata.model_dump(exclude=_WITH_PATHS), own, snapshots]


def _manifests(name: str, io: PyArrowFileIO, location: str) -> list[ManifestFile]:
    # Snapshot.manifests() takes a manifest from a cache if it has read one of the same path.
    with reading(name, location):
        return [*read_manifest_list(io.new_input(location))]


def _live_files(
    name: str, folders: Folders, source: tuple[PyArrowFileIO, ManifestFile], target: tuple[PyArrowFileIO, ManifestFile]
) -> Iterator[DataFile]:
    """Compare two manifests, and yield the data files of the second that are not deleted."""
    (theirs, one), (ours, other) = source, target
    with reading(name, other.manifest_path):
        before = one.fetch_manifest_entry(theirs, discard_deleted=False)
        after = other.fetch_manifest_entry(ours, discard_deleted=False)
    for old, new in zip(before, after, strict=True):
        (*entry, file), (*new_entry, new_file) = _values(old), _values(new)
        content, path, *rest = _values(file)
        new_content, new_path, *new_rest = _values(new_file)
        if [*entry, content, folders.rename(path), *rest] != [*new_entry, new_content, new_path, *new_rest]:
            raise _differs_error(name, other.manifest_path)
        if new.status != ManifestEntryStatus.DELETED:
            yield new.data_file


def _check_file(name: str, folders: Folders, file: DataFile) -> None:
    path = folders.written(file.file_path)
    with reading(name, str(path)):
        size = path.stat().st_size
        rows = pq.read_metadata(path).num_rows if file.file_format == FileFormat.PARQUET else file.record_count
    if (size, rows) != (file.file_size_in_bytes, file.record_count):
        raise _differs_error(name, str(path))


def _values(record: Record) -> list[Any]:
    return [record[position] for position in range(len(record))]


def _differs_error(name: str, what: str) -> CatalogError:
    return CatalogError(f"the copy of table {name} differs from its source in {what}; delete that file, and try again")

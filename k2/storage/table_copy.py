"""Copy an Iceberg table to another folder, and write its metadata again with the paths of that folder."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pyiceberg.avro.file import AvroFile, AvroOutputFile
from pyiceberg.exceptions import ValidationError
from pyiceberg.io import InputFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus, read_manifest_list
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile, ToOutputFile
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import StructType

from k2.model.errors import CatalogError, SettingsError
from k2.storage.files import sync
from k2.storage.table_properties import CHECKPOINTS, REMOVED_ROWS
from k2.storage.warehouse import local_path

__all__ = ["CopiedTable", "Folders", "copy_file", "copy_table", "read_metadata", "reading"]

_PARTIAL: Final = ".moving-"
"""What the name of a file begins with until it is whole."""
_LINKS_REFUSED: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})
# Ids of fields in manifest lists and manifests, from the specification of Iceberg.
_MANIFEST_PATH: Final = 500
_MANIFEST_BYTES: Final = 501
_ENTRY_STATUS: Final = 0
_ENTRY_FILE: Final = 2
_FILE_PATH: Final = 100
_FILE_BYTES: Final = 104
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a copy: a file has the same path below each of them."""

    sources: Sequence[Path]
    """The forms of the source's path by which metadata may name it."""
    target: Path
    """Where the copy is written."""
    named: Path
    """The path of the target in the metadata; another one than `target` if that will be on another machine."""

    def rename(self, location: str) -> str | None:
        """Return the location of a file in the copy's metadata, from that in the source's; None if it is elsewhere."""
        path = local_path(location)
        if path is None:
            return None
        below = next((path.relative_to(source) for source in self.sources if path.is_relative_to(source)), None)
        return None if below is None else f"file://{self.named / below}"

    def rename_property(self, value: str) -> str:
        """Return the value of a property; it is changed if it is a path of the source, as `write.data.path` may be."""
        return (self.rename(value) or value) if value.startswith(("file:", "/")) else value

    def written(self, location: str) -> Path:
        """Return where a file of the copy is written, from its location in the copy's metadata."""
        path = local_path(location)
        assert path is not None, "the copy is on a local disk"
        return self.target / path.relative_to(self.named)


class CopiedTable(NamedTuple):
    """A table in its new folder."""

    location: str
    """Of the newest metadata file, as the catalog is to name it."""
    files: int
    """Number of the data files of all snapshots."""
    bytes: int


def copy_table(name: str, location: str, folders: Folders, *, hard_links: bool = False) -> CopiedTable:
    """Copy the version of a table that a metadata file has, with all its snapshots; the source is only read.

    Data files that an earlier attempt copied are not copied again. With `hard_links`, they are linked.

    Raises:
        CatalogError: a file of the source is missing, damaged or elsewhere, or a snapshot has delete files.
        SettingsError: a data file cannot be linked.
        OSError: the target cannot be written.
    """
    metadata = read_metadata(name, PyArrowFileIO().new_input(location))
    copy = _Copy(name, folders, hard_links=hard_links)
    for snapshot in metadata.snapshots:
        copy.write_manifest_list(snapshot.manifest_list)
    for statistics in (*metadata.statistics, *metadata.partition_statistics):
        copy.transfer(statistics.statistics_path, statistics.file_size_in_bytes)
    copy.transfer_checkpoints(metadata)
    log = [entry for entry in metadata.metadata_log if copy.write_earlier_version(entry.metadata_file)]
    target = copy.write_metadata(location, metadata.model_copy(update={"metadata_log": log}))
    return CopiedTable(target, len(copy.files), sum(copy.files.values()))


def copy_file(source: Path, target: Path, *, hard_link: bool = False) -> None:
    """Copy or link a file; the target is the whole file, or as it was before.

    Raises:
        SettingsError: the file system of the target cannot link it.
        OSError: the target cannot be written.
    """
    with _replacing(target) as path:
        if not hard_link:
            shutil.copy2(source, path)
            return
        path.unlink(missing_ok=True)
        try:
            path.hardlink_to(source)
        except OSError as error:
            if error.errno not in _LINKS_REFUSED:
                raise
            raise SettingsError(
                f"{source} cannot be linked in {target.parent}: {os.strerror(error.errno or 0)}; leave out --hard-links"
            ) from error


def read_metadata(name: str, file: InputFile) -> TableMetadata:
    """Return the content of a metadata file of a table.

    Raises:
        CatalogError: it is missing or damaged.
    """
    with reading(name, file.location):
        return FromInputFile.table_metadata(file)


@contextmanager
def reading(name: str, location: str) -> Iterator[None]:
    """Translate the errors of reading a file of a table.

    Raises:
        CatalogError: it is missing or damaged.
    """
    try:
        yield
    except (OSError, ValueError, ValidationError, AssertionError) as error:
        raise CatalogError(
            f"table {name}: {location} is missing or damaged: {' '.join(str(error).split())[:200]}; restore it from a "
            "backup of the warehouse"
        ) from error


class _Copy:
    """The copy of one table: each file is written once, whatever names it."""

    def __init__(self, name: str, folders: Folders, *, hard_links: bool) -> None:
        self.files: dict[str, int] = {}
        """The bytes of each file that is copied as it is, by its location in the source."""
        self._name, self._folders, self._hard_links = name, folders, hard_links
        self._manifests: dict[str, tuple[str, int]] = {}
        """The new location and length of each manifest, by its location in the source."""

    def write_manifest_list(self, location: str) -> None:
        def change(record: Record, struct: StructType) -> None:
            path, length = _position(struct, _MANIFEST_PATH), _position(struct, _MANIFEST_BYTES)
            if record[path] not in self._manifests:
                self._manifests[record[path]] = self._write_manifest(record[path])
            record[path], record[length] = self._manifests[record[path]]

        with reading(self._name, location):
            manifests = [*read_manifest_list(PyArrowFileIO().new_input(location))]
        if any(manifest.content != ManifestContent.DATA for manifest in manifests):
            raise CatalogError(
                f"table {self._name} has delete files, which contain paths of data files; let an Iceberg engine "
                "rewrite its data files, expire the snapshots before that, and try again"
            )
        self._write_avro(location, "manifest_file", change)

    def write_earlier_version(self, location: str) -> bool:
        """Write the metadata file of an earlier version; return False if it is lost, damaged or elsewhere."""
        try:
            self.write_metadata(location, read_metadata(self._name, PyArrowFileIO().new_input(location)))
        except CatalogError:
            # No reader needs it, and the source's log of versions names files that were deleted as well.
            return False
        return True

    def write_metadata(self, location: str, metadata: TableMetadata) -> str:
        folders = self._folders
        changes: dict[str, Any] = {
            "location": self._rename(metadata.location),
            "properties": {key: folders.rename_property(value) for key, value in metadata.properties.items()},
            "snapshots": self._rename_each(metadata.snapshots, "manifest_list"),
            "metadata_log": self._rename_each(metadata.metadata_log, "metadata_file"),
            "statistics": self._rename_each(metadata.statistics, "statistics_path"),
            "partition_statistics": self._rename_each(metadata.partition_statistics, "statistics_path"),
        }
        target = self._rename(location)
        with _replacing(folders.written(target)) as path:
            output = PyArrowFileIO().new_output(str(path))
            ToOutputFile.table_metadata(metadata.model_copy(update=changes), output, overwrite=True)
        return target

    def transfer(self, location: str, size: int) -> None:
        """Copy or link a file that contains no paths."""
        source, target = local_path(location), self._folders.written(self._rename(location))
        assert source is not None, "a location that is renamed is local"
        if not source.is_file() or source.stat().st_size != size:
            raise CatalogError(
                f"table {self._name} lacks the file {source}, or it was cut short; restore it from a backup of the "
                "warehouse, or expire the snapshots that need it"
            )
        self.files[location] = size
        # Names of data files are never used again, and a file has its name only once it is whole.
        if not target.is_file() or target.stat().st_size != size:
            copy_file(source, target, hard_link=self._hard_links)

    def transfer_checkpoints(self, metadata: TableMetadata) -> None:
        """Copy the checkpoints and removed numbers that the properties name, unless they are gone.

        Without a checkpoint that is gone, a start only reads more rows.
        """
        provider = load_location_provider(metadata.location, metadata.properties)
        removed = REMOVED_ROWS.read(metadata.properties).file
        files = {file for named in CHECKPOINTS.read_all(metadata.properties) for file in named.files}
        for file in sorted(files | ({removed} if removed else set())):
            location = provider.new_metadata_location(file)
            source = local_path(location)
            if source is not None and source.is_file():
                target = self._folders.written(self._rename(location))
                copy_file(source, target, hard_link=self._hard_links)

    def _write_manifest(self, location: str) -> tuple[str, int]:
        def change(entry: Record, struct: StructType) -> None:
            file: Record = entry[_position(struct, _ENTRY_FILE)]
            fields = struct.field(_ENTRY_FILE)
            assert fields is not None
            assert isinstance(fields.field_type, StructType)
            path, size = _position(fields.field_type, _FILE_PATH), _position(fields.field_type, _FILE_BYTES)
            # A file that this snapshot deleted is live in the manifests of those that still need it.
            if entry[_position(struct, _ENTRY_STATUS)] != ManifestEntryStatus.DELETED:
                self.transfer(file[path], file[size])
            file[path] = self._rename(file[path])

        return self._write_avro(location, "manifest_entry", change)

    def _write_avro(self, location: str, kind: str, change: Callable[[Record, StructType], None]) -> tuple[str, int]:
        """Write a file with changed records; return its new location and length."""
        with reading(self._name, location), AvroFile[Record](PyArrowFileIO().new_input(location)) as reader:
            records = [*reader]
        # The schema of the file itself, so that no field that another engine wrote is lost.
        schema: Schema = reader.schema
        for record in records:
            change(record, schema.as_struct())
        target = self._rename(location)
        with _replacing(self._folders.written(target)) as path:
            output = PyArrowFileIO().new_output(str(path))
            with AvroOutputFile[Record](output, schema, kind, metadata=reader.header.meta) as writer:
                writer.write_block(records)
        return target, self._folders.written(target).stat().st_size

    def _rename(self, location: str) -> str:
        found = self._folders.rename(location)
        if found is None:
            raise CatalogError(
                f"table {self._name} names {location}, which is not in {self._folders.sources[0]}; move that table "
                "with Spark's procedure rewrite_table_path"
            )
        return found

    def _rename_each(self, entries: Sequence[Any], field: str) -> list[Any]:
        return [entry.model_copy(update={field: self._rename(getattr(entry, field))}) for entry in entries]


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield where to write a file that takes the target's place once it is whole and durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f"{_PARTIAL}{target.name}")
    yield path
    sync(path)
    path.replace(target)


def _position(struct: StructType, field_id: int) -> int:
    """Return the position of a field's value in records of a struct."""
    return next(position for position, field in enumerate(struct.fields) if field.field_id == field_id)

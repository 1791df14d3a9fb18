"""Orphans: files in a table's folders that nothing names any more, such as those of killed processes.

Dead letters in an object store are among them, where no commit counts them or other objects repeat them.

Nothing that any metadata file in the table's log names is an orphan, also if its snapshot has expired since: a reader
may have just read that version. Files of commits in flight are named by nothing yet, so young files stay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from k2.iceberg.tables import TableName, connect
from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.storage.dead_letters.files import DeadLetterFile, committed_files, parse_name, table_prefix
from k2.storage.dead_letters.folders import object_folder
from k2.storage.table_properties import CHECKPOINTS, DEAD_LETTER_POSITIONS, REMOVED_ROWS

__all__ = ["AGE_MIN", "SAFE_AGE", "Orphan", "find_orphans", "remove_orphans"]

SAFE_AGE: Final = timedelta(days=1)
"""Age from which a file that nothing names is an orphan; a commit in flight has younger files only."""
AGE_MIN: Final = timedelta(hours=1)
_METADATA: Final = ".metadata.json"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file that nothing names."""

    table: str
    file: str
    bytes: int
    modified: datetime


def find_orphans(settings: Settings, which: TableName, age: timedelta = SAFE_AGE) -> list[Orphan]:
    """Return the files of a table's folders that nothing names, and that are older than `age`, sorted by location.

    The folders are listed before the metadata is read, so a file that a commit names meanwhile is not among them.

    Raises:
        TableError: the folders are not only this table's, or the catalog lacks its newest version, or a file IO other
            than PyArrow's is configured.
        UnreachableError: the catalog did not answer, after retries.
        OSError: the store does not answer, or forbids to list its files.
    """
    table = connect(settings, which)
    folders = _folders(table.metadata)
    listed = {path: info for folder in folders for path, info in _listed(table, folder)}
    dead_letters = object_folder(settings) if which is TableName.TRADES else None
    objects = [] if dead_letters is None else [*dead_letters.files_with_times()]
    table = table.refresh()
    versions = _versions(table, _unlisted_metadata(table, listed))
    used = _used(table, versions)
    until = datetime.now(UTC) - age
    name = ".".join(table.name())
    found = [
        Orphan(name, location, info.size or 0, info.mtime)
        for path, (location, info) in sorted(_by_path(table, listed).items())
        if path not in used and info.mtime is not None and info.mtime < until
    ]
    if dead_letters is None:
        return found
    counted = _counted_dead_letters([file for file, _ in objects], versions)
    prefix = table_prefix(str(table.metadata.table_uuid))
    return found + [
        Orphan(name, dead_letters.location(file.name), file.bytes, written)
        for file, written in sorted(objects)
        if (file.series or "").startswith(prefix) and file.name not in counted and written < until
    ]


def remove_orphans(settings: Settings, which: TableName, orphans: Iterable[Orphan]) -> Iterator[Orphan]:
    """Delete orphans, and yield each once it is deleted; one that is gone already counts as deleted.

    Raises:
        OSError: the store does not answer, or forbids to delete a file.
    """
    table, dead_letters = connect(settings, which), object_folder(settings)
    for orphan in orphans:
        if dead_letters is not None and orphan.file.startswith(f"{dead_letters.address}/"):
            dead_letters.remove(orphan.file.rpartition("/")[2])
        else:
            try:
                table.io.delete(orphan.file)
            except FileNotFoundError:
                continue
        yield orphan


def _folders(metadata: TableMetadata) -> list[str]:
    """Return the folders of a table, without those within others."""
    own = {metadata.location.rstrip("/")}
    named = {metadata.properties.get(f"write.{kind}.path", "").rstrip("/") for kind in ("data", "metadata")}
    return sorted(own | {one for one in named if one and not one.startswith(f"{metadata.location.rstrip('/')}/")})


def _listed(table: Table, folder: str) -> Iterator[tuple[str, FileInfo]]:
    """Yield the location and the description of each file below a folder, without those of dead letters."""
    filesystem, path = _opened(table, folder)
    for info in filesystem.get_file_info(FileSelector(path, recursive=True, allow_not_found=True)):
        # Dead letters may lie here under another scheme of the address, and the table's snapshots do not name them.
        if info.type == FileType.File and parse_name(info.base_name, 0) is None:
            yield folder + info.path[len(path.rstrip("/")) :], info


def _opened(table: Table, location: str) -> tuple[FileSystem, str]:
    io = table.io
    if not isinstance(io, PyArrowFileIO):
        raise TableError(
            f"table {'.'.join(table.name())} has the file IO {type(io).__name__}, which lists no files; remove "
            "py-io-impl from PyIceberg's configuration"
        )
    scheme, host, path = PyArrowFileIO.parse_location(location, io.properties)
    return io.fs_by_scheme(scheme, host), path


def _path(table: Table, location: str) -> tuple[str, str]:
    """Return the host and path of a location: one file may be named with several schemes."""
    _, host, path = PyArrowFileIO.parse_location(location, table.io.properties)
    return host, path


def _by_path(table: Table, listed: Mapping[str, FileInfo]) -> dict[tuple[str, str], tuple[str, FileInfo]]:
    return {_path(table, location): (location, info) for location, info in listed.items()}


def _unlisted_metadata(table: Table, listed: Iterable[str]) -> list[TableMetadata]:
    """Return the versions of the table in metadata files that the log no longer has, or never had.

    Raises:
        TableError: one is of another table, or is a later version than the catalog's: another program uses the
            folder, or the catalog was put back.
    """
    known = {_path(table, location) for location in _logged(table)}
    found: list[TableMetadata] = []
    for location in listed:
        if not location.endswith(_METADATA) or _path(table, location) in known:
            continue
        metadata = _read_metadata(table, location)
        if metadata is None:
            continue
        name, version, current = ".".join(table.name()), _version(metadata), _version(table.metadata)
        if metadata.table_uuid != table.metadata.table_uuid:
            raise TableError(
                f"the folder of table {name} also has files of table {metadata.table_uuid}: {location}; move or remove "
                "that table's files by hand first"
            )
        if version > current + 1:
            raise TableError(
                f"the catalog has version {current} of table {name}, but {location} is "
                f"version {version}; see `k2 catalog register`, no file is an orphan before that is settled"
            )
        # One commit ahead: a process was killed within a commit, or it is landing now.
        if version > current:
            found.append(metadata)
    return found


def _version(metadata: TableMetadata) -> int:
    """Return the highest Iceberg sequence number of a version."""
    return metadata.next_sequence_number() - 1


def _logged(table: Table) -> list[str]:
    return [table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)]


def _read_metadata(table: Table, location: str) -> TableMetadata | None:
    """Return a version of the table; None if its file is gone, which the job deletes once it leaves the log."""
    try:
        return FromInputFile.table_metadata(table.io.new_input(location))
    except (FileNotFoundError, ValueError):
        return None


def _versions(table: Table, ahead: Iterable[TableMetadata]) -> list[TableMetadata]:
    """Return the versions in the metadata files of the log, and those `ahead` of it."""
    earlier = (_read_metadata(table, entry.metadata_file) for entry in table.metadata.metadata_log)
    return [table.metadata, *(one for one in earlier if one is not None), *ahead]


def _counted_dead_letters(objects: Sequence[DeadLetterFile], versions: Iterable[TableMetadata]) -> set[str]:
    """Return the names of the objects with dead letters that one of the versions counts."""
    recorded = {
        (series, position.number)
        for version in versions
        for positions in DEAD_LETTER_POSITIONS.read_all(version.properties)
        for series, position in positions.items()
    }
    return {file.name for series, number in recorded for file in committed_files(objects, series, number)}


def _used(table: Table, versions: Sequence[TableMetadata]) -> set[tuple[str, str]]:
    """Return the paths of all files that versions of the table name."""
    current = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
    snapshots = {snapshot.snapshot_id: snapshot for version in versions for snapshot in version.snapshots}
    locations = {*_logged(table)}
    manifests: set[str] = set()
    for version in versions:
        locations |= set(_named(version))
    for snapshot_id, snapshot in snapshots.items():
        locations |= set(_of_snapshot(table, snapshot, manifests, is_current=snapshot_id in current))
    return {_path(table, location) for location in locations}


def _named(metadata: TableMetadata) -> Iterator[str]:
    """Yield the locations of the files that a version names besides its snapshots."""
    provider = load_location_provider(metadata.location, metadata.properties)
    removed = REMOVED_ROWS.read(metadata.properties).file
    checkpoints = (file for named in CHECKPOINTS.read_all(metadata.properties) for file in named.files)
    for file in (*checkpoints, *([removed] if removed else [])):
        yield provider.new_metadata_location(file)
    for statistics in (*metadata.statistics, *metadata.partition_statistics):
        yield statistics.statistics_path


def _of_snapshot(table: Table, snapshot: Snapshot, read: set[str], *, is_current: bool) -> Iterator[str]:
    """Yield the locations of a snapshot's files, without those of manifests in `read`, to which it adds.

    A snapshot of an earlier version may lack files; one that the table has must not.
    """
    yield snapshot.manifest_list
    try:
        for manifest in snapshot.manifests(table.io):
            yield manifest.manifest_path
            if manifest.manifest_path not in read:
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                yield from (entry.data_file.file_path for entry in entries)
                read.add(manifest.manifest_path)
    except FileNotFoundError:
        if is_current:
            raise

"""Dead letters under an address in an object store, such as `s3://bucket/prefix`."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO, Final

import structlog
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2.model.errors import SettingsError, UnreachableError, first_line
from k2.ops.failpoints import failpoint
from k2.storage.catalog_errors import are_keys_refused
from k2.storage.dead_letters.files import DeadLetterFile, parse_name

__all__ = ["ObjectFolder", "StoreRefusedError", "open_object_folder"]

_PROBE: Final = ".started"
"""An empty object that each start writes, to find out whether it may write."""
_NO_BUCKET: Final = re.compile(
    r"NO_SUCH_BUCKET|NoSuchBucket|[Bb]ucket .*(?:does not exist|not found)|[Cc]ontainer .*does not exist"
)
_log = structlog.get_logger()


class StoreRefusedError(SettingsError):
    """The object store refuses the keys, or has no such bucket."""


def open_object_folder(address: str, properties: Mapping[str, str]) -> "ObjectFolder":
    """Return the folder at an address, opened as PyIceberg opens files of a table, with the catalog's properties.

    Raises:
        SettingsError: the address or a property is invalid.
    """
    try:
        scheme, host, path = PyArrowFileIO.parse_location(address, dict(properties))
        filesystem = PyArrowFileIO(dict(properties)).fs_by_scheme(scheme, host)
    except (ImportError, OSError, ValueError) as error:
        raise SettingsError(
            f"K2_DLQ_DIR={address!r}: the address cannot be opened: {first_line(error)}; fix it, or the properties of "
            "the catalog, with which it is opened"
        ) from error
    return ObjectFolder(address, filesystem, path)


class ObjectFolder:
    """A folder of dead letters in an object store. An object is written as a whole, and never changed."""

    def __init__(self, address: str, filesystem: FileSystem, path: str) -> None:
        self.address = address.rstrip("/")
        self._filesystem = filesystem
        self._path = path.strip("/")

    def check(self) -> None:
        """Write an object, so that errors are reported before the job runs.

        Raises:
            StoreRefusedError: the bucket does not exist, or the keys do not permit it.
            UnreachableError: the store does not answer.
        """
        with self._translated("dead letters cannot be written there"):
            self._write(_PROBE, b"")

    def files(self) -> list[DeadLetterFile]:
        """Return its dead-letter files, oldest first; an empty list if there is none.

        Raises:
            StoreRefusedError: the keys do not permit it.
            UnreachableError: the store does not answer.
        """
        return sorted(file for file, _ in self.files_with_times())

    def files_with_times(self) -> Iterator[tuple[DeadLetterFile, datetime]]:
        """Yield its dead-letter files in no order, each with the time at which it was written; raise as `files`."""
        for one in self._listed():
            file = parse_name(one.base_name, one.size or 0) if one.type == FileType.File else None
            if file is not None:
                yield file, one.mtime or datetime.now(UTC)

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects that start with `prefix`, sorted; raise as `files`."""
        named = (one.base_name for one in self._listed() if one.type == FileType.File)
        return sorted(name for name in named if name.startswith(prefix))

    def _listed(self) -> list[FileInfo]:
        with self._translated("dead letters cannot be listed there"):
            found: list[FileInfo] = self._filesystem.get_file_info(FileSelector(self._path, allow_not_found=True))
            bucket = self._path.partition("/")[0]
            if not found and bucket and self._filesystem.get_file_info(bucket).type == FileType.NotFound:
                raise FileNotFoundError(f"bucket {bucket} does not exist")
        return found

    def open(self, name: str) -> BinaryIO:
        """Read a whole object, which is at most as large as the file that it was copied from, or some mebibytes.

        Raises:
            FileNotFoundError: it does not exist.
            StoreRefusedError: the keys do not permit it.
            UnreachableError: the store does not answer.
        """
        with (
            self._translated(f"{name} cannot be read"),
            self._filesystem.open_input_file(f"{self._path}/{name}") as file,
        ):
            return io.BytesIO(file.read())

    def location(self, name: str) -> str:
        """Return the address of an object."""
        return f"{self.address}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write an object; it is durable when this returns.

        Raises:
            OSError: the store did not take it; there may be a part of it.
        """
        failpoint("objects.write")
        self._write(name, data)
        failpoint("objects.written")

    def remove(self, name: str) -> None:
        """Remove an object whose lines another one repeats; one that stays takes only room."""
        try:
            failpoint("objects.remove")
            self._filesystem.delete_file(f"{self._path}/{name}")
        except OSError as error:
            _log.debug("dead_letters_not_removed", file=self.location(name), error=first_line(error))

    def _write(self, name: str, data: bytes) -> None:
        with self._filesystem.open_output_stream(f"{self._path}/{name}") as stream:
            stream.write(data)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Raise errors of the store as one sentence."""
        try:
            yield
        except FileNotFoundError as error:
            if not _NO_BUCKET.search(str(error)):
                raise
            raise self._error(what, error) from error
        except OSError as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: OSError) -> StoreRefusedError | UnreachableError:
        text = f"K2_DLQ_DIR={self.address!r}: {what}: {first_line(error)}"
        if are_keys_refused(error):
            return StoreRefusedError(f"{text}; fix the keys in the properties of the catalog, or permit it to them")
        if _NO_BUCKET.search(str(error)):
            return StoreRefusedError(f"{text}; create the bucket, or fix the address")
        return UnreachableError(f"{text}; check the store, and its endpoint in the properties of the catalog")

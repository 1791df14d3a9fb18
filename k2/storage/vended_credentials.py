"""Renew the storage credentials that a catalog vends, that is, hands out with each load of a table for a limited time.

A vended table gets a file IO whose every access to a file begins with valid credentials, whoever has the table and
however long: a committer, a file writer, a scan of PyIceberg's, a dataset that DuckDB reads. So no other module knows
of this. A table without vended credentials keeps its own file IO, and causes no request to the catalog.
"""

import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from pyarrow import NativeFile
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileSystemHandler, PyFileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2.model.errors import first_line
from k2.storage.catalog_errors import are_keys_refused

__all__ = [
    "DEFAULT_AGE_SECONDS",
    "MARGIN_SECONDS_MAX",
    "PAUSE_SECONDS",
    "seconds_to_renewal",
    "with_renewed_credentials",
]

DEFAULT_AGE_SECONDS: Final = 600.0
"""Age at which credentials without an expiry are renewed: AWS issues none for less than 15 minutes."""
MARGIN_SECONDS_MAX: Final = 300.0
"""Credentials are renewed when a fifth of their lifetime remains, at most this. An access that began before must end
within that time, such as the upload of a data file."""
PAUSE_SECONDS: Final = 1.0
"""Least time between two renewals, if the catalog does not answer, or the clock of this machine is wrong."""
_MARGIN_PARTS: Final = 5
_CREDENTIALS: Final = (
    "s3.access-key-id",
    "s3.secret-access-key",
    "s3.session-token",
    "gcs.oauth2.token",
    "adls.sas-token",
)
"""How the properties that vended credentials consist of begin; those of ADLS end with the storage account."""
_EXPIRIES: Final = ("s3.session-token-expires-at-ms", "gcs.oauth2.token-expires-at", "adls.sas-token-expires-at-ms")
"""How the properties with their expiry begin, in milliseconds since the epoch."""
T = TypeVar("T")

_log: Final = structlog.get_logger()


def with_renewed_credentials(
    table: Table, load: Callable[[], Table], clock: Callable[[], float] = time.monotonic
) -> Table:
    """Return the table, just loaded, with a file IO that renews its credentials if they are vended.

    `load` loads the table again, for the credentials alone; it may be called from any thread that accesses a file. If
    it fails, the present credentials are used for as long as the store accepts them. If the store refuses them, they
    are renewed once, and the access is repeated; then the store's `OSError` is raised. File IO of fsspec is left as it
    is.
    """
    if not isinstance(table.io, PyArrowFileIO) or _seconds_to_renewal(table) is None:
        return table
    credentials = _VendedCredentials(table, load, clock)
    table.io = PyArrowFileIO(table.io.properties)
    table.io.fs_by_scheme = lru_cache(lambda scheme, host: PyFileSystem(_RenewedFiles(credentials, scheme, host)))
    return table


def seconds_to_renewal(properties: Mapping[str, Any], own: Mapping[str, Any], now: float) -> float | None:
    """Return in how many seconds to renew credentials that were loaded now; None if none are vended.

    `properties` are those of the table's file IO, and `own` those it would have without vending. `now` is in seconds
    since the epoch; only a stated expiry is compared with it.
    """
    if not any(name.startswith(_CREDENTIALS) and value != own.get(name) for name, value in properties.items()):
        return None
    expiries = [_expires_at(value) for name, value in properties.items() if name.startswith(_EXPIRIES)]
    stated = [expires_at for expires_at in expiries if expires_at is not None]
    if not stated:
        return DEFAULT_AGE_SECONDS
    lifetime = min(stated) - now
    return max(lifetime - min(MARGIN_SECONDS_MAX, lifetime / _MARGIN_PARTS), PAUSE_SECONDS)


def _expires_at(milliseconds: Any) -> float | None:
    try:
        return int(milliseconds) / 1000
    except ValueError:
        return None


def _seconds_to_renewal(table: Table) -> float | None:
    own = {**table.catalog.properties, **table.metadata.properties}
    return seconds_to_renewal(table.io.properties, own, time.time())


class _Loaded(NamedTuple):
    """A file IO with the credentials of one load; times are those of a clock that nobody sets."""

    io: PyArrowFileIO
    loaded_at: float
    renew_at: float


class _VendedCredentials:
    """The credentials of one table; thread-safe."""

    def __init__(self, table: Table, load: Callable[[], Table], clock: Callable[[], float]) -> None:
        self._table_name = ".".join(table.name())
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._loaded = self._loaded_of(table)

    def use(self, scheme: str, host: str | None, access: Callable[[FileSystem], T]) -> T:
        """Call `access` with a file system; once more, if the store refuses the credentials and there are new ones."""
        loaded = self._current()
        try:
            return access(loaded.io.fs_by_scheme(scheme, host))
        except OSError as error:
            if not are_keys_refused(error):
                raise
            renewed = self._renewed(loaded, "refused")
            if renewed.io is loaded.io:
                raise
        return access(renewed.io.fs_by_scheme(scheme, host))

    def _current(self) -> _Loaded:
        loaded = self._loaded
        return loaded if self._clock() < loaded.renew_at else self._renewed(loaded, "expiring")

    def _renewed(self, old: _Loaded, reason: str) -> _Loaded:
        """Return newer credentials than `old`; `old` if there are none, or it is too early to ask for them again."""
        with self._lock:
            loaded = self._loaded
            # Another thread may have renewed them meanwhile, or found that the catalog does not answer.
            if loaded.io is not old.io or self._clock() < loaded.loaded_at + PAUSE_SECONDS:
                return loaded
            try:
                self._loaded = self._loaded_of(self._load())
                _log.info("credentials_renewed", table=self._table_name, reason=reason)
            except Exception as error:  # noqa: BLE001  the store decides whether it still accepts the present ones
                error_line = first_line(error)
                _log.warning("credentials_not_renewed", table=self._table_name, reason=reason, error=error_line)
                now = self._clock()
                self._loaded = _Loaded(old.io, now, now + PAUSE_SECONDS)
            return self._loaded

    def _loaded_of(self, table: Table) -> _Loaded:
        assert isinstance(table.io, PyArrowFileIO), "one catalog makes one kind of file IO"
        now = self._clock()
        seconds = _seconds_to_renewal(table)
        return _Loaded(table.io, now, now + (DEFAULT_AGE_SECONDS if seconds is None else seconds))


class _RenewedFiles(FileSystemHandler):
    """An Arrow file system whose every access begins with valid credentials; streams are those of the real one."""

    def __init__(self, credentials: _VendedCredentials, scheme: str, host: str | None) -> None:
        self._use = partial(credentials.use, scheme, host)

    def get_type_name(self) -> str:
        """Return the name of the kind of file system."""
        return "renewed"

    def normalize_path(self, path: str) -> str:
        """Return the path."""
        return path

    def get_file_info(self, paths: str | list[str]) -> list[FileInfo]:
        """Return what is known of each file."""
        return self._use(lambda files: files.get_file_info([paths] if isinstance(paths, str) else paths))

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """Return what is known of the files of a folder."""
        return self._use(lambda files: files.get_file_info(selector))

    def open_input_file(self, path: str) -> NativeFile:
        """Open a file to read it in any order."""
        return self._use(lambda files: files.open_input_file(path))

    def open_input_stream(self, path: str) -> NativeFile:
        """Open a file to read it from its start. Arrow applies a compression around this file system."""
        return self._use(lambda files: files.open_input_stream(path, compression=None))

    def open_output_stream(self, path: str, metadata: dict[str, str] | None) -> NativeFile:
        """Create a file."""
        return self._use(lambda files: files.open_output_stream(path, compression=None, metadata=metadata))

    def open_append_stream(self, path: str, metadata: dict[str, str] | None) -> NativeFile:
        """Refuse: files of a table never change."""
        raise NotImplementedError(f"cannot append to {path}: files of a table never change")

    def create_dir(self, path: str, recursive: bool) -> None:  # noqa: FBT001  Arrow's signature
        """Create a folder."""
        self._use(lambda files: files.create_dir(path, recursive=recursive))

    def delete_dir(self, path: str) -> None:
        """Delete a folder with all files in it."""
        self._use(lambda files: files.delete_dir(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:  # noqa: FBT001, FBT002  as above
        """Delete all files in a folder."""
        self._use(lambda files: files.delete_dir_contents(path, missing_dir_ok=missing_dir_ok))

    def delete_root_dir_contents(self) -> None:
        """Refuse: a store has more than one table."""
        raise NotImplementedError("cannot delete all files of a store: it has more than one table")

    def delete_file(self, path: str) -> None:
        """Delete a file."""
        self._use(lambda files: files.delete_file(path))

    def move(self, source: str, target: str) -> None:
        """Move a file."""
        self._use(lambda files: files.move(source, target))

    def copy_file(self, source: str, target: str) -> None:
        """Copy a file."""
        self._use(lambda files: files.copy_file(source, target))

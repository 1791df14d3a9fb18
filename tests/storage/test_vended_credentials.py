"""Vended credentials are renewed in time, once, and only if there are any."""

import gzip
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.storage.vended_credentials import (
    DEFAULT_AGE_SECONDS,
    PAUSE_SECONDS,
    seconds_to_renewal,
    with_renewed_credentials,
)
from tests.iceberg.trades_table import settings_in
from tests.query.tables import made

NOW: Final = 1_700_000_000.0
OWN: Final = {"s3.access-key-id": "own", "s3.secret-access-key": "secret", "s3.region": "us-east-1"}
REFUSALS: Final = (
    "When reading information for key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: No body",
    "When getting information for key 'a': AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No body",
    "When initiating multiple part upload: AWS Error INVALID_ACCESS_KEY_ID during CreateMultipartUpload operation: no",
    "AWS Error UNKNOWN (HTTP status 400) during PutObject operation: Unable to parse ExceptionName: ExpiredToken",
)


def keys(number: int, seconds: float | None = None) -> dict[str, str]:
    """Return vended keys, which expire in that many seconds, or at a time that is not stated."""
    vended = {"s3.access-key-id": f"VENDED{number}", "s3.secret-access-key": "s", "s3.session-token": "t"}
    if seconds is None:
        return vended
    return vended | {"s3.session-token-expires-at-ms": str(round((NOW + seconds) * 1000))}


@pytest.mark.parametrize(
    ("vended", "seconds"),
    [
        ({}, None),
        ({"s3.endpoint": "http://elsewhere", "s3.region": "eu-west-1"}, None),
        ({"s3.access-key-id": "own"}, None),
        (keys(1), DEFAULT_AGE_SECONDS),
        (keys(1) | {"s3.session-token-expires-at-ms": "soon"}, DEFAULT_AGE_SECONDS),
        (keys(1, 5), 4),
        (keys(1, 900), 720),
        (keys(1, 1_500), 1_200),
        (keys(1, 3_600), 3_300),
        (keys(1, 36_000), 35_700),
        (keys(1, 1), PAUSE_SECONDS),
        (keys(1, -3_600), PAUSE_SECONDS),
        ({"gcs.oauth2.token": "t"}, DEFAULT_AGE_SECONDS),
        ({"gcs.oauth2.token": "t", "gcs.oauth2.token-expires-at": str(int((NOW + 1_000) * 1000))}, 800),
        ({"adls.sas-token.k2": "t", "adls.sas-token-expires-at-ms.k2": str(int((NOW + 500) * 1000))}, 400),
        (keys(1, 900) | {"gcs.oauth2.token": "t", "gcs.oauth2.token-expires-at": str(int((NOW + 500) * 1000))}, 400),
    ],
)
def test_when_credentials_are_renewed(vended: Mapping[str, str], seconds: float | None) -> None:
    """A fifth of the stated lifetime before the expiry, at most five minutes; else after ten minutes; or never."""
    assert seconds_to_renewal({**OWN, **vended}, OWN, NOW) == (seconds if seconds is None else pytest.approx(seconds))


class Catalog:
    """Vends keys for a table, and is its store: `refused` are the numbers of the keys that it refuses."""

    def __init__(self, table: Table) -> None:
        self.now = 0.0
        """The time, in seconds."""
        self.loads = 0
        self.refused: set[int] = set()
        self.error = OSError(REFUSALS[0])
        self.is_away = False
        self.used: list[int] = []
        """The number of the keys of each access."""
        self._table = table

    def load(self) -> Table:
        """Load the table with new keys, which are to be renewed after ten minutes."""
        self.loads += 1
        if self.is_away:
            raise ConnectionResetError("the catalog is away")
        known, number = self._table, self.loads
        io = PyArrowFileIO({**known.io.properties, **keys(number)})
        # Asked for with each access, which begins with the file system.
        io.fs_by_scheme = lambda *_: self._files(number)
        return Table(known.name(), known.metadata, known.metadata_location, io, known.catalog, known.config)

    def opened(self) -> Table:
        """Return the table as the job has it."""
        return with_renewed_credentials(self.load(), self.load, lambda: self.now)

    def _files(self, number: int) -> FileSystem:
        self.used.append(number)
        if number in self.refused:
            raise self.error
        return LocalFileSystem()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a local warehouse."""
    return settings_in(tmp_path)


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    """Return a catalog that vends keys for a local table."""
    return Catalog(made(settings, TableName.TRADES))


def exists(table: Table) -> bool:
    """Access a file of the table."""
    return table.io.new_input(table.metadata_location).exists()


def test_credentials_are_renewed_when_due(catalog: Catalog) -> None:
    """Not before, and once for many accesses, also of a scan or a file IO that was taken earlier."""
    table = catalog.opened()
    taken = table.scan().io
    catalog.now = DEFAULT_AGE_SECONDS - 1
    assert exists(table)
    catalog.now = DEFAULT_AGE_SECONDS
    assert taken.new_input(table.metadata_location).exists()
    assert exists(table)
    catalog.now = 2 * DEFAULT_AGE_SECONDS
    assert exists(table)
    assert catalog.used == [1, 2, 2, 3]


def test_threads_renew_credentials_once(catalog: Catalog) -> None:
    """Of many threads that find them expiring, or refused, at the same time."""
    table = catalog.opened()
    count = 8
    together = threading.Barrier(count)

    def access(_: int) -> bool:
        together.wait()
        return exists(table)

    with ThreadPoolExecutor(count) as pool:
        catalog.now = DEFAULT_AGE_SECONDS
        assert all(pool.map(access, range(count)))
        assert catalog.loads == 2
        catalog.now += PAUSE_SECONDS
        catalog.refused = {2}
        assert all(pool.map(access, range(count)))
        assert catalog.loads == 3


def test_a_catalog_that_is_away_stops_no_access(catalog: Catalog) -> None:
    """The present keys are used as long as the store accepts them; the catalog is asked once a second at most."""
    table = catalog.opened()
    catalog.is_away = True
    catalog.now = DEFAULT_AGE_SECONDS
    assert exists(table)
    assert exists(table)
    assert catalog.loads == 2
    catalog.now += PAUSE_SECONDS
    assert exists(table)
    assert catalog.loads == 3
    catalog.is_away = False
    catalog.now += PAUSE_SECONDS
    assert exists(table)
    assert catalog.used[-2:] == [1, 4]


@pytest.mark.parametrize("message", REFUSALS)
def test_refused_credentials_are_renewed_once(catalog: Catalog, message: str) -> None:
    """Before they are due, too; if the store refuses the new ones as well, its error is raised."""
    catalog.error = OSError(message)
    table = catalog.opened()
    catalog.now = PAUSE_SECONDS
    catalog.refused = {1}
    assert exists(table)
    assert catalog.used == [1, 2]
    catalog.now += PAUSE_SECONDS
    catalog.refused = {2, 3}
    with pytest.raises(OSError, match="AWS Error"):
        exists(table)
    # Too early for another renewal.
    with pytest.raises(OSError, match="AWS Error"):
        exists(table)
    assert catalog.used == [1, 2, 2, 3, 3]
    catalog.is_away = True
    catalog.now += PAUSE_SECONDS
    with pytest.raises(OSError, match="AWS Error"):
        exists(table)
    assert catalog.used[-1] == 3


def test_credentials_that_another_thread_renewed_are_used(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access that was refused late does not renew them again."""
    table = catalog.opened()
    catalog.refused = {1}
    files = Catalog._files

    def late(self: Catalog, number: int) -> FileSystem:
        monkeypatch.setattr(Catalog, "_files", files)
        catalog.now = DEFAULT_AGE_SECONDS
        assert exists(table)
        catalog.now += 2 * PAUSE_SECONDS
        return files(self, number)

    monkeypatch.setattr(Catalog, "_files", late)
    assert exists(table)
    assert catalog.used == [2, 1, 2]
    assert catalog.loads == 2


@pytest.mark.parametrize("message", ["AWS Error NETWORK_CONNECTION during PutObject", "AWS Error (HTTP status 503)"])
def test_other_faults_renew_nothing(catalog: Catalog, message: str) -> None:
    """They are the store's, and are raised as they are."""
    table = catalog.opened()
    catalog.now, catalog.refused, catalog.error = PAUSE_SECONDS, {1}, OSError(message)
    with pytest.raises(OSError, match=r"AWS Error"):
        exists(table)
    assert catalog.loads == 1


def test_a_table_without_vended_credentials_is_left_as_it_is(settings: Settings) -> None:
    """Its file IO is PyIceberg's own, and it is not loaded again."""
    table = made(settings, TableName.TRADES)
    io = table.io

    def load() -> Table:
        raise AssertionError("nothing is vended")

    assert with_renewed_credentials(table, load).io is io


def test_files_are_those_of_the_store(catalog: Catalog, tmp_path: Path) -> None:
    """A file written is read, listed, moved, copied and deleted; a compressed one is compressed once."""
    io: Any = catalog.opened().io
    files = io.fs_by_scheme("file", "")
    file = f"{tmp_path}/folder/one.gz"
    files.create_dir(f"{tmp_path}/folder")
    with io.new_output(f"file://{file}").create() as stream:
        stream.write(b"text")
    assert gzip.decompress(Path(file).read_bytes()) == b"text"
    with io.new_input(f"file://{file}").open(seekable=False) as stream:
        assert stream.read() == b"text"
    with io.new_input(f"file://{file}").open() as stream:
        assert gzip.decompress(stream.read()) == b"text"
    files.copy_file(file, f"{file}.copy")
    files.move(f"{file}.copy", f"{file}.moved")
    listed = files.get_file_info(FileSelector(f"{tmp_path}/folder"))
    assert sorted(info.base_name for info in listed) == ["one.gz", "one.gz.moved"]
    io.delete(f"file://{file}")
    assert not io.new_input(f"file://{file}").exists()
    files.delete_dir_contents(f"{tmp_path}/folder")
    assert not files.get_file_info(FileSelector(f"{tmp_path}/folder"))
    files.delete_dir(f"{tmp_path}/folder")
    assert not Path(tmp_path / "folder").exists()
    assert (files.type_name, files.normalize_path(file)) == ("py::renewed", file)
    with pytest.raises(NotImplementedError, match="never change"):
        files.open_append_stream(file)

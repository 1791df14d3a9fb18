"""Checks of catalogs that are served: nothing is created in them, and each way to fail has its error."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyarrow.fs import FileSelector
from pyiceberg.io.pyarrow import PyArrowFileIO
from sqlalchemy import create_engine, inspect, text

from k2.doctor.broker import Tables
from k2.doctor.findings import Finding, Shared, State
from k2.doctor.folders import check_warehouse
from k2.doctor.tables import Found, check_catalog, check_tables
from k2.iceberg.tables import TableName
from k2.model.errors import SettingsError, UnreachableError
from k2.ops.settings import Settings, read_settings
from tests.catalogs.fixtures import SERVED, CatalogNamespace, variables_of
from tests.catalogs.servers import LOGIN, Server
from tests.query.tables import made
from tests.s3 import S3

pytestmark = pytest.mark.slow


def look(settings: Settings) -> list[Finding]:
    """Check the catalog, the tables and the warehouse."""
    found, tables = Shared[Found]("it"), Shared[Tables]("it")
    checks = (
        check_catalog(settings, found),
        check_tables(settings, found, tables, Shared("it")),
        check_warehouse(settings, found),
    )
    return [finding for check in checks for finding in check]


@pytest.mark.parametrize("namespace", SERVED, indirect=True)
def test_tables_are_found_and_none_is_made(namespace: CatalogNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first start, and after it."""
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__CONNECTION__TIMEOUT", "60")
    before = look(namespace.settings)
    assert {one.state for one in before} == {State.OK}
    assert sum("does not exist yet; the job creates it" in one.text for one in before) == len(TableName)
    for name in TableName:
        made(namespace.settings, name)
    after = look(namespace.settings)
    assert {one.state for one in after} == {State.OK}
    assert "can be written" in after[-1].text


@pytest.fixture
def empty_database(postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a database in which no catalog was ever made, as the environment configures it."""
    user, password = LOGIN
    address = f"postgresql+psycopg2://{user}:{password}@127.0.0.1:{postgresql.port}"
    engine = create_engine(f"{address}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE untouched"))
    variables = variables_of("postgresql", postgresql.port, tmp_path / "warehouse", database="untouched")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield f"{address}/untouched"
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE untouched WITH (FORCE)"))
    engine.dispose()


def test_an_empty_database_stays_empty(empty_database: str, tmp_path: Path) -> None:
    """PyIceberg would make its own tables when it opens the catalog."""
    assert {one.state for one in look(read_settings({"K2_DATA_DIR": str(tmp_path)}))} == {State.OK}
    engine = create_engine(empty_database)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_wrong_password_is_a_wrong_setting(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said that the credentials are refused, and which catalog refuses them."""
    variables = variables_of("postgresql", postgresql.port, tmp_path, login=(LOGIN[0], "hunter2"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="catalog 'k2' refuses the credentials") as caught:
        look(read_settings({}))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", SERVED)
def test_a_server_that_never_answers_is_unreachable(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the catalog's own timeout, without retries."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, value in variables_of(kind, silent.getsockname()[1], tmp_path).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UnreachableError, match=r"catalog 'k2' at .* cannot be reached"):
            look(read_settings({}))


def test_a_warehouse_on_s3_is_tried(on_s3: Settings, s3: S3) -> None:
    """With an object that is removed; keys that are refused are a failure, in a sentence without them."""
    with s3.refusing():
        (refused,) = [one for one in look(on_s3) if one.check == "warehouse"]
    assert refused.state is State.FAILED
    assert "check its address, keys and permissions" in refused.text
    (tried,) = [one for one in look(on_s3) if one.check == "warehouse"]
    assert (tried.state, "can be written" in tried.text) == (State.OK, True), tried.text
    trades = made(on_s3, TableName.TRADES)
    bucket = urlsplit(trades.location()).netloc
    (tried,) = [one for one in look(on_s3) if one.check == "warehouse"]
    assert tried.state is State.OK
    filesystem = PyArrowFileIO(trades.io.properties).fs_by_scheme("s3", bucket)
    names = [one.base_name for one in filesystem.get_file_info(FileSelector(bucket, recursive=True))]
    assert not [name for name in names if "k2-doctor" in name]

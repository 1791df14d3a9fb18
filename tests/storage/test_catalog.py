"""Catalogs that cannot be opened: each cause has its error, in one sentence without a password."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from k2.iceberg.tables import TableName, connect
from k2.model.errors import SettingsError, UnreachableError
from k2.ops.child_process import free_port
from k2.ops.settings import Settings, read_settings
from k2.storage import catalog as catalog_module
from k2.storage.catalog import find_table, open_catalog
from k2.storage.catalog_errors import catalog_address
from tests.catalogs.fixtures import variables_of
from tests.catalogs.http_proxy import HttpProxy
from tests.catalogs.servers import LOGIN, Server, execute, make_database

WRONG = ("k2", "wrong")
THREADS = 8


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Settings]:
    """Return a function that sets a catalog's environment and returns matching settings."""

    def configure(variables: dict[str, str]) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return read_settings({})

    return configure


Configure = Callable[[dict[str, str]], Settings]


@pytest.mark.parametrize(
    ("login", "database", "said"),
    [
        (WRONG, "postgres", "refuses the credentials: FATAL: password authentication failed for user"),
        (("nobody", "x"), "postgres", "refuses the credentials: FATAL: password authentication failed"),
        (LOGIN, "absent", 'is misconfigured: FATAL: database "absent" does not exist'),
    ],
)
def test_a_rejected_postgresql_login_is_a_wrong_setting(
    postgresql: Server, configured: Configure, login: tuple[str, str], database: str, said: str
) -> None:
    """A retry would not help: it is reported at once, in the server's words and on one line."""
    settings = configured(variables_of("postgresql", postgresql.port, Path("unused"), login, database))
    with pytest.raises(SettingsError, match=f"^catalog 'k2' {said}[^\n]*$") as caught:
        find_table(settings, "trades")
    assert login[1] not in str(caught.value).split()


def test_postgresql_without_rights_is_a_wrong_setting(postgresql: Server, configured: Configure) -> None:
    """A login that may not create the catalog's tables gets an error that says so."""
    database = make_database(postgresql)
    execute(postgresql, "CREATE ROLE guest LOGIN PASSWORD 'guest'", f"ALTER DATABASE {database} OWNER TO k2")
    settings = configured(variables_of("postgresql", postgresql.port, Path("unused"), ("guest", "guest"), database))
    with pytest.raises(SettingsError, match="refuses the credentials: permission denied for schema"):
        connect(settings, TableName.TRADES)


def test_an_invalid_token_is_a_wrong_setting(rest: Server, configured: Configure) -> None:
    """A 401 ends the start with the catalog's message; a valid token opens the catalog."""
    with HttpProxy(rest.port, token="good") as proxy:  # noqa: S106  no secret
        variables = variables_of("rest", proxy.port, rest.warehouse)
        settings = configured({**variables, "PYICEBERG_CATALOG__K2__TOKEN": "bad"})
        with pytest.raises(SettingsError, match=r"refuses the credentials: NotAuth.*the token is not good"):
            find_table(settings, "trades")
        assert open_catalog(configured({"PYICEBERG_CATALOG__K2__TOKEN": "good"})).list_namespaces() is not None


@pytest.mark.parametrize("use", [find_table, connect])
def test_a_forbidden_table_is_a_wrong_setting(
    rest: Server, configured: Configure, use: Callable[[Settings, TableName], object]
) -> None:
    """The catalog opens, but does not let this user read its tables."""
    with HttpProxy(rest.port, forbids_tables=True) as proxy:
        settings = configured(variables_of("rest", proxy.port, rest.warehouse))
        with pytest.raises(SettingsError, match=r"refuses the credentials: .*not a table of yours"):
            use(settings, TableName.TRADES)


@pytest.mark.parametrize("kind", ["postgresql", "rest"])
def test_an_absent_catalog_is_unreachable(configured: Configure, kind: str) -> None:
    """The error names the address, not the password."""
    port = free_port()
    settings = configured(variables_of(kind, port, Path("unused"), ("k2", "secret")))
    with pytest.raises(UnreachableError, match=rf"^catalog 'k2' at 127\.0\.0\.1:{port} cannot be reached: ") as caught:
        open_catalog(settings)
    assert "refused" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named(configured: Configure) -> None:
    """PyIceberg's own error names SQLAlchemy, whatever is missing."""
    settings = configured({"PYICEBERG_CATALOG__K2__URI": "postgresql+pg8000://127.0.0.1/postgres"})
    with pytest.raises(SettingsError, match="is misconfigured: No module named 'pg8000'"):
        open_catalog(settings)


@pytest.mark.parametrize(
    ("uri", "reached_by"),
    [
        ("postgresql://h/d", "postgresql+psycopg2://h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("http://h", "http://h"),
    ],
)
def test_postgresql_uses_the_driver_that_has_a_timeout(uri: str, reached_by: str) -> None:
    """If the URI names no driver; SQLAlchemy's default is another, which may not be installed."""
    assert catalog_module._with_driver({"uri": uri})["uri"] == reached_by


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("postgresql://k2:p@ss@h:5432/d", "h:5432"),
        ("postgresql+psycopg2://u:pq#secret@127.0.0.1:1/db", "127.0.0.1:1"),
        ("postgresql://u:p/secret@h/db", "h"),
        ("postgresql://u:p?secret@[::1]:5/db?sslmode=require", "[::1]:5"),
        ("postgresql:///db?host=/tmp&password=secret", "postgresql:///db"),
        ("postgresql://u:p@s#s/secret@h:5/db", "h:5"),
        ("postgresql://u:p#secret@h1:5,h2:6/db", "h1:5,h2:6"),
        ("postgresql://h1:5,h2:6/db", "h1:5,h2:6"),
        ("arn:aws:glue", "arn:aws:glue"),
        ("thrift://u:secret@h:9083", "h:9083"),
        ("https://rest.example/catalog", "rest.example"),
        ("https://rest.example:8181/a@b", "rest.example:8181"),
        ("k2:secret@h", "h"),
        (None, "an unnamed address"),
    ],
)
def test_an_address_has_no_password(uri: str | None, address: str) -> None:
    """Whatever the form of the URI."""
    assert catalog_address({} if uri is None else {"uri": uri}) == address


def test_several_processes_can_create_the_catalog_at_once(postgresql: Server, configured: Configure) -> None:
    """Processes that start together on an empty database all open the same catalog."""
    database = make_database(postgresql)
    settings = configured(variables_of("postgresql", postgresql.port, postgresql.warehouse, database=database))
    together = Barrier(THREADS)

    def make(_: int) -> str:
        together.wait()
        return str(connect(settings, TableName.TRADES).metadata.table_uuid)

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(make, range(THREADS)))) == 1

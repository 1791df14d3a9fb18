"""Catalogs for the job's tables: each test gets a namespace in SQLite, PostgreSQL or a REST catalog."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import pytest

from k2.ops.settings import Settings, read_settings
from tests.catalogs.http_proxy import HttpProxy
from tests.catalogs.proxy import Proxy
from tests.catalogs.servers import LOGIN, Server, running_postgresql, running_rest
from tests.catalogs.sql_proxy import SqlProxy
from tests.maven import NotToBeHadError

SERVED: Final = ("postgresql", "rest")
KINDS: Final = ("sqlite", *SERVED)
DEFAULT_TIMEOUT_SECONDS: Final = 2
"""How long the job waits for a response: enough for a slow machine, and short for a test."""


@dataclass(frozen=True)
class CatalogNamespace:
    """A namespace of a catalog that contains a test's tables."""

    kind: str
    settings: Settings
    proxy: Proxy | None = None
    """The proxy in front of the server; None for SQLite."""
    variables: dict[str, str] = field(default_factory=dict)
    """The environment variables with which a process uses this namespace."""


@pytest.fixture(scope="session")
def postgresql(missing: Callable[[str], NoReturn]) -> Iterator[Server]:
    """Yield PostgreSQL, started on first use."""
    try:
        with running_postgresql() as server:
            yield server
    except NotToBeHadError as error:
        missing(f"PostgreSQL ({error})")


@pytest.fixture(scope="session")
def rest(missing: Callable[[str], NoReturn]) -> Iterator[Server]:
    """Yield Apache's Iceberg REST catalog, started on first use."""
    try:
        with running_rest() as server:
            yield server
    except NotToBeHadError as error:
        missing(f"Java and Maven: the Iceberg REST catalog ({error})")


@pytest.fixture
def namespace(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CatalogNamespace]:
    """Yield a namespace in the kind of catalog that the test's parameter names; the environment configures it."""
    kind: str = request.param
    server: Server | None = None if kind == "sqlite" else request.getfixturevalue(kind)
    with nullcontext() if server is None else proxy_of(kind, server) as proxy:
        variables = {"K2_DATA_DIR": str(tmp_path / "data"), "K2_NAMESPACE": f"n{uuid.uuid4().hex[:12]}"}
        if server is not None and proxy is not None:
            variables |= variables_of(kind, proxy.port, server.warehouse)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield CatalogNamespace(kind, read_settings(variables), proxy, variables)


def proxy_of(kind: str, server: Server) -> Proxy:
    """Return a proxy in front of a server."""
    return SqlProxy(server.port) if kind == "postgresql" else HttpProxy(server.port)


def variables_of(
    kind: str, port: int, warehouse: Path, login: tuple[str, str] = LOGIN, database: str = "postgres"
) -> dict[str, str]:
    """Return PyIceberg's variables for a server, as its users set them."""
    user, password = login
    uris = {
        "postgresql": f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}",
        "rest": f"http://127.0.0.1:{port}",
    }
    properties = {
        "URI": uris[kind],
        "WAREHOUSE": f"file://{warehouse}",
        "CONNECTION__TIMEOUT": str(DEFAULT_TIMEOUT_SECONDS),
    }
    return {f"PYICEBERG_CATALOG__K2__{name}": value for name, value in properties.items()}

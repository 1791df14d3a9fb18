"""A catalog that accepts connections and never answers is waited for only for a limited time."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
import requests
from psycopg2 import extensions
from requests.adapters import HTTPAdapter

from k2.model.errors import SettingsError, UnreachableError
from k2.ops.settings import read_settings
from k2.storage.catalog import open_catalog
from k2.storage.catalog_timeouts import DEFAULT_TIMEOUT_SECONDS, limit_catalog_timeouts, timeout_seconds

LIMIT = 0.2
SECONDS_MAX = 10


@pytest.fixture
def silent() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the timeouts that a test sets in this process."""
    monkeypatch.setattr(HTTPAdapter, "send", HTTPAdapter.send)
    yield
    extensions.set_wait_callback(None)


@pytest.mark.parametrize("scheme", ["http", "postgresql", "postgresql+psycopg2"])
def test_a_silent_catalog_is_unreachable(silent: int, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """After the timeout in the catalog's configuration, and no later; the error names its address."""
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", f"{scheme}://127.0.0.1:{silent}")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__CONNECTION__TIMEOUT", str(LIMIT))
    # In a thread that can be abandoned: pytest's timeout does not interrupt a wait within libpq.
    opening = Future[object]()
    Thread(target=_open, args=(opening,), daemon=True).start()
    error = opening.exception(SECONDS_MAX)
    assert isinstance(error, UnreachableError)
    assert re.search(rf"^catalog 'k2' at 127\.0\.0\.1:{silent} cannot be reached: .*{LIMIT}", str(error))


def _open(opening: Future[object]) -> None:
    try:
        opening.set_result(open_catalog(read_settings({})))
    except Exception as error:  # noqa: BLE001  it is the outcome
        opening.set_exception(error)


@pytest.mark.timeout(SECONDS_MAX)
def test_calls_outside_the_session_have_the_timeout_too(silent: int) -> None:
    """PyIceberg requests tokens without its session."""
    limit_catalog_timeouts("k2", {"connection.timeout": LIMIT})
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"http://127.0.0.1:{silent}", data={})  # noqa: S113  that is what is tested


@pytest.mark.timeout(SECONDS_MAX)
def test_a_call_with_its_own_timeout_keeps_it(silent: int) -> None:
    """An explicit timeout is not replaced."""
    limit_catalog_timeouts("k2", {})
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(f"http://127.0.0.1:{silent}", timeout=LIMIT)


@pytest.mark.parametrize(
    ("configuration", "seconds"),
    [
        ({}, DEFAULT_TIMEOUT_SECONDS),
        ({"connection": "no block"}, DEFAULT_TIMEOUT_SECONDS),
        ({"connection.timeout": "2.5"}, 2.5),
        ({"connection": {"timeout": "7"}}, 7),
        ({"connection.timeout": 1, "connection": {"timeout": "7"}}, 1),
    ],
)
def test_the_timeout_is_a_property_of_the_catalog(configuration: dict[str, Any], seconds: float) -> None:
    """As one name, as in the environment, or as a block of the file; the default is one minute."""
    assert timeout_seconds("k2", configuration) == seconds


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan", ""])
def test_an_invalid_timeout_is_rejected(value: str) -> None:
    """The error names the catalog and the property."""
    with pytest.raises(
        SettingsError, match=r"^catalog 'k2': invalid connection\.timeout=.*; set it to a number of seconds above"
    ):
        timeout_seconds("k2", {"connection.timeout": value})

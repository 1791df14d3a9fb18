"""How long a catalog's answer is waited for: its clients, left as they are, wait for ever.

The limit holds for the whole process, for each wait by itself: an answer that comes slowly, but comes, is heard to
its end. A commit that is given up here may land all the same; it is looked up like any other without an answer.
"""

import select
from collections.abc import Mapping
from typing import Any, Final

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from k2.model.errors import SettingsError

__all__ = ["WAIT_SECONDS", "limit_catalog_timeouts", "wait_seconds"]

WAIT_SECONDS: Final = 60.0
"""What is waited where the catalog's configuration says nothing."""
_PROPERTY: Final = "connection.timeout"
"""Of the catalog, in seconds; later versions of PyIceberg know it by this name."""

_send: Final = HTTPAdapter.send


def limit_catalog_timeouts(catalog: str, configuration: Mapping[str, Any]) -> None:
    """Let no HTTP call, and no statement to PostgreSQL by psycopg2, wait longer than the catalog's configuration says.

    Raises:
        SettingsError: what it says is no time.
    """
    seconds = wait_seconds(catalog, configuration)
    _limit_http(seconds)
    if str(configuration.get("uri", "")).startswith("postgresql"):
        _limit_psycopg2(seconds)


def wait_seconds(catalog: str, configuration: Mapping[str, Any]) -> float:
    """Read the limit, written as one name or as a block of the configuration file.

    Raises:
        SettingsError: it is no time.
    """
    block = configuration.get("connection")
    value = configuration.get(_PROPERTY, block.get("timeout") if isinstance(block, Mapping) else None)
    if value is None:
        return WAIT_SECONDS
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"catalog {catalog!r}: {_PROPERTY}={value!r} is no number of seconds above zero")
    return seconds


def _limit_http(seconds: float) -> None:
    # Here and not in a session, since PyIceberg makes sessions of its own to ask for tokens.
    def send(self: HTTPAdapter, request: PreparedRequest, *, timeout: Any = None, **options: Any) -> Response:
        return _send(self, request, timeout=seconds if timeout is None else timeout, **options)

    HTTPAdapter.send = send  # type: ignore[method-assign,assignment]


def _limit_psycopg2(seconds: float) -> None:
    try:
        from psycopg2 import OperationalError, extensions  # noqa: PLC0415  only who chose PostgreSQL has it
    except ImportError:
        return
    events = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            watch = select.poll()
            # Anew each time: while it connects it may go on to another address.
            watch.register(connection.fileno(), events[state])
            if not watch.poll(seconds * 1000):
                raise OperationalError(f"PostgreSQL has not answered for {seconds:g} s")

    # Else libpq waits, and hears of no limit once a statement is sent. psycopg2 closes a connection that fails here.
    extensions.set_wait_callback(wait)

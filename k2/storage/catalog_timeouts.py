"""Timeouts for catalog calls: by default the clients wait forever.

The timeout applies to the whole process, to each wait on the socket: a slow response that keeps arriving is read to
its end. A commit that times out here may still succeed; its outcome is looked up like that of any commit without an
answer.
"""

import select
from collections.abc import Mapping
from typing import Any, Final

from k2.model.errors import SettingsError

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "limit_catalog_timeouts", "timeout_seconds"]

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
"""The timeout if the catalog's configuration sets none."""
_PROPERTY: Final = "connection.timeout"
"""Catalog property, in seconds; later versions of PyIceberg use this name."""


def limit_catalog_timeouts(catalog: str, configuration: Mapping[str, Any]) -> None:
    """Apply the catalog's timeout to every HTTP call, and to every PostgreSQL statement through psycopg2.

    Raises:
        SettingsError: the configured timeout is not a positive number.
    """
    from k2.storage.http_timeouts import limit_http_timeouts  # noqa: PLC0415  the local catalog needs no HTTP

    seconds = timeout_seconds(catalog, configuration)
    limit_http_timeouts(seconds)
    if str(configuration.get("uri", "")).startswith("postgresql"):
        _limit_psycopg2(seconds)


def timeout_seconds(catalog: str, configuration: Mapping[str, Any]) -> float:
    """Return the timeout, configured as one property or as a block of the configuration file.

    Raises:
        SettingsError: it is not a positive number.
    """
    block = configuration.get("connection")
    value = configuration.get(_PROPERTY, block.get("timeout") if isinstance(block, Mapping) else None)
    if value is None:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(
            f"catalog {catalog!r}: invalid {_PROPERTY}={value!r}; set it to a number of seconds above zero"
        )
    return seconds


def _limit_psycopg2(seconds: float) -> None:
    try:
        from psycopg2 import OperationalError, extensions  # noqa: PLC0415  installed only for PostgreSQL
    except ImportError:
        return
    events = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            watch = select.poll()
            # Registered each time: while connecting, psycopg2 may move on to another address.
            watch.register(connection.fileno(), events[state])
            if not watch.poll(seconds * 1000):
                raise OperationalError(f"PostgreSQL has not answered for {seconds:g} s")

    # Without the callback libpq waits, without a timeout once a statement is sent. psycopg2 closes a connection that
    # fails here.
    extensions.set_wait_callback(wait)

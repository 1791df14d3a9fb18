"""Classify the errors of Iceberg's clients: unreachable, refused, misconfigured or damaged."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from pyiceberg.exceptions import (
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchPropertyException,
    NotInstalledError,
    OAuthError,
    RESTError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
    WaitingForLockException,
)
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from k2.model.errors import CatalogError, K2Error, SettingsError, UnreachableError

__all__ = [
    "CATALOG_TRANSIENT",
    "are_keys_refused",
    "as_k2_error",
    "catalog_address",
    "corrupt_error",
    "error_text",
    "is_corrupt",
    "sql_url",
    "translate_permanent_errors",
]

CATALOG_TRANSIENT: Final[tuple[type[BaseException], ...]] = (
    CommitStateUnknownException,
    InterfaceError,
    OperationalError,
    PoolTimeoutError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    WaitingForLockException,
)
"""Exceptions that Iceberg's clients raise for transient faults, in addition to `OSError` (of `requests` and Arrow)."""

_REFUSED: Final = (ForbiddenError, OAuthError, UnauthorizedError)
_REFUSAL: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied|role .* does not exist"
)
"""Messages by which PostgreSQL refuses a login or a privilege; a failed login has no error code to test."""
_KEYS_REFUSED: Final = re.compile(
    r"AWS Error (?:ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|REQUEST_EXPIRED|UNRECOGNIZED_CLIENT)\b"
    r"|HTTP status 40[013]\b|Expired ?Token|InvalidToken"
)
"""Arrow's messages for keys that S3 refuses. AWS answers 400 for expired ones, without a reason to a HEAD request."""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_SQL: Final = ("http://", "https://", "thrift://")
"""How the addresses of REST and Hive catalogs begin."""
_NO_DATABASE: Final = re.compile(r"database .* does not exist")
_UNREACHABLE: Final[tuple[type[BaseException], ...]] = (OSError, RESTError, *CATALOG_TRANSIENT)
_MISCONFIGURED: Final = (
    ArgumentError,
    ImportError,
    KeyError,
    NoSuchPropertyException,
    NotInstalledError,
    ProgrammingError,
    TypeError,
    ValueError,
)


def as_k2_error(catalog: str, address: str, error: Exception) -> K2Error | None:
    """Translate an exception raised while opening a catalog into a `K2Error`; return None if it is not a known one."""
    if is_corrupt(error):
        return corrupt_error(address, error)
    if _is_refusal(error):
        return _refused(catalog, error)
    if isinstance(error, _UNREACHABLE) and not _NO_DATABASE.search(str(error)):
        return UnreachableError(f"catalog {catalog!r} at {address} cannot be reached: {error_text(error)}")
    if isinstance(error, (*_UNREACHABLE, *_MISCONFIGURED)):
        return SettingsError(f"catalog {catalog!r} is misconfigured: {error_text(error)}")
    return None


@contextmanager
def translate_permanent_errors(catalog: str, database: object) -> Iterator[None]:
    """Translate what no retry can mend, also if the catalog opened and the error concerns one table.

    `database` is the file of an SQLite catalog; None for other catalogs.

    Raises:
        SettingsError: the credentials do not permit the operation.
        CatalogError: the database is corrupt.
    """
    try:
        yield
    except Exception as error:
        if _is_refusal(error):
            raise _refused(catalog, error) from error
        if is_corrupt(error):
            raise corrupt_error(database, error) from error
        raise


def are_keys_refused(error: OSError) -> bool:
    """Return whether S3 refused a request because of its keys: they may have expired, or lack a permission."""
    return _KEYS_REFUSED.search(str(error)) is not None


def is_corrupt(error: Exception) -> bool:
    """Return whether SQLite found that its file is damaged, or not a database."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    # An extended error code has the primary one in its lowest byte.
    return getattr(origin, "sqlite_errorcode", 0) & 0xFF in _CORRUPT


def corrupt_error(database: object, error: Exception) -> CatalogError:
    """Return the error for a damaged database file."""
    return CatalogError(
        f"the catalog {database} is corrupt: {error_text(error)}; restore a backup with `k2 catalog restore FILE`, or "
        "rename the file and run `k2 catalog register`"
    )


def catalog_address(configuration: Mapping[str, Any]) -> str:
    """Return the address of a catalog, without the password that its URI may contain; the file if it is in SQLite."""
    uri = str(configuration.get("uri", "an unnamed address"))
    if uri.startswith("sqlite"):
        return str(make_url(uri).database)
    url = sql_url(uri)
    # A password with `@` that is not quoted ends there for SQLAlchemy; its rest is part of the host or the database.
    if url is None or "@" in f"{url.host}{url.database}":
        end = uri if uri.startswith(_NOT_SQL) or "@" not in uri else f"//{uri.rpartition('@')[2]}"
        return (urlsplit(end).netloc or end).rpartition("@")[2]
    if not url.host:
        return str(URL.create(url.drivername, database=url.database))
    name = f"[{url.host}]" if ":" in url.host else url.host
    return name if url.port is None else f"{name}:{url.port}"


def sql_url(address: str) -> URL | None:
    """Return the parts of the address of an SQL catalog; None for other addresses, and for what SQLAlchemy rejects.

    A password may have `#`, `/` and `?` for SQLAlchemy; `urlsplit` would end the address there.
    """
    if address.startswith(_NOT_SQL):
        return None
    try:
        return make_url(address)
    except (ArgumentError, ValueError):
        return None


def error_text(error: Exception) -> str:
    """Return an error's message on one line, without SQLAlchemy's additions and with the cause that PyIceberg omits."""
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    if isinstance(error, NotInstalledError) and error.__cause__ is not None:
        text = f"{error.__cause__}: {text}"
    return " ".join(text.split())


def _refused(catalog: str, error: Exception) -> SettingsError:
    return SettingsError(f"catalog {catalog!r} refuses the credentials: {error_text(error)}")


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, _REFUSED) or (isinstance(error, DBAPIError) and bool(_REFUSAL.search(str(error.orig))))

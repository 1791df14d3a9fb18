"""What Iceberg's clients raise, told apart: out of reach, refused, or badly configured."""

import re
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
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from k2.model.errors import K2Error, SettingsError, UnreachableError

__all__ = ["TRANSIENT", "address_in", "fault_of", "refusals_named", "words_of"]

TRANSIENT: Final[tuple[type[BaseException], ...]] = (
    CommitStateUnknownException,
    InterfaceError,
    OperationalError,
    PoolTimeoutError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    WaitingForLockException,
)
"""What Iceberg's clients wrap transient faults in, beside `OSError` (which `requests` and Arrow use)."""

_REFUSED: Final = (ForbiddenError, OAuthError, UnauthorizedError)
_REFUSAL: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied|role .* does not exist"
)
"""How PostgreSQL refuses a login or a right; a login that failed bears no error code to go by."""
_NO_DATABASE: Final = re.compile(r"database .* does not exist")
_UNREACHABLE: Final[tuple[type[BaseException], ...]] = (OSError, RESTError, *TRANSIENT)
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


def fault_of(catalog: str, address: str, error: Exception) -> K2Error | None:
    """Return the error of ours that a fault at opening a catalog stands for; None where it is none of them."""
    if _is_refusal(error):
        return _refused(catalog, error)
    if isinstance(error, _UNREACHABLE) and not _NO_DATABASE.search(str(error)):
        return UnreachableError(f"catalog {catalog!r} at {address} cannot be reached: {words_of(error)}")
    if isinstance(error, (*_UNREACHABLE, *_MISCONFIGURED)):
        return SettingsError(f"catalog {catalog!r} is configured badly: {words_of(error)}")
    return None


@contextmanager
def refusals_named(catalog: str) -> Iterator[None]:
    """Say what a catalog does not allow as an error of ours, also where it opened and refuses a table.

    Raises:
        SettingsError: the credentials are not good for what was asked.
    """
    try:
        yield
    except Exception as error:
        if _is_refusal(error):
            raise _refused(catalog, error) from error
        raise


def address_in(configuration: Mapping[str, Any]) -> str:
    """Return where a catalog is, without the password that its URI may bear."""
    uri = str(configuration.get("uri", "an address that is not named"))
    return (urlsplit(uri).netloc or uri).rpartition("@")[2]


def words_of(error: Exception) -> str:
    """Return what an error says on one line, without what SQLAlchemy adds and with what PyIceberg leaves out."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    if isinstance(error, NotInstalledError) and error.__cause__ is not None:
        said = f"{error.__cause__}: {said}"
    return " ".join(said.split())


def _refused(catalog: str, error: Exception) -> SettingsError:
    return SettingsError(f"catalog {catalog!r} refuses the credentials it was given: {words_of(error)}")


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, _REFUSED) or (isinstance(error, DBAPIError) and bool(_REFUSAL.search(str(error.orig))))

"""Who may ask: who has a key, or, where there are none, this machine alone."""

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from k2.http.problems import problem
from k2.http.static import PAGE_PATHS
from k2.model.errors import SettingsError
from k2.ops.settings import Settings

__all__ = ["OPEN_PATHS", "ApiKeyMiddleware", "LoopbackHostMiddleware", "check_host", "is_loopback"]

OPEN_PATHS: Final = frozenset({"/healthz"}) | PAGE_PATHS
"""What is answered without a key."""
_BEARER: Final = b"bearer"
_HOST: Final = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::\d*)?")
_BASIC: Final = b"basic"


class ApiKeyMiddleware:
    """Lets through who has one of the keys, as `Authorization: Bearer KEY` or `X-API-Key: KEY`, and no wrong one."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        """Stand before an application."""
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or go on."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._is_known(scope):
            refusal = problem(
                HTTPStatus.UNAUTHORIZED,
                "a key is asked for: Authorization: Bearer KEY, or X-API-Key: KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        # Every key is compared with every one given, so that time tells nothing of either.
        given = [sum(hmac.compare_digest(one, key) for key in self._keys) > 0 for one in _given(scope["headers"])]
        return bool(given) and all(given)


def _given(headers: Sequence[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for name, value in headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            # That of a proxy before the server is none of its own.
            if scheme.lower() != _BASIC:
                yield credentials.strip() if scheme.lower() == _BEARER else b""


class LoopbackHostMiddleware:
    """Lets through what is addressed to this machine by a loopback name.

    A web page elsewhere may have its own name point to 127.0.0.1 (DNS rebinding), and would read the answers; its
    requests have that name.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421, or go on."""
        if scope["type"] == "http" and not _is_local(scope["headers"]):
            refusal = problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "without keys this machine alone is served, under a name such as 127.0.0.1 or localhost",
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_local(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return len(hosts) == 1 and is_loopback(_name_of(hosts[0]))


def _name_of(host: str) -> str:
    """Leave the port away, and the brackets of an address that has colons of its own; what is no host has no name."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found["address"] or found["name"]


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, as nobody else can reach it.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(settings: Settings, host: str) -> None:
    """Refuse to serve other machines without keys.

    Raises:
        SettingsError: there are none, and other machines could reach the host.
    """
    if not settings.api_keys and not is_loopback(host):
        raise SettingsError(
            f"--host {host}: other machines could ask without a key; set K2_API_KEYS, or choose a --host such as "
            "127.0.0.1"
        )

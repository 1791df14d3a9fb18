"""Access control: API keys, or loopback only if no key is configured."""

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
"""Paths that require no key."""
_BEARER: Final = b"bearer"
_HOST: Final = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::\d*)?")
_BASIC: Final = b"basic"


class ApiKeyMiddleware:
    """Requires a valid key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`; any invalid key is rejected."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        """Wrap an application."""
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 401, or pass the request on."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._is_authorized(scope):
            refusal = problem(
                HTTPStatus.UNAUTHORIZED,
                "missing or invalid key; send one as Authorization: Bearer KEY, or X-API-Key: KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_authorized(self, scope: Scope) -> bool:
        # Each key is compared with each one given, so that response times reveal nothing of either.
        matches = [sum(hmac.compare_digest(one, key) for key in self._keys) > 0 for one in _keys_in(scope["headers"])]
        return bool(matches) and all(matches)


def _keys_in(headers: Sequence[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for name, value in headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            # Basic credentials belong to a proxy in front of the server.
            if scheme.lower() != _BASIC:
                yield credentials.strip() if scheme.lower() == _BEARER else b""


class LoopbackHostMiddleware:
    """Rejects requests whose Host header is not a loopback name.

    A web page elsewhere can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then read the responses;
    its requests have that name as Host.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 421, or pass the request on."""
        if scope["type"] == "http" and not _is_local(scope["headers"]):
            refusal = problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "Host is not a loopback name; without K2_API_KEYS use a name such as 127.0.0.1 or localhost",
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_local(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    return len(hosts) == 1 and is_loopback(_name_of(hosts[0]))


def _name_of(host: str) -> str:
    """Return a host without port and brackets; an invalid host becomes an empty name."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found["address"] or found["name"]


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback name or address, which no other machine can reach.

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
    """Raise if other machines could reach the server without a key.

    Raises:
        SettingsError: no key is configured, and the host is not loopback.
    """
    if not settings.api_keys and not is_loopback(host):
        raise SettingsError(
            f"--host {host}: other machines could send requests without a key; set K2_API_KEYS, or choose a --host "
            "such as 127.0.0.1"
        )

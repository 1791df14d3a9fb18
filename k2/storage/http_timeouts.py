"""A timeout for every HTTP call of the process, also for those that PyIceberg makes outside its own sessions."""

from typing import Any, Final

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

__all__ = ["limit_http_timeouts"]

_send: Final = HTTPAdapter.send


def limit_http_timeouts(seconds: float) -> None:
    """Apply a timeout to every call that sets none."""

    # Patched here and not set on a session, because PyIceberg creates its own sessions to request tokens.
    def send(self: HTTPAdapter, request: PreparedRequest, *, timeout: Any = None, **options: Any) -> Response:
        return _send(self, request, timeout=seconds if timeout is None else timeout, **options)

    HTTPAdapter.send = send  # type: ignore[method-assign,assignment]

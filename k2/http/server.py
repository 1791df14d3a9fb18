"""The HTTP server: a listening socket, uvicorn, and a graceful shutdown."""

import signal
import socket
import sys
import threading
from typing import Final, NoReturn

import uvicorn

from k2.http.access import check_host
from k2.http.app import make_app
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.query.pool import Pool

__all__ = ["listen", "serve", "take_signals", "url_of"]

CONNECTIONS_MAX: Final = 2_000
END_SECONDS_MAX: Final = 5
"""Time that responses in progress have after a shutdown is requested."""
_ended: Final = threading.Event()
"""Set by a signal that no server has taken."""


def listen(settings: Settings, host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 selects a free port.

    Raises:
        SettingsError: the address is in use or not one of this machine, or others could reach it without a key.
    """
    check_host(settings, host)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(
            f"--host {host} --port {port}: cannot listen on this address: {why}; choose another one"
        ) from None


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def take_signals() -> None:
    """Make SIGTERM and Ctrl-C exit the process with 0; while the server runs it handles them, then re-raises them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(*_: object) -> NoReturn:
    # Python ignores the exit if the signal comes while it destroys an object; the server then ends once it runs.
    _ended.set()
    sys.exit()


class _Server(uvicorn.Server):
    """A server that also ends for a signal that came before it took the signals."""

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end."""
        return await super().on_tick(counter) or _ended.is_set()


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve the API until SIGTERM or Ctrl-C; `take_signals` defines what they do afterwards.

    Raises:
        SettingsError: the memory limit is not valid for DuckDB.
    """
    with Pool(settings) as pool:
        server_of(pool).run([listener])


def server_of(pool: Pool) -> uvicorn.Server:
    """Return the server; it logs through the root logger and sends no `Server` header."""
    return _Server(
        uvicorn.Config(
            make_app(pool),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=END_SECONDS_MAX,
        )
    )

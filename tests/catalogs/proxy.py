"""A proxy in front of a catalog that applies faults of networks and gateways to chosen commits."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

Answer = int | Literal["reset", "silence", "half", "late"]
"""What the client gets: an HTTP status, a connection reset, nothing at all, half of the true response, or nothing until
it has stopped waiting, and the commit is only then forwarded."""

LINGER_NONE: Final = struct.pack("ii", 1, 0)
"""Makes `close` send a TCP reset."""
SECONDS_MAX: Final = 60.0


@dataclass(frozen=True)
class Fault:
    """What happens to one commit."""

    lands: bool
    """Whether it is forwarded, so that the catalog applies it."""
    answer: Answer


class Proxy:
    """Forwards all traffic, but applies the planned faults to commits; listens on a loopback port chosen by the system.

    A subclass knows the protocol: which message is a commit, and how it is answered.
    """

    def __init__(self, port: int, handler: type[socketserver.BaseRequestHandler]) -> None:
        self.upstream: Final = ("127.0.0.1", port)
        self.commits = 0
        """How many commits have arrived."""
        self.is_away = False
        """Whether every connection is reset, as if the catalog were down."""
        self.given_up = 0
        """How many commits the client has stopped waiting for."""
        self._faults: Iterator[Fault | None] = iter(())
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.proxy = self

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._server.server_address[1])

    def plan(self, faults: Iterable[Fault | None]) -> None:
        """Set the faults of the next commits in their order; a commit whose entry is None, and all later ones, pass."""
        self._faults = iter(faults)

    def fault(self) -> Fault | None:
        """Return the fault of the commit that has arrived."""
        with self._lock:
            self.commits += 1
            return next(self._faults, None)

    def until_given_up(self, client: socket.socket) -> None:
        """Wait until the client has closed the connection, and count it."""
        client.settimeout(SECONDS_MAX)
        with suppress(ConnectionError):
            while client.recv(65_536):
                pass
        self.given_up += 1

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    proxy: Proxy

    def shutdown_request(self, request: Any) -> None:
        """Only close, because a shutdown would send an orderly end before the reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: the proxy breaks connections on purpose."""


def tear(client: socket.socket) -> None:
    """Make the connection end with a reset when it is closed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)

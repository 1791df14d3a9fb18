"""Connections to the other processes of the cluster: their hosts are looked up, and silent ones are given up.

Without a limit, a process waits for a host that lost its network or its power for as long as the system tries to send,
about 15 minutes, and for ever if nothing is being sent.
"""

import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from k2.ops.retry import retried

__all__ = ["check_hosts", "limit_silence"]

_DESCRIPTORS: Final = Path("/proc/self/fd")
_PROBES: Final = 4
"""Probes within the limit, on a connection on which nothing is sent."""


def check_hosts(addresses: Sequence[str]) -> None:
    """Look up the hosts of all processes (HOST:PORT), which Bytewax does only once, as it starts.

    Raises:
        UnreachableError: one has no address, also after retries.
    """
    for number, address in enumerate(addresses):
        host = address.rpartition(":")[0]
        retried(f"looking up the host {host!r} of process {number}", partial(_endpoints, address))


def limit_silence(addresses: Sequence[str], process: int, seconds_max: int) -> int:
    """Fail each connection to a peer whose host has not answered for `seconds_max`; return the number of connections.

    The limit is set by TCP keepalive and TCP_USER_TIMEOUT. `addresses` are those of all processes (HOST:PORT), of which
    this is number `process`. Bytewax opens the connections itself, so they are looked for among the open sockets of
    this process. A failed connection ends the process, as the end of a peer does. The host of a frozen peer answers, so
    that is noticed only once data for it piles up. Only Linux has such a limit; elsewhere this does nothing.
    """
    if not _DESCRIPTORS.is_dir():
        return 0
    peers: set[tuple[str, int]] = set()
    for number, address in enumerate(addresses):
        # A host may have no address now.
        with suppress(OSError):
            peers.update(_endpoints(address) if number != process else ())
    own_port = int(addresses[process].rpartition(":")[2])
    count = 0
    for connection in _connections():
        # A peer may have ended by now, and a kernel may lack an option: then the system's own limits apply.
        with connection, suppress(OSError):
            if connection.getsockname()[1] == own_port or connection.getpeername()[:2] in peers:
                _set_timeouts(connection, seconds_max)
                count += 1
    return count


def _endpoints(address: str) -> list[tuple[str, int]]:
    """Return IP address and port of each endpoint that HOST:PORT means."""
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return [(str(endpoint[0]), int(endpoint[1])) for *_, endpoint in found]


def _connections() -> Iterator[socket.socket]:
    """Yield a copy of each connected TCP socket; options that are set on a copy are those of the original."""
    for path in _DESCRIPTORS.iterdir():
        # The descriptor of this very listing is closed by now, and others may be.
        with suppress(OSError):
            descriptor = int(path.name)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            copy = socket.socket(fileno=os.dup(descriptor))
            if copy.family in (socket.AF_INET, socket.AF_INET6) and _is_connected(copy):
                yield copy
            else:
                copy.close()


def _is_connected(one: socket.socket) -> bool:
    if one.type != socket.SOCK_STREAM:
        return False
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def _set_timeouts(connection: socket.socket, seconds_max: int) -> None:
    interval = max(1, seconds_max // _PROBES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds_max * 1000)

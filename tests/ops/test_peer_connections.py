"""Connections to peers are given up when the peer's host no longer answers."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest

from k2.model.errors import UnreachableError
from k2.ops import peer_connections
from k2.ops.child_process import free_port
from k2.ops.peer_connections import check_hosts, limit_silence
from k2.ops.retry import RetryPolicy

SECONDS = 8


@pytest.fixture
def opened(missing: Callable[[str], NoReturn]) -> Iterator[Callable[[], tuple[socket.socket, socket.socket, int]]]:
    """Return a function that opens a connection: its two ends, and the port of the listening one."""
    if not peer_connections._DESCRIPTORS.is_dir():
        missing("Linux: /proc")
    with ExitStack() as stack:

        def connect() -> tuple[socket.socket, socket.socket, int]:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = listener.getsockname()[1]
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            return client, stack.enter_context(listener.accept()[0]), port

        yield connect


Opened = Callable[[], tuple[socket.socket, socket.socket, int]]


def limit_of(connection: socket.socket) -> float:
    """Return the time without an answer after which a connection fails, in seconds; 0 for the system's own."""
    is_kept = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    limit_ms = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    probed = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= SECONDS
    assert bool(is_kept) == bool(limit_ms) == probed
    return limit_ms / 1000


def test_connections_to_peers_are_limited(opened: Opened) -> None:
    """Those that this process opened, and those that peers opened to its own port."""
    client, accepted, port = opened()
    assert limit_silence([f"localhost:{port}", f"localhost:{free_port()}"], 1, SECONDS) == 1
    assert (limit_of(client), limit_of(accepted)) == (SECONDS, 0)
    assert limit_silence([f"localhost:{port}", f"localhost:{free_port()}"], 0, SECONDS) == 1
    assert limit_of(accepted) == SECONDS


def test_other_connections_are_left_alone(opened: Opened) -> None:
    """Such as those to a broker, to a host that is not known, and listening sockets."""
    client, accepted, _ = opened()
    addresses = [f"127.0.0.1:{free_port()}", f"nowhere.invalid:{free_port()}"]
    assert limit_silence(addresses, 0, SECONDS) == 0
    assert (limit_of(client), limit_of(accepted)) == (0, 0)


def test_a_host_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up again for a while, since the name of a pod appears after its start."""
    monkeypatch.setattr(RetryPolicy, "wait_seconds", lambda *_: 0)
    check_hosts(["127.0.0.1:2101", "[::1]:2101", "localhost:2102"])
    looked_up = list[str]()

    def unknown(host: str, *_: object, **__: object) -> NoReturn:
        looked_up.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        UnreachableError,
        match=r"looking up the host 'k2-1\.k2' of process 0 failed 4 times, the last with: .*Name or service not known",
    ):
        check_hosts(["k2-1.k2:2101"])
    assert len(looked_up) > 3

"""A proxy in front of PostgreSQL that parses enough of the protocol to recognise a commit to a table.

Messages are as in PostgreSQL's documentation, "Message Formats": a byte for the kind and four for the length; the
first messages of a connection have no byte for the kind.
"""

import socket
import struct
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler
from typing import Final

from tests.catalogs.proxy import SECONDS_MAX, Fault, Proxy, tear

_QUERY: Final = b"Q"
_ENCRYPTION: Final = {80877103, 80877104}
"""SSLRequest and GSSENCRequest: another first message follows them."""
_UPDATE: Final = b"UPDATE iceberg_tables"


class SqlProxy(Proxy):
    """Applies faults to the COMMIT of a transaction that gives a table new metadata."""

    def __init__(self, port: int) -> None:
        super().__init__(port, _Handler)


class _Handler(BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        """Forward one connection until it ends."""
        self._is_muted = False
        self._is_done = threading.Event()
        with socket.create_connection(self._proxy.upstream) as self._upstream:
            threading.Thread(target=self._pass_back, daemon=True).start()
            with suppress(_TornError, OSError):
                self._pass_on()
            # A close alone does not reach PostgreSQL while the other thread reads.
            with suppress(OSError):
                self._upstream.shutdown(socket.SHUT_RDWR)

    @property
    def _proxy(self) -> SqlProxy:
        proxy: SqlProxy = self.server.proxy  # type: ignore[attr-defined]
        return proxy

    def _pass_on(self) -> None:
        if self._proxy.is_away:
            self._tear()
        while struct.unpack("!I", self._take(b"")[4:8])[0] in _ENCRYPTION:
            pass
        is_update = False
        while True:
            kind = self._read(1)
            message = self._take(kind, send=kind != _QUERY)
            if kind == _QUERY:
                is_commit = is_update and message[5:].startswith(b"COMMIT")
                is_update = _UPDATE in message
                if is_commit and (fault := self._proxy.fault()):
                    self._treat(fault, message)
                if self._proxy.is_away:
                    self._tear()
                self._upstream.sendall(message)

    def _treat(self, fault: Fault, message: bytes) -> None:
        self._is_muted = True
        if fault.answer == "late":
            self._proxy.until_given_up(self.request)
        if fault.lands:
            self._upstream.sendall(message)
            self._is_done.wait(SECONDS_MAX)
        if fault.answer == "silence":
            self._proxy.until_given_up(self.request)
        self._tear()

    def _take(self, kind: bytes, *, send: bool = True) -> bytes:
        size = self._read(4)
        message = kind + size + self._read(struct.unpack("!I", size)[0] - 4)
        if send:
            self._upstream.sendall(message)
        return message

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise _TornError
            data += part
        return data

    def _pass_back(self) -> None:
        with suppress(OSError):
            while data := self._upstream.recv(65_536):
                if self._is_muted:
                    self._is_done.set()
                else:
                    self.request.sendall(data)
            if not self._is_muted:
                self.request.shutdown(socket.SHUT_RDWR)

    def _tear(self) -> None:
        tear(self.request)
        raise _TornError


class _TornError(Exception):
    """This connection has ended."""

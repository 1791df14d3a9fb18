"""A proxy in front of an Iceberg REST catalog."""

import http.client
import json
import re
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from tests.catalogs.proxy import SECONDS_MAX, Fault, Proxy, tear

_COMMIT: Final = re.compile(r".*/tables/trades")
_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class HttpProxy(Proxy):
    """Applies faults to commits of tables called `trades`; may require a token, and forbid reading tables."""

    def __init__(self, port: int, token: str | None = None, *, forbids_tables: bool = False) -> None:
        super().__init__(port, _Handler)
        self.token = token
        self.forbids_tables = forbids_tables


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Handle a request of any method."""
        proxy = self._proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if proxy.is_away:
            self._tear()
        elif proxy.token and self.headers.get("Authorization") != f"Bearer {proxy.token}":
            self._refuse(HTTPStatus.UNAUTHORIZED, "NotAuthorizedException", "the token is not good")
        elif proxy.forbids_tables and "/tables" in self.path:
            self._refuse(HTTPStatus.FORBIDDEN, "ForbiddenException", "not a table of yours")
        elif self.command == "POST" and _COMMIT.fullmatch(self.path) and (fault := proxy.fault()):
            self._treat(fault, body)
        else:
            self._answer(*self._forward(body))

    do_DELETE = do_HEAD = do_POST = do_GET  # noqa: N815  the names that http.server looks for

    @property
    def _proxy(self) -> HttpProxy:
        proxy: HttpProxy = self.server.proxy  # type: ignore[attr-defined]
        return proxy

    def _treat(self, fault: Fault, body: bytes) -> None:
        if fault.answer == "late":
            self._proxy.until_given_up(self.connection)
        status, headers, content = self._forward(body) if fault.lands else (HTTPStatus.OK, [], b"{}")
        match fault.answer:
            case "half":
                self._answer(status, headers, content, stop=len(content) // 2)
                self._tear()
            case "silence":
                self._proxy.until_given_up(self.connection)
                self._tear()
            case HTTPStatus.CONFLICT | HTTPStatus.INTERNAL_SERVER_ERROR as code:
                self._refuse(code, "CommitFailedException", "as planned")
            case int(code):
                self._answer(code, [("Content-Type", "text/html")], b"<html>the gateway's own page</html>")
            case _:
                self._tear()

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        with closing(http.client.HTTPConnection(*self._proxy.upstream, timeout=SECONDS_MAX)) as upstream:
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _refuse(self, code: int, kind: str, message: str) -> None:
        error = {"error": {"message": message, "type": kind, "code": code}}
        self._answer(code, [("Content-Type", "application/json")], json.dumps(error).encode())

    def _answer(self, code: int, headers: list[tuple[str, str]], content: bytes, stop: int | None = None) -> None:
        self.send_response(code)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:stop])

    def _tear(self) -> None:
        self.close_connection = True
        tear(self.connection)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

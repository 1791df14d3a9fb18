"""HTTP server for probes and scrapes, which arrive every few seconds: a thread for each, and no log lines."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["Application", "respond_json", "serve", "serve_while_down"]

Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietRequestHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Do not log."""


def serve(application: Application, host: str, port: int, name: str) -> WSGIServer:
    """Serve an application from a daemon thread; return the server.

    Raises:
        OSError: the port is in use, or the address is not an address of this machine.
    """
    server = make_server(host, port, application, _Server, _QuietRequestHandler)
    Thread(target=server.serve_forever, args=(0.05,), name=name, daemon=True).start()
    return server


def respond_json(start_response: "StartResponse", status: str, **fields: object) -> list[bytes]:
    """Respond with a status line, and an object of that status and further fields."""
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"status": status[4:], **fields}).encode()]


@contextmanager
def serve_while_down(ended: str, host: str, port: int) -> Iterator[None]:
    """Serve `/healthz` and `/readyz` while the job is down, and its supervisor is about to start it again.

    Alive, because killing the supervisor would not help, but not ready; both say why the job `ended`. `/metrics` is not
    found, so that a scrape fails as long as there is no job. Without a port (0), or if it is in use, nothing is served.
    """

    def respond(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        statuses = {"/healthz": "200 OK", "/readyz": "503 Service Unavailable"}
        status = statuses.get(environ.get("PATH_INFO", "/"), "404 Not Found")
        return respond_json(start_response, status, job="down, to be started again", ended=ended)

    try:
        server = serve(respond, host, port, "restart health") if port else None
    except OSError:
        server = None
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()

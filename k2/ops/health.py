"""Whether the job moves: a time for the last closed epoch, and the pages that tell of it."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from k2.model.errors import SettingsError
from k2.ops.metrics import LAST_EPOCH

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["HEALTH", "Health", "serve_health"]


class Health:
    """Times of the source partitions' last snapshots.

    Bytewax takes one about once an epoch, even when idle, and none at all while a peer process is frozen, so an old
    one is the only sign of that. A process that waits for its peers at the start reads nothing yet, which is told by
    the time since it began.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._alone_since: float | None = clock()
        self._closed: dict[str, float] = {}

    def joined(self) -> None:
        """Note that all processes of the cluster are there."""
        self._alone_since = None

    def opened(self, partition: str) -> None:
        """Note that a partition is read from now on."""
        self._alone_since = None
        self._closed[partition] = self._clock()

    def epoch_closed(self, partition: str) -> None:
        """Note that an epoch has closed for a partition."""
        self._closed[partition] = self._clock()
        LAST_EPOCH.set_to_current_time()

    def finished(self, partition: str) -> None:
        """Note that a partition was read to its end."""
        self._closed.pop(partition, None)

    @property
    def is_ready(self) -> bool:
        """Whether this process reads something."""
        return bool(self._closed)

    def stalled_seconds(self) -> float:
        """Return how long the slowest partition has been without a closed epoch, or the peers have been waited for.

        0 where nothing is read: there may be more processes than partitions.
        """
        since = min(self._closed.values(), default=self._alone_since)
        return 0.0 if since is None else self._clock() - since


HEALTH: Final = Health()
"""This process's."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing: probes come every few seconds."""


def serve_health(health: Health, stall_seconds_max: int, host: str, port: int) -> int:
    """Serve `/metrics`, `/healthz` and `/readyz` from a daemon thread; give the port.

    Raises:
        SettingsError: the port is taken, or the address is not this machine's.
    """
    try:
        server = make_server(host, port, _application(health, stall_seconds_max), _Server, _Quiet)
    except OSError as error:
        raise SettingsError(
            f"K2_METRICS_PORT={port}: cannot listen on {host}: {error.strerror}; choose another, or 0 for none"
        ) from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server.server_port


def _application(
    health: Health, stall_seconds_max: int
) -> Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]:
    metrics = make_wsgi_app()

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        stalled = health.stalled_seconds()
        checks = {"/healthz": stalled <= stall_seconds_max, "/readyz": health.is_ready}
        status = "404 Not Found" if path not in checks else "200 OK" if checks[path] else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({"status": status[4:], "seconds_since_epoch_closed": round(stalled, 1)}).encode()]

    return answer

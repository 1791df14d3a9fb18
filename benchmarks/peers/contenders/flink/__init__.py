"""Flink: a job of its DataStream interface in Java, with its Kafka source and Iceberg's sink."""

from pathlib import Path
from typing import Final

from benchmarks.peers.contender import COMMIT_SECONDS, Ability, Contender, Launch, Task
from benchmarks.peers.contenders.java import JVM, class_path, create_topics, messages_in
from tests.maven import version_in

__all__ = ["CONTENDER", "NAME", "POM"]

HERE: Final = Path(__file__).parent
POM: Final = HERE / "pom.xml"
NAME: Final = "flink-peer"
OPENED: Final = (
    "java.io",
    "java.lang",
    "java.lang.reflect",
    "java.net",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "sun.nio.ch",
)
"""Packages of Java's base module that Flink needs by reflection, as its own configuration opens them."""
LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    # Of each metric of each Kafka client that has the same name as another.
    "-Dorg.slf4j.simpleLogger.log.org.apache.flink.metrics.MetricGroup=error",
)


def _prepare() -> None:
    class_path(HERE, NAME)


def _launch(task: Task) -> Launch:
    create_topics(task, _dead_letter_topic(task))
    opens = [f"--add-opens=java.base/{one}=ALL-UNNAMED" for one in OPENED]
    java = ["java", *JVM, *LOGGING, *opens, "--add-exports=java.base/sun.net.util=ALL-UNNAMED"]
    options = {
        "bootstrap-servers": task.bootstrap_servers,
        "topic": task.topic,
        "dead-letters": _dead_letter_topic(task),
        "warehouse": str(task.warehouse),
        "parallelism.default": "1",
        # Operators of one chain hand on the object itself: none of them keeps it.
        "pipeline.object-reuse": "true",
        # Fail instead of falling back to Kryo, which is several times slower.
        "pipeline.generic-types": "false",
        # No watermarks: nothing here waits for event time.
        "pipeline.auto-watermark-interval": "0 ms",
        # A number and the gaps of each symbol fit the heap; RocksDB would serialize them at each access.
        "state.backend.type": "hashmap",
        "execution.checkpointing.interval": f"{COMMIT_SECONDS} s",
        "execution.checkpointing.dir": (task.folder / "checkpoints").as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "io.tmp.dirs": str(task.folder / "temporary"),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Launch([*java, "-cp", class_path(HERE, NAME), "k2.peers.TradesJob", *arguments])


def _dead_letter_topic(task: Task) -> str:
    return f"dead-letters-{task.folder.name}"


CONTENDER: Final = Contender(
    name="flink",
    title=f"Flink {version_in(POM, 'flink')}, DataStream in Java",
    prepare=_prepare,
    launch=_launch,
    configured="One JVM with a local cluster of parallelism 1; object reuse; messages keyed by Kafka's key before they "
    "are parsed, so that bytes are shuffled instead of rows, then Jackson's streaming parser, state on the heap and "
    f"the IcebergSink of Iceberg {version_in(POM, 'iceberg')} in one chain; checkpoints each 5 s; Hadoop catalog, "
    "tables unpartitioned; dead letters to a topic, at least once.",
    abilities=frozenset(Ability),
    ends_itself=True,
    dead_letters=lambda task: messages_in(task, _dead_letter_topic(task)),
)

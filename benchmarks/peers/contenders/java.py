"""What contenders in Java share: jars by Maven, their own few classes, compiled once, and topics of dead letters."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.peers.contender import Task
from benchmarks.process import FOLDER
from tests.maven import jars_of, run

__all__ = ["JVM", "class_path", "create_topics", "messages_in"]

COMPILE_SECONDS_MAX: Final = 120.0
TOPIC_SECONDS_MAX: Final = 30.0
RELEASE: Final = "17"
JVM: Final = ("-Xms1g", "-Xmx1g", "-XX:+UseSerialGC")
"""On one core the serial collector takes the least CPU; the heap is several times what is alive."""


def class_path(folder: Path, name: str) -> str:
    """Return the class path of a contender: its own classes and resources, and the jars that its pom requires.

    Args:
        folder: holds `pom.xml` and `src/main`.
        name: the pom has its version in the property `NAME.version`.

    Raises:
        NotToBeHadError: Java, its compiler or Maven is absent, or Maven cannot bring the jars.
    """
    jars = jars_of(folder / "pom.xml", name)
    sources = sorted((folder / "src" / "main" / "java").rglob("*.java"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [folder / "pom.xml", *sources])).hexdigest()[:16]
    classes = FOLDER / ".cache" / "peers" / name / digest
    if not classes.is_dir():
        classes.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place, because another run may compile at the same time, or be interrupted.
        with tempfile.TemporaryDirectory(dir=classes.parent) as temporary:
            built = Path(temporary) / "classes"
            resources = folder / "src" / "main" / "resources"
            if resources.is_dir():
                shutil.copytree(resources, built)
            compiler = ["javac", "--release", RELEASE, "-nowarn", "-d", str(built), "-cp", f"{jars}/*"]
            run([*compiler, *map(str, sources)], seconds_max=COMPILE_SECONDS_MAX)
            if not classes.is_dir():
                built.rename(classes)
    return f"{classes}:{jars}/*"


def create_topics(task: Task, *names: str) -> None:
    """Create topics of one partition; those that are there are left as they are."""
    # The client must live until it has answered.
    admin = AdminClient({"bootstrap.servers": task.bootstrap_servers, "log_level": 0})
    known = admin.list_topics(timeout=TOPIC_SECONDS_MAX).topics
    new = [NewTopic(name, 1, 1) for name in names if name not in known]
    for future in admin.create_topics(new).values() if new else ():
        future.result(TOPIC_SECONDS_MAX)


def messages_in(task: Task, name: str) -> int:
    """Return the number of messages of a topic of one partition, written without transactions."""
    consumer = Consumer({"bootstrap.servers": task.bootstrap_servers, "group.id": "peers", "log_level": 0})
    low, high = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=TOPIC_SECONDS_MAX)
    consumer.close()
    return high - low

"""Spark Structured Streaming with its Kafka source and Iceberg's sink: as it is, and with duplicates dropped."""

from pathlib import Path
from typing import Final

from benchmarks.peers.contender import Ability, Contender, Launch, Task
from benchmarks.peers.pins import pinned_version
from benchmarks.process import FOLDER
from tests.environments import environment
from tests.maven import jars_of

__all__ = ["DEDUPLICATING", "PLAIN"]

POM: Final = Path(__file__).parent / "pom.xml"
PINS: Final = FOLDER / "requirements" / "peers-spark.txt"
PROGRAM: Final = Path(__file__).parent / "program.py"
VERSION: Final = pinned_version(PINS, "pyspark")
CONFIGURED: Final = (
    "local[1]; trigger availableNow without a limit of records, so that a backlog is one micro-batch and one commit, "
    "which is its cheapest; from_json with a schema; Hadoop catalog, table unpartitioned, no shuffle before the write"
)


def _prepare() -> None:
    environment(PINS)
    jars_of(POM, "spark-peer")


def _launch(task: Task, *options: str) -> Launch:
    jars = ",".join(sorted(str(jar) for jar in jars_of(POM, "spark-peer").glob("*.jar")))
    command = [str(environment(PINS)), str(PROGRAM), task.bootstrap_servers, task.topic, str(task.folder), jars]
    return Launch([*command, *options], {"SPARK_LOCAL_IP": "127.0.0.1"})


PLAIN: Final = Contender(
    name="spark",
    title=f"Spark {VERSION}, Structured Streaming",
    prepare=_prepare,
    launch=_launch,
    configured=f"{CONFIGURED}.",
    abilities=frozenset({Ability.EXACTLY_ONCE}),
    ends_itself=True,
)
DEDUPLICATING: Final = Contender(
    name="spark-deduplicating",
    title=f"Spark {VERSION}, dropping duplicates",
    prepare=_prepare,
    launch=lambda task: _launch(task, "--deduplicate"),
    configured=f"{CONFIGURED}; dropDuplicatesWithinWatermark of 10 minutes, its state in RocksDB, one "
    "shuffle partition.",
    abilities=frozenset({Ability.EXACTLY_ONCE, Ability.DEDUPLICATION}),
    ends_itself=True,
)

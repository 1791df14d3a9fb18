"""Kafka Connect: a standalone worker with Iceberg's sink, and one transformation of its own."""

import json
from pathlib import Path
from typing import Final

from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import DecimalType, LongType, NestedField, StringType, TimestamptzType

from benchmarks.peers.contender import COMMIT_SECONDS, TABLE, Ability, Contender, Launch, Task
from benchmarks.peers.contenders.java import JVM, class_path, create_topics, messages_in
from k2.ops.child_process import free_port
from tests.maven import version_in

__all__ = ["CONTENDER", "NAME", "POM", "create_table"]

HERE: Final = Path(__file__).parent
POM: Final = HERE / "pom.xml"
NAME: Final = "connect-peer"
NAMESPACE: Final = "market_data"
SCHEMA: Final = Schema(
    NestedField(1, "exchange", StringType(), required=True),
    NestedField(2, "symbol", StringType(), required=True),
    NestedField(3, "trade_id", StringType(), required=True),
    NestedField(4, "sequence", LongType(), required=True),
    NestedField(5, "price", DecimalType(38, 18), required=True),
    NestedField(6, "quantity", DecimalType(38, 18), required=True),
    NestedField(7, "side", StringType(), required=False),
    NestedField(8, "timestamp", TimestamptzType(), required=True),
    NestedField(9, "received", TimestamptzType(), required=False),
)


def _prepare() -> None:
    class_path(HERE, NAME)


def _launch(task: Task) -> Launch:
    create_topics(task, _topic(task, "dead-letters"), _topic(task, "control"))
    create_table(task)
    worker, connector = task.folder / "worker.properties", task.folder / "connector.json"
    logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    java = ["java", *JVM, logging, "-cp", class_path(HERE, NAME), "org.apache.kafka.connect.cli.ConnectStandalone"]
    files = {
        worker.name: "".join(f"{name}={value}\n" for name, value in _worker(task).items()),
        connector.name: json.dumps({"name": task.folder.name, "config": _connector(task)}, indent=1),
    }
    return Launch([*java, str(worker), str(connector)], files=files)


def _worker(task: Task) -> dict[str, str]:
    return {
        "bootstrap.servers": task.bootstrap_servers,
        "listeners": f"HTTP://127.0.0.1:{free_port()}",
        "offset.storage.file.filename": str(task.folder / "offsets"),
        # Everything is on the class path, and says what it is: nothing is searched for at the start.
        "plugin.discovery": "service_load",
        # The key is in the value as well; its bytes go on as they are.
        "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "consumer.isolation.level": "read_committed",
        # The sink looks at its control topic after each batch: large ones are cheaper than many.
        "consumer.max.poll.records": "10000",
        "consumer.fetch.max.bytes": str(64 << 20),
        "consumer.max.partition.fetch.bytes": str(4 << 20),
    }


def _connector(task: Task) -> dict[str, str]:
    return {
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": "1",
        "topics": task.topic,
        "transforms": "typed",
        "transforms.typed.type": "k2.peers.TypedTrade",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": _topic(task, "dead-letters"),
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
        "iceberg.tables": f"{NAMESPACE}.{TABLE}",
        "iceberg.catalog.type": "hadoop",
        "iceberg.catalog.warehouse": str(task.warehouse),
        "iceberg.control.topic": _topic(task, "control"),
        "iceberg.control.commit.interval-ms": str(COMMIT_SECONDS * 1_000),
    }


def create_table(task: Task) -> None:
    """Create the table as Hadoop's catalog has it; the sink would make decimals of the first trade's scale."""
    folder = task.warehouse / NAMESPACE / TABLE
    (folder / "metadata").mkdir(parents=True)
    properties = {"write.parquet.compression-codec": "zstd", "write.parquet.dict-size-bytes": "65536"}
    metadata = new_table_metadata(
        SCHEMA, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, str(folder), {"format-version": "2", **properties}
    )
    (folder / "metadata" / "v1.metadata.json").write_text(metadata.model_dump_json(exclude_none=True), encoding="utf-8")
    (folder / "metadata" / "version-hint.text").write_text("1", encoding="utf-8")


def _topic(task: Task, use: str) -> str:
    return f"{use}-{task.folder.name}"


CONTENDER: Final = Contender(
    name="connect",
    title=f"Kafka Connect {version_in(POM, 'connect')}, Iceberg sink {version_in(POM, 'iceberg')}",
    prepare=_prepare,
    launch=_launch,
    configured="A standalone worker with one task; JsonConverter without schemas; a small transformation that "
    "checks the trade and gives its fields the columns' types, which errors.tolerance=all needs to find what is "
    "malformed; a commit each 5 s; Hadoop catalog, table unpartitioned.",
    abilities=frozenset({Ability.DEAD_LETTERS, Ability.EXACTLY_ONCE}),
    dead_letters=lambda task: messages_in(task, _topic(task, "dead-letters")),
)

"""Wrong settings, missing parts and odd messages: each has a defined outcome, reported in one sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from k2.kafka.producer import TradeProducer
from k2.ops.child_process import free_port
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from k2.storage.catalog_register import register_tables
from tests.brokers import Broker
from tests.flows.job import ROOT, Job


def _rejected(job: Job, code: int, words: str, **options: Any) -> None:
    """Run; check the exit code and that one sentence says what is wrong, without a traceback."""
    found, said = job.outcome(recovery=False, **options)
    assert found == code, said
    assert words in said
    assert "Traceback" not in said


def test_wrong_settings_are_rejected(broker: Broker, tmp_path: Path) -> None:
    """Exit code 2, before anything is changed."""
    _rejected(
        Job(broker.bootstrap_servers, tmp_path, "trades", {"K2_WRITER": "2"}),
        2,
        "K2_WRITER is not a setting of this job; did you mean K2_WRITERS?",
    )
    assert not (tmp_path / "data").exists()


def test_a_wrong_name_of_the_flow_is_one_sentence() -> None:
    """Exit code 2, with the right name; Bytewax itself prints a traceback."""
    command = [sys.executable, "-m", "bytewax.run", "flows.trade"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "k2: there is no flow flows.trade; run flows.trades\n"


def test_a_missing_broker_is_named(tmp_path: Path) -> None:
    """Exit code 3, with the address."""
    address = f"127.0.0.1:{free_port()}"
    _rejected(Job(address, tmp_path, "trades"), 3, f"no Kafka broker answers at {address}")


def test_an_unknown_topic_is_named(broker: Broker, tmp_path: Path) -> None:
    """Exit code 2: the job does not create the topic."""
    _rejected(Job(broker.bootstrap_servers, tmp_path, "no.such.topic"), 2, "topic 'no.such.topic' does not exist")


def test_an_unwritable_folder_is_named(broker: Broker, tmp_path: Path) -> None:
    """Exit code 2, with the folder."""
    (tmp_path / "data").write_text("a file where a folder is wanted")
    topic = broker.topic(partitions=1)
    _rejected(Job(broker.bootstrap_servers, tmp_path, topic), 2, str(tmp_path / "data"))


def test_an_unwritable_dead_letter_folder_is_named(broker: Broker, tmp_path: Path) -> None:
    """Exit code 2, before a message is read."""
    (tmp_path / "letters").write_text("a file where a folder is wanted")
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic, {"K2_DLQ_DIR": str(tmp_path / "letters")})
    _rejected(job, 2, str(tmp_path / "letters"))


def test_a_foreign_table_is_rejected(broker: Broker, tmp_path: Path) -> None:
    """A table of the same name with other columns is not written to."""
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    catalog = open_catalog(job.settings)
    catalog.create_namespace("market_data")
    catalog.create_table("market_data.trades", Schema(NestedField(1, "x", LongType(), required=False)))
    _rejected(job, 1, "market_data.trades")


def test_a_lost_catalog_is_brought_back(broker: Broker, tmp_path: Path) -> None:
    """Exit code 1, and nothing is read again; with the tables registered, the job continues where it was."""
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)

    def publish(first: int, last: int) -> None:
        with TradeProducer(job.settings, topic) as producer:
            for sequence in range(first, last + 1):
                producer.send(None, _with(sequence=sequence))

    publish(1, 10)
    job.run()
    for suffix in ("", "-wal", "-shm"):
        (job.settings.data_dir / f"catalog.db{suffix}").unlink(missing_ok=True)
    files = sorted(job.settings.data_dir.rglob("*.parquet"))
    code, said = job.outcome()
    assert (code, "catalog.db is gone, but" in said, "`k2 catalog register`" in said) == (1, True, True)
    _rejected(job, 1, "catalog.db is gone, but")
    assert sorted(job.settings.data_dir.rglob("*.parquet")) == files
    register_tables(job.settings)
    publish(11, 20)
    job.run()
    assert sorted(job.table()["sequence"].to_pylist()) == [*range(1, 21)]
    (row,) = reconcile(job.settings)
    assert (row.received, row.stored, row.holds) == (20, 20, True)


def test_another_number_of_writers_is_rejected(broker: Broker, tmp_path: Path) -> None:
    """`K2_WRITERS` is fixed when the table is created."""
    topic = broker.topic(partitions=1)
    Job(broker.bootstrap_servers, tmp_path, topic).run(recovery=False)
    _rejected(Job(broker.bootstrap_servers, tmp_path, topic, {"K2_WRITERS": "2"}), 2, "K2_WRITERS")


def test_a_taken_metrics_port_is_named(broker: Broker, tmp_path: Path) -> None:
    """Exit code 2, with the port."""
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        topic = broker.topic(partitions=1)
        _rejected(
            Job(broker.bootstrap_servers, tmp_path, topic, {"K2_METRICS_PORT": port}),
            2,
            f"K2_METRICS_PORT={port}",
        )


GOOD: Final = {
    "exchange": "x",
    "symbol": "S",
    "sequence": 1,
    "price": "1.5",
    "quantity": "2",
    "timestamp": 1_700_000_000_000_000,
}


def _with(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


OUTCOMES: Final[list[tuple[bytes | None, str | None, str]]] = [
    (_with(), None, ""),
    (None, "malformed", "null (a tombstone)"),
    (b"", "malformed", ""),
    (b"{", "malformed", ""),
    (b"[]", "malformed", ""),
    (b'"text"', "malformed", ""),
    (b"\xff\xfe{}", "malformed", ""),
    (_with(sequence=2) + b"}", "malformed", ""),
    (b'{"a":' * 100_000, "malformed", ""),
    (_with(price="NaN"), "invalid", "price: not a decimal: 'NaN'"),
    (_with(price="Infinity"), "invalid", "price: not a decimal"),
    (_with(price="abc"), "invalid", "price: not a decimal: 'abc'"),
    (_with(price="1e400"), "invalid", "price: does not fit decimal(38, 18)"),
    (_with(price="0.0000000000000000001"), "invalid", "price: does not fit decimal(38, 18)"),
    (_with(price=None), "invalid", "price"),
    (_with(quantity="-1"), "invalid", "quantity"),
    (_with(quantity="0"), "invalid", "quantity"),
    (_with(quantity=0.0), "invalid", "quantity"),
    (_with(sequence=2**63), "invalid", "sequence"),
    (_with(sequence=-(2**63) - 1), "invalid", "sequence"),
    (_with(sequence=10**30), "invalid", "sequence"),
    (_with(sequence="7"), "invalid", "sequence"),
    (_with(side="hold"), "invalid", "side"),
    (_with(exchange=""), "invalid", "exchange"),
    (_with(symbol=7), "invalid", "symbol"),
    (_with(timestamp=1_700_000_000_000), "invalid", "timestamp"),
    (_with(timestamp=1_700_000_000_000_000_000), "invalid", "timestamp"),
    (_with(timestamp="yesterday"), "invalid", "timestamp"),
    (_with(sequence=2, note="x" * 1_000_000), None, ""),
    (_with(sequence=3, note="x" * 1_048_576), "too_large", ""),
    (_with(exchange="x" * 64), None, ""),
    (_with(exchange="\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 21), None, ""),
    (_with(exchange="x" * 65), "invalid", "exchange: longer than 64 bytes"),
    (_with(symbol="x" * 255), None, ""),
    (_with(symbol="x" * 256), "invalid", "symbol: longer than 255 bytes"),
    (_with(symbol="z" * 15 + "\ud7ff" + "z"), None, ""),
]


def test_odd_messages_have_defined_outcomes(broker: Broker, tmp_path: Path) -> None:
    """Each is stored or becomes a dead letter with its reason, and its neighbours are unaffected."""
    topic = broker.topic(partitions=1, config={"max.message.bytes": "4000000"})
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    with TradeProducer(job.settings, topic, **{"message.max.bytes": 4_000_000}) as producer:
        for value, _, _ in OUTCOMES:
            producer.send(None, value)
    job.run()
    stored = sorted(job.table()["offset"].to_pylist())
    assert stored == [place for place, (_, reason, _) in enumerate(OUTCOMES) if reason is None]
    letters = {letter.offset: letter for letter in job.letters()}
    for place, (value, reason, words) in enumerate(OUTCOMES):
        if reason is not None:
            letter = letters.pop(place)
            assert (letter.reason, letter.value_bytes()) == (reason, value), letter.error
            assert words in letter.error
    assert not letters
    (row,) = reconcile(job.settings)
    assert row.holds

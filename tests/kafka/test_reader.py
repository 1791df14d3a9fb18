"""Both ways of reading return the same batches."""

import math
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import confluent_kafka
import numpy as np
import pytest

from k2.kafka.client import KafkaClient
from k2.kafka.librdkafka import Fetched, load_library
from k2.kafka.reader import ColumnReader, MessageReader, Reader, corrupt_batch, to_batch
from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.errors import OffsetError, UnreachableError
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from tests.brokers import Broker

MESSAGES: list[tuple[bytes | None, bytes | None]] = [
    (b"binance|BTCUSDT", b'{"e":"trade"}'),
    (None, b"no key"),
    (b"key", None),
    (None, None),
    (b"", b""),
    (b"\xff\xfe", b"\x00\xff not text \xc3\x28"),
    (b"large", b"x" * 900_000),
    *((b"key %d" % place, b"value %d" % place * place) for place in range(200)),
]

HEADERS: dict[int, list[tuple[str, str | bytes | None]]] = {
    0: [("trace", b"1"), ("k2-origin", b"person \xc3\xa9"), ("k2-origin", b"person ann")],
    1: [("trace", None)],
    3: [("k2-venue", "k2-fill"), ("k2-index", "2"), ("k2-origin", b"archive \xff" + b"x" * 2_000)],
    9: [("k2-venue", None), ("k2-index", b"-1")],
}


@pytest.fixture
def settings(broker: Broker) -> Settings:
    """Settings for the broker of the tests."""
    return read_settings({}, bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture
def topic(broker: Broker) -> str:
    """A topic with `MESSAGES` in one partition."""
    name = broker.topic(partitions=1)
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers})
    for place, (key, value) in enumerate(MESSAGES):
        producer.produce(name, value, key, timestamp=1_700_000_000_000 + place, headers=HEADERS.get(place))
    assert producer.flush(30) == 0
    return name


def _read(client: KafkaClient, topic: str, reader_class: type) -> MessageBatch:
    """Read a topic's only partition to its end, in one batch."""
    where = TopicPartition(topic, 0)
    reader = client.open(where, 0)
    assert type(reader) is reader_class
    polls: list[Fetched] = []
    deadline = time.monotonic() + 60
    while not (polls and polls[-1].errors[-1]) and time.monotonic() < deadline:
        fetched = reader.poll()
        if fetched is not None:
            polls.append(fetched)
        time.sleep(0.01)
    assert polls[-1].errors[-1]
    reader.close()
    return _joined([to_batch(where, "k2", 0, fetched) for fetched in polls])


def _joined(batches: list[MessageBatch]) -> MessageBatch:
    """Join batches of one partition by way of their plain values."""
    columns = {}
    shifts = np.cumsum([0, *(len(batch.data) for batch in batches)])
    for field in fields(MessageBatch):
        parts = [getattr(batch, field.name) for batch in batches]
        if field.name.endswith("_starts"):
            parts = [part + shift for part, shift in zip(parts, shifts, strict=False)]
        if field.name == "marks":
            firsts = np.cumsum([0, *map(len, batches)]).tolist()
            parts = [
                {first + idx: one for first, part in zip(firsts, parts, strict=False) for idx, one in part.items()}
            ]
        columns[field.name] = np.concatenate(parts) if isinstance(parts[0], np.ndarray) else parts[-1]
    return MessageBatch(**columns)


def test_the_compiled_reader_returns_what_was_published(settings: Settings, topic: str) -> None:
    """Keys, values, nulls, offsets and timestamps are the same byte for byte."""
    assert load_library() is not None
    batch = _read(KafkaClient(settings), topic, ColumnReader)
    assert [(batch.key(place), batch.value(place)) for place in range(len(batch))] == MESSAGES
    assert batch.offsets.tolist() == list(range(len(MESSAGES)))
    assert batch.kafka_timestamps.tolist() == [(1_700_000_000_000 + place) * 1000 for place in range(len(MESSAGES))]
    assert batch.next_offset == len(MESSAGES)
    assert batch.marks == {
        0: MessageMarks("person ann"),
        3: MessageMarks("archive \N{REPLACEMENT CHARACTER}" + "x" * 991, "k2-fill", 2),
        9: MessageMarks(None, None, -1),
    }


def test_both_readers_return_the_same_batch(settings: Settings, topic: str) -> None:
    """A consumer with a Python callback reads by `consume()`, and the batches do not differ."""
    compiled = _read(KafkaClient(settings), topic, ColumnReader)
    plain = _read(KafkaClient(settings, {"error_cb": lambda _: None}), topic, MessageReader)
    for field in fields(MessageBatch):
        left, right = getattr(compiled, field.name), getattr(plain, field.name)
        if field.name not in {"data", "value_starts", "key_starts"}:
            assert np.array_equal(left, right), field.name
    for place in range(len(compiled)):
        assert (compiled.key(place), compiled.value(place)) == (plain.key(place), plain.value(place))


@pytest.mark.parametrize("callbacks", [{}, {"error_cb": lambda _: None}], ids=["compiled", "plain"])
def test_the_lag_is_known_after_a_fetch(settings: Settings, topic: str, callbacks: dict[str, Any]) -> None:
    """It is that of the consumer that reads the partition, and stays known when the reader is closed."""
    client = KafkaClient(settings, callbacks)
    reader = client.open(TopicPartition(topic, 0), 5)
    assert math.isnan(client.lag(reader, 5))
    _first(reader)
    assert client.lag(reader, 5) == len(MESSAGES) - 5
    assert client.lag(reader, len(MESSAGES)) == 0
    reader.close()
    assert client.lag(reader, 5) == len(MESSAGES) - 5


def test_an_offset_beyond_the_end_is_an_error(
    settings: Settings, topic: str, broker: Broker, missing: Callable[[str], None]
) -> None:
    """Librdkafka is configured not to reset, and its error becomes a sentence with topic and partition."""
    if broker.name == "embedded":
        missing("Java and Maven: real Kafka")
    client = KafkaClient(settings)
    where = TopicPartition(topic, 0)
    reader = client.open(where, 1_000_000)
    fetched = _first(reader)
    with pytest.raises(OffsetError, match=f"{topic}:0: offset 1000000 does not exist"):
        to_batch(where, "k2", 1_000_000, fetched)
    reader.close()


def _first(reader: Reader) -> Fetched:
    deadline = time.monotonic() + 60
    while (fetched := reader.poll()) is None:
        assert time.monotonic() < deadline, "nothing is heard"
        time.sleep(0.01)
    return fetched


def _fetched(errors: list[int], offsets: list[int]) -> Fetched:
    count = len(errors)
    return Fetched(
        offsets=np.array(offsets, dtype=np.int64),
        timestamps_ms=np.full(count, -1, dtype=np.int64),
        errors=np.array(errors, dtype=np.int32),
        data=np.empty(0, dtype=np.uint8),
        sizes=np.full(2 * count, -1, dtype=np.int32),
        starts=np.zeros(2 * count, dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("errors", "offsets", "count", "next_offset"),
    [
        ([0, 0], [7, 9], 2, 10),
        ([0, -191], [7, 12], 1, 12),
        ([-191], [5], 0, 5),
        ([-195, 0], [-1001, 6], 1, 7),
        ([-187], [-1001], 0, 5),
    ],
)
def test_events_among_messages_are_handled(errors: list[int], offsets: list[int], count: int, next_offset: int) -> None:
    """The end of a partition widens the range that a batch covers; transient faults are ignored."""
    batch = to_batch(TopicPartition("t", 0), "k2", 5, _fetched(errors, offsets))
    assert (len(batch), batch.next_offset) == (count, next_offset)
    assert batch.first_offset == 5
    assert (batch.kafka_timestamps == NULL_TIME).all()


def test_the_leader_epoch_is_that_of_the_last_message(settings: Settings, topic: str, broker: Broker) -> None:
    """From both readers; brokers that give none are read as well."""
    where = TopicPartition(topic, 0)
    clients = [KafkaClient(settings, callbacks) for callbacks in (None, {"error_cb": lambda _: None})]
    readers = [client.open(where, 0) for client in clients]
    found = [to_batch(where, "k2", 0, _first(reader)).leader_epoch for reader in readers]
    assert found[0] == found[1]
    assert found[0] is not None or not broker.is_kafka
    for reader in readers:
        reader.close()


def _with_texts(errors: list[int], offsets: list[int], texts: list[bytes]) -> Fetched:
    sizes = np.array([len(text) for text in texts] + [-1] * len(texts), dtype=np.int32)
    lengths = np.maximum(sizes, 0).astype(np.int64)
    return _fetched(errors, offsets)._replace(
        data=np.frombuffer(b"".join(texts), dtype=np.uint8), sizes=sizes, starts=np.cumsum(lengths) - lengths
    )


@pytest.mark.parametrize(
    ("errors", "offsets", "values"),
    [([0, 0, -199], [7, 8, 9], [b"7", b"8"]), ([-199], [9], []), ([0, -198, 0, -191], [7, 9, 10, 11], [b"7"])],
)
def test_a_batch_ends_before_a_corrupt_one(errors: list[int], offsets: list[int], values: list[bytes]) -> None:
    """What is before it is read; the error names its offset and the way on, and nothing after it is passed on."""
    texts = [b"CRC differs" if code < 0 else b"%d" % offset for code, offset in zip(errors, offsets, strict=True)]
    fetched = _with_texts(errors, offsets, texts)
    batch = to_batch(TopicPartition("t", 0), "k2", 5, fetched)
    assert [batch.value(message_idx) for message_idx in range(len(batch))] == values
    assert batch.next_offset == (8 + len(values) - 1 if values else 5)
    error = corrupt_batch(TopicPartition("t", 0), 5, fetched)
    assert error is not None
    assert "t:0: the batch at offset 9 is corrupt (CRC differs)" in str(error)
    assert "`k2 recovery skip t:0 --to OFFSET --yes`" in str(error)


def test_marks_are_those_of_their_messages_among_events() -> None:
    """An event takes an index of the poll, but none of the batch; nothing after a corrupt batch counts."""
    marks = {0: MessageMarks("a"), 2: MessageMarks("b"), 4: MessageMarks("c")}
    fetched = _with_texts([0, -195, 0, -199, 0], [7, 8, 8, 9, 10], [b""] * 5)._replace(marks=marks)
    batch = to_batch(TopicPartition("t", 0), "k2", 5, fetched)
    assert (batch.offsets.tolist(), batch.marks) == ([7, 8], {0: MessageMarks("a"), 1: MessageMarks("b")})


def test_a_poll_without_errors_has_no_corrupt_batch() -> None:
    """Neither have the events of any poll."""
    assert corrupt_batch(TopicPartition("t", 0), 5, _fetched([0, -191], [7, 8])) is None


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (-140, b"Partition log truncation detected at offset 9", "t:0: the log was cut below offset 5 while"),
        (-140, b"No epoch found less or equal to offset 9", "the log was cut below offset 5 while"),
        (-139, b"", "the log was cut below offset 5 while"),
        (-140, b"fetch failed due to requested offset not available", "offset 5 does not exist"),
    ],
)
def test_a_lost_offset_is_named(code: int, text: bytes, words: str) -> None:
    """A log that was cut has another sentence than messages that expired."""
    with pytest.raises(OffsetError, match=words):
        to_batch(TopicPartition("t", 0), "k2", 5, _with_texts([code], [-1001], [text]))


def test_a_permanent_fault_is_named() -> None:
    """A deleted topic stops the job with an error that names it."""
    with pytest.raises(UnreachableError, match="t:0 cannot be read"):
        to_batch(TopicPartition("t", 0), "k2", 5, _fetched([3], [-1001]))

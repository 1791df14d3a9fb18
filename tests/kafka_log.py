"""What disks and elections do to a partition's log on disk: a part of it is lost, or a bit of it flips."""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.brokers import Broker, KafkaProcess

_BATCH_PREFIX: Final = struct.Struct(">qi")
"""The head of a record batch: its first offset, and the number of bytes that follow."""
_REBUILT: Final = ("*.index", "*.timeindex", "*.snapshot")
_CHECKPOINTS: Final = ("recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown")


def truncate(broker: Broker, topic: str, offset: int) -> None:
    """Restart real Kafka with partition 0 of a topic cut at an offset, the first one of a batch.

    So it is after a replica that lacked the rest became leader. What is published then has a higher leader epoch.
    """
    segment = _segment(broker, topic)
    broker.stop()
    content = segment.read_bytes()
    segment.write_bytes(content[: next(start for start, first in _batches(content) if first == offset)])
    for path in itertools.chain.from_iterable(segment.parent.glob(pattern) for pattern in _REBUILT):
        path.unlink()
    for name in _CHECKPOINTS:
        (segment.parent.parent / name).unlink(missing_ok=True)
    broker.start()
    broker.wait_for_leaders(topic)


def corrupt(broker: Broker, topic: str, offset: int) -> None:
    """Flip a bit in the last byte of the batch that begins at an offset of partition 0; the broker goes on."""
    segment = _segment(broker, topic)
    content = segment.read_bytes()
    bounds = [*_batches(content), (len(content), -1)]
    end = next(following for (_, first), (following, _) in itertools.pairwise(bounds) if first == offset)
    with segment.open("r+b") as file:
        file.seek(end - 1)
        file.write(bytes([content[end - 1] ^ 1]))


def _segment(broker: Broker, topic: str) -> Path:
    assert isinstance(broker.process, KafkaProcess), "only real Kafka has a log on disk"
    (path,) = (broker.process.log / f"{topic}-0").glob("*.log")
    return path


def _batches(segment: bytes) -> Iterator[tuple[int, int]]:
    """Yield the position and the first offset of each record batch."""
    position = 0
    while position + _BATCH_PREFIX.size <= len(segment):
        offset, size = _BATCH_PREFIX.unpack_from(segment, position)
        # Kafka may allocate the file in advance, filled with zeros.
        if not size:
            return
        yield position, offset
        position += _BATCH_PREFIX.size + size

"""A poll of librdkafka's queue, as `benchmarks.instructions` runs it twice.

It has a process of its own, in which Callgrind counts each thread apart: those of librdkafka run on. Without `--count`
it runs as it is, which compiles the loops.
"""

import argparse
from pathlib import Path
from typing import Final

from benchmarks.callgrind import CallgrindCounter, Counter
from benchmarks.counted_market import INPUTS, MIXED, PARTITION, POLL
from benchmarks.mock_broker import MockBroker
from k2.kafka.reader import to_batch

FEW: Final = 100
"""Messages of the poll before the one that is counted."""


def main() -> None:
    """Poll twice; count the second time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="not used")
    parser.add_argument("--count", action="store_true", help="count instructions, in a process of Callgrind")
    counter = CallgrindCounter() if parser.parse_args().count else Counter()
    batch = INPUTS[MIXED].batches()[0]
    values = [value for message_idx in range(len(batch)) if (value := batch.value(message_idx)) is not None]
    broker = MockBroker()
    broker.publish(values[:FEW])
    assert _poll(broker) == FEW
    broker.publish(values)
    counter.begin()
    count = _poll(broker)
    counter.end(POLL)
    assert count == len(values)
    broker.close()


def _poll(broker: MockBroker) -> int:
    fetched = broker.queue.poll()
    assert fetched is not None
    return len(to_batch(PARTITION, "k2", 0, fetched))


if __name__ == "__main__":
    main()

"""Cost of the watch for silent symbols: `python -m benchmarks.silence [--symbols N]`.

CPU time of the job's step for polls with few and with many messages, and the memory of a symbol.
"""

import argparse
import time
import tracemalloc
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.decode import batch_of
from k2.model.symbols import Symbols
from k2.sequencing.silence import SilenceTracker
from k2.venues.decode import Decoded, decode
from operators.silence_watch import SilenceWatch

POLLS: Final = ((20, 4_000), (20_000, 100))
"""Messages of a poll, and polls of a round."""
BATCHES: Final = 20
"""Different polls, each of which is added several times."""
ROUNDS: Final = 5


def main() -> None:
    """Print the bytes of a symbol, and microseconds per poll and per message."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silence", description=__doc__)
    parser.add_argument("--symbols", type=int, default=10_000)
    symbols = parser.parse_args().symbols
    tracemalloc.start()
    tracker = SilenceTracker()
    tracker.add_symbols([0] * symbols)
    print(f"{symbols:,} symbols: {tracemalloc.get_traced_memory()[0] / symbols:.0f} bytes each")
    tracemalloc.stop()
    for messages, polls in POLLS:
        watch = SilenceWatch(lambda: 0.0)
        batches = live_batches(messages, symbols)
        for batch in batches:
            watch.add(batch)
        seconds = min(cpu_seconds(watch, batches, polls) for _ in range(ROUNDS))
        print(f"{messages:6,} messages a poll: {seconds * 1e6:6.1f} us a poll, {seconds / messages * 1e6:.3f} us each")


def live_batches(messages: int, symbols: int) -> list[Decoded]:
    """Return decoded polls of trades that are published now, of all symbols in turn."""
    registry, now_us = Symbols(), int(time.time() * 1e6)
    polls = []
    for poll in range(BATCHES):
        batch = batch_of([message((poll * messages + at) % symbols) for at in range(messages)], "k2")
        polls.append(
            decode(replace(batch, kafka_timestamps=np.full(messages, now_us, dtype=np.int64)), symbols=registry)
        )
    return polls


def message(symbol: int) -> bytes:
    """Return a trade of a symbol."""
    return (
        b'{"exchange":"kraken","symbol":"S%d","sequence":1,"price":"1","quantity":"1","timestamp":1723161600000000}'
        % symbol
    )


def cpu_seconds(watch: SilenceWatch, batches: list[Decoded], polls: int) -> float:
    """Add polls; return the CPU seconds of one."""
    start = time.process_time()
    for poll in range(polls):
        watch.add(batches[poll % BATCHES])
    return (time.process_time() - start) / polls


if __name__ == "__main__":
    main()

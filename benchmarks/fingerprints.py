"""Memory and CPU time of content fingerprints: `python -m benchmarks.fingerprints --numbers 100000000`."""

import argparse
import resource
import time
from typing import Final, NamedTuple

from benchmarks.track import REGISTRY, ROWS, market
from k2.sequencing.tracker import GroupTracker

SYMBOLS: Final = 1_000
KIB: Final = 1024


class NumberCost(NamedTuple):
    """What the numbers of a window cost."""

    allocated_bytes: float
    """Per number."""
    resident_bytes: float
    """Of the peak, per number."""
    cpu_us: float
    """Per number."""
    slowest_seconds: float
    """CPU time of the slowest slice."""
    snapshot_bytes: int


def measure(numbers: int) -> NumberCost:
    """Track this number of trades, with all of their fingerprints in the window; call it in a process of its own."""
    # One window covers all: nothing expires.
    tracker = GroupTracker(window_us=2**40, symbols=REGISTRY)
    tracker.track(market(SYMBOLS, 0))
    before, slowest, spent = _resident(), 0.0, 0.0
    rounds = range(1, numbers // ROWS + 1)
    for round_number in rounds:
        trade_slice = market(SYMBOLS, round_number)
        start = time.process_time()
        tracker.track(trade_slice)
        took = time.process_time() - start
        slowest, spent = max(slowest, took), spent + took
    stored = len(rounds) * ROWS
    return NumberCost(
        allocated_bytes=tracker.fingerprints.size_bytes / stored,
        resident_bytes=(_resident() - before) / stored,
        cpu_us=spent / stored * 1e6,
        slowest_seconds=slowest,
        snapshot_bytes=sum(len(part) for part in tracker.snapshot().values() if isinstance(part, bytes)),
    )


def main() -> None:
    """Print allocated and resident bytes per number, the slowest slice, and the size of a snapshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, default=10_000_000)
    numbers = parser.parse_args().numbers
    cost = measure(numbers)
    print(f"{numbers:,} numbers of {SYMBOLS:,} symbols: {cost.allocated_bytes:.2f} bytes per number allocated,")
    print(f"{cost.resident_bytes:.2f} bytes per number of peak resident memory,")
    print(f"{cost.cpu_us:.3f} us per number, the slowest slice of {ROWS:,} rows {cost.slowest_seconds:.2f} s,")
    print(f"snapshot {cost.snapshot_bytes:,} bytes")


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    main()

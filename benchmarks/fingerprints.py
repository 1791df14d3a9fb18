"""What remembering the contents of numbers costs: `python -m benchmarks.fingerprints --numbers 100000000`."""

import argparse
import resource
import time
from typing import Final

from benchmarks.track import ROWS, market
from k2.sequencing.tracker import GroupTracker

SYMBOLS: Final = 1_000
KIB: Final = 1024


def main() -> None:
    """Print bytes a number, allocated and resident, the slowest slice, and the bytes of a snapshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, default=10_000_000)
    numbers = parser.parse_args().numbers
    # All within one window: nothing expires.
    tracker = GroupTracker(window_us=2**40)
    tracker.track(market(SYMBOLS, 0))
    before, slowest, spent = _resident(), 0.0, 0.0
    rounds = range(1, numbers // ROWS + 1)
    for number in rounds:
        piece = market(SYMBOLS, number)
        start = time.process_time()
        tracker.track(piece)
        took = time.process_time() - start
        slowest, spent = max(slowest, took), spent + took
    stored = len(rounds) * ROWS
    allocated = tracker.fingerprints.size_bytes / stored
    print(f"{stored:,} numbers of {SYMBOLS:,} symbols: {allocated:.2f} bytes a number allocated,")
    print(f"{(_resident() - before) / stored:.2f} bytes a number at the peak of what was resident,")
    print(f"{spent / stored * 1e6:.3f} us a number, the slowest slice of {ROWS:,} rows {slowest:.2f} s,")
    print(f"snapshot {sum(len(part) for part in tracker.snapshot().values() if isinstance(part, bytes)):,} bytes")


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    main()

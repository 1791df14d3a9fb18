"""CPU time per row of sequence tracking, with few and with many symbols: `python -m benchmarks.track`."""

import time
from typing import Final

import numpy as np

from k2.model.batch import MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.symbols import Symbols
from k2.sequencing.tracker import GroupTracker

ROWS: Final = 200_000
ROUNDS: Final = 6
REGISTRY: Final = Symbols()


def market(symbol_count: int, round_number: int) -> TradeSlice:
    """Return in-order trades of `symbol_count` symbols, the same number for each."""
    symbol_ids = [REGISTRY.intern("bench", f"S{number}") for number in range(symbol_count)]
    row_idx = np.arange(ROWS, dtype=np.int64)
    per_symbol = ROWS // symbol_count
    sequences = np.empty(ROWS, dtype=np.int64)
    columns = TradeColumns(
        symbols=np.array(symbol_ids, dtype=np.int32)[np.random.default_rng(7).permutation(ROWS) % symbol_count],
        names=REGISTRY,
        sequences=sequences,
        first_sequences=sequences,
        has_sequence=np.ones(ROWS, dtype=np.bool_),
        prices=np.ones((ROWS, 2), dtype=np.uint64),
        quantities=np.ones((ROWS, 2), dtype=np.uint64),
        sides=np.zeros(ROWS, dtype=np.int8),
        timestamps=row_idx + round_number * ROWS,
        received=row_idx,
        text=np.zeros(0, dtype=np.uint8),
        id_starts=np.zeros(ROWS, dtype=np.int64),
        id_sizes=np.full(ROWS, -1, dtype=np.int32),
        messages=row_idx.astype(np.int32),
        indexes=np.zeros(ROWS, dtype=np.int32),
    )
    order = np.argsort(columns.symbols, kind="stable")
    columns.sequences[order] = np.tile(np.arange(per_symbol), symbol_count) + round_number * per_symbol
    zeros = np.zeros(ROWS, dtype=np.int64)
    sizes = np.zeros(ROWS, dtype=np.int32)
    data = np.zeros(0, dtype=np.uint8)
    source = MessageBatch("trades", 0, "k2", 0, ROWS, row_idx, row_idx, data, zeros, sizes, zeros, sizes)
    return TradeSlice(
        TradeBatch(source, columns),
        group=0,
        rows=np.arange(ROWS, dtype=np.int32),
        verdicts=np.zeros(ROWS, dtype=np.uint8),
        sessions=np.zeros(ROWS, dtype=np.int32),
    )


def seconds(tracker: GroupTracker, trade_slice: TradeSlice) -> float:
    """Track a slice; return the CPU time."""
    start = time.process_time()
    tracker.track(trade_slice)
    return time.process_time() - start


def main() -> None:
    """Print microseconds per row of the first slice, whose symbols are new, and of the fastest later one."""
    GroupTracker(symbols=REGISTRY).track(market(10, 0))
    for symbol_count in (10, 10_000):
        tracker = GroupTracker(symbols=REGISTRY)
        first, *later = [seconds(tracker, market(symbol_count, number)) for number in range(ROUNDS)]
        new, best = first / ROWS * 1e6, min(later) / ROWS * 1e6
        print(f"{symbol_count:6} symbols: new {new:.4f} us, then {best:.4f} us")


if __name__ == "__main__":
    main()

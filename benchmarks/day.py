"""Simulated day of a whole market: `python -m benchmarks.day [--symbols 10000] [--trades 200]`.

Every symbol of three exchanges trades around the clock. Numbers are lost, an hour late or duplicated, and some symbols
restart their numbering. The flow of the job stores the day in Iceberg tables, with a recovery store. Then completeness
and the ledger are compared with the input number by number, and the size of the state is printed.
"""

import argparse
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.model.batch import MessageBatch
from k2.ops.settings import Settings, read_settings
from k2.query.completeness import by_day
from k2.query.gaps import gaps
from k2.restore.tables import TableStateSource
from tests.flows.job_io import MemorySource, message_batch

__all__ = ["Market", "Outcome", "Truth", "market_of_a_day", "run_day"]

EXCHANGES: Final = ("binance", "coinbase", "kraken")
DAY: Final = datetime(2024, 8, 9, tzinfo=UTC)
HOURS: Final = 24
LOST: Final = 0.01
LATE: Final = 0.01
TWICE: Final = 0.01
RESTARTED: Final = 0.02
"""Share of the symbols that restart their numbering on that day."""

Session = tuple[str, str, int]
"""Exchange, symbol and session."""


@dataclass
class Truth:
    """Input of the simulation."""

    messages: int = 0
    twice: int = 0
    numbers: defaultdict[Session, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Numbers of each session that arrive, at any time."""

    def missing(self) -> set[tuple[Session, int]]:
        """Return the numbers between a session's lowest and highest that never arrive."""
        return {
            (session, number)
            for session, numbers in self.numbers.items()
            for number in range(min(numbers), max(numbers))
            if number not in numbers
        }

    def days(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return the counts of stored and missing numbers of each symbol."""
        days: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for (exchange, symbol, _), numbers in self.numbers.items():
            days[exchange, symbol][0] += len(numbers)
            days[exchange, symbol][1] += max(numbers) - min(numbers) + 1 - len(numbers)
        return {name: (stored, missing) for name, (stored, missing) in days.items()}


@dataclass
class Market:
    """Messages of a day, one batch per hour, and the truth about them."""

    batches: list[MessageBatch]
    truth: Truth


@dataclass(frozen=True)
class Outcome:
    """Results of the job for a day."""

    seconds: float
    days: dict[tuple[str, str], tuple[int, int | None]]
    """Counts of stored and missing numbers of each symbol, from `k2 completeness`."""
    missing: set[tuple[Session, int]]
    """Missing numbers of the ledger."""
    duplicates: int
    state_bytes: dict[str, int]
    """Size of the state of each step in the recovery store at the end."""


@dataclass
class _Symbol:
    exchange: str
    symbol: str
    restart_hour: int
    number: int = 0
    session: int = 1
    late: list[bytes] = field(default_factory=list)


def market_of_a_day(symbols: int, trades: int, seed: int = 1) -> Market:
    """Generate a day of `symbols` symbols with about `trades` trades each; deterministic for a seed."""
    rng = Random(seed)
    all_symbols = [
        _Symbol(EXCHANGES[n % 3], f"S{n}-USD", rng.randrange(1, HOURS) if rng.random() < RESTARTED else HOURS)
        for n in range(symbols)
    ]
    truth, batches, offset = Truth(), [], 0
    for hour in range(HOURS):
        messages = [(None, value) for symbol in all_symbols for value in _hour(rng, symbol, hour, trades, truth)]
        batches.append(message_batch(messages, offset))
        offset += len(messages)
    truth.messages = offset
    return Market(batches, truth)


def _hour(rng: Random, symbol: _Symbol, hour: int, trades: int, truth: Truth) -> Iterator[bytes]:
    """Yield the messages of a symbol in an hour; the first and last trade of a session are always on time."""
    count = trades // HOURS + (hour < trades % HOURS)
    if hour == symbol.restart_hour:
        symbol.number, symbol.session = 0, symbol.session + 1
    late, symbol.late = symbol.late, []
    for trade_idx in range(count):
        symbol.number += 1
        at = DAY + timedelta(hours=hour, seconds=3600 * trade_idx / count)
        value = _value(symbol, at)
        is_pinned = symbol.number == 1 or (trade_idx == count - 1 and hour + 1 in {symbol.restart_hour, HOURS})
        chance = 1.0 if is_pinned else rng.random()
        if chance < LOST:
            continue
        truth.numbers[symbol.exchange, symbol.symbol, symbol.session].add(symbol.number)
        if chance < LOST + LATE and hour + 1 < HOURS:
            symbol.late.append(value)
            continue
        yield value
        if chance > 1 - TWICE and not is_pinned:
            truth.twice += 1
            yield value
    yield from late


def _value(symbol: _Symbol, at: datetime) -> bytes:
    microseconds = (at - DAY) // timedelta(microseconds=1) + int(DAY.timestamp()) * 1_000_000
    return (
        f'{{"exchange":"{symbol.exchange}","symbol":"{symbol.symbol}","sequence":{symbol.number},'
        f'"price":"{symbol.session}.5",'
        f'"quantity":"{symbol.number}","side":"buy","timestamp":{microseconds}}}'
    ).encode()


def run_day(market: Market, folder: Path) -> Outcome:
    """Run the flow over a day, one epoch per hour, and read the results."""
    settings = read_settings({}, data_dir=folder / "data")
    store = folder / "recovery"
    store.mkdir(parents=True)
    init_db_dir(store, 1)  # type: ignore[no-untyped-call]
    started = time.perf_counter()
    trades = TradesSink(settings)
    progress = trades.open()
    events = LedgerSink(settings, progress, fence=trades)
    events.open()
    job_io = JobIO(MemorySource({"trades:0": market.batches}), trades, events, TableStateSource(settings))
    recovery = RecoveryConfig(str(store), timedelta(0))  # type: ignore[no-untyped-call]
    flow = trades_flow(job_io, settings)
    cluster_main(flow, [], 0, epoch_interval=timedelta(), recovery_config=recovery)  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - started
    (entry,) = read_progress(settings).of("0").values()
    return Outcome(seconds, _days(settings), _missing(settings), entry.duplicates, _state_bytes(store))


def _days(settings: Settings) -> dict[tuple[str, str], tuple[int, int | None]]:
    found = by_day(settings)
    assert {one.day for one in found} == {DAY.date()}
    return {(one.exchange, one.symbol): (one.stored, one.missing) for one in found}


def _missing(settings: Settings) -> set[tuple[Session, int]]:
    return {
        ((gap.exchange, gap.symbol, gap.session), number)
        for gap in gaps(settings)
        for number in range(gap.first_sequence, gap.last_sequence + 1)
    }


def _state_bytes(store: Path) -> dict[str, int]:
    query = """
        SELECT step_id, sum(length(ser_change))
        FROM (SELECT *, max(snap_epoch) OVER (PARTITION BY step_id, state_key) AS newest FROM snaps)
        WHERE snap_epoch = newest GROUP BY step_id
    """
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as connection:
        return dict(connection.execute(query).fetchall())


def main() -> None:
    """Simulate a day; exit with 1 if a result differs from the input."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--symbols", type=int, default=10_000)
    arguments.add_argument("--trades", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    market = market_of_a_day(chosen.symbols, chosen.trades, chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_day(market, Path(folder))
    truth = market.truth
    print(f"{truth.messages:,} messages of {chosen.symbols:,} symbols, a day in {outcome.seconds:.1f} s")
    for step, size in sorted(outcome.state_bytes.items()):
        print(f"state of {step}: {size:,} bytes, {size / chosen.symbols:.0f} per symbol")
    results = {
        "completeness of each symbol": outcome.days == truth.days(),
        f"{len(truth.missing()):,} missing numbers in the ledger": outcome.missing == truth.missing(),
        f"{truth.twice:,} duplicates": outcome.duplicates == truth.twice,
    }
    for name, is_equal in results.items():
        print(f"{name}: {'as expected' if is_equal else 'DIFFERS'}")
    raise SystemExit(not all(results.values()))


if __name__ == "__main__":
    main()

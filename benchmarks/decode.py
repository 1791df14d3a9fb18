"""CPU microseconds per message of decoding: `python -m benchmarks.decode`."""

import gzip
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from k2.model.batch import MessageBatch
from k2.model.symbols import Symbols
from k2.sequencing.connections import ConnectionTracker
from k2.venues import VENUES
from k2.venues.decode import decode, decode_by_reference
from k2.venues.slices import split

MESSAGES: Final = 20_000
SYMBOLS: Final = 200
ROUNDS: Final = 11
MALFORMED_EVERY: Final = 1_000
DATA: Final = Path(__file__).parents[1] / "tests" / "data"
CAPTURES: Final = {
    "binance-spot": "binance-spot-btcusdt-20240808",
    "binance-spot-aggtrade": "binance-spot-aggtrade-combined",
    "binance-futures": "binance-coinm-btcusd_perp-20240808",
    "binance-futures-aggtrade": "binance-usdm-aggtrade-combined",
    "bitfinex": "bitfinex-trades-seq",
    "bitmex": "bitmex-trade",
    "bitstamp": "bitstamp-live_trades",
    "bybit": "bybit-v2-trade-20210417",
    "coinbase": "coinbase-match-20210417",
    "gate-until-2024": "gateio-v4-spot-trades",
    "htx": "huobi-spot-trade",
    "kraken-v1": "kraken-v1-trade",
    "kucoin": "kucoin-match",
    "okx": "okx-trades-20220513",
    "upbit-simple": "upbit-trade-simple",
}
CAPTURE_MESSAGES: Final = 5_000
CAPTURE_ROUNDS: Final = 5
KAFKA_TIME: Final = 1_723_161_300_000_000
"""Microseconds; later than the venue time of every message below."""


def k2_message(number: int) -> bytes:
    """Return a canonical trade of about 200 bytes."""
    return (
        f'{{"exchange":"binance","symbol":"SYM{number % SYMBOLS}USDT","trade_id":"{3_735_683_259 + number}",'
        f'"sequence":{number // SYMBOLS},"price":"{60_000 + number % 999}.83000000",'
        f'"quantity":"0.02{number % 1000:03}","side":"buy","timestamp":{1_723_161_255_342_000 + number},'
        f'"received":{1_723_161_255_352_000 + number}}}'
    ).encode()


def binance_message(number: int) -> bytes:
    """Return a trade event of about 140 bytes."""
    return (
        f'{{"e":"trade","E":{1_723_161_255_343 + number},"s":"SYM{number % SYMBOLS}USDT","t":{3_735_683_259 + number},'
        f'"p":"{60_000 + number % 999}.63000000","q":"0.02000000","T":{1_723_161_255_342 + number},"m":true,"M":true}}'
    ).encode()


def batch_of(values: Sequence[bytes], venue: str) -> MessageBatch:
    """Return messages as the batch of one poll."""
    sizes = np.array([len(value) for value in values], dtype=np.int32)
    count = len(values)
    return MessageBatch(
        topic="benchmark",
        partition=0,
        venue=venue,
        first_offset=0,
        next_offset=count,
        offsets=np.arange(count, dtype=np.int64),
        kafka_timestamps=np.full(count, KAFKA_TIME, dtype=np.int64),
        data=np.frombuffer(bytearray().join(values), dtype=np.uint8),
        value_starts=np.cumsum(sizes, dtype=np.int64) - sizes,
        value_sizes=sizes,
        key_starts=np.zeros(count, dtype=np.int64),
        key_sizes=np.full(count, -1, dtype=np.int32),
    )


def costs(*calls: Callable[[], object], messages: int = MESSAGES, rounds: int = ROUNDS) -> list[float]:
    """Return the minimum CPU time of each call over several rounds, in microseconds per message; calls alternate."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, spent, strict=True):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    return [min(times) / messages * 1e6 for times in spent]


def with_malformed(values: Sequence[bytes]) -> list[bytes]:
    """Cut one message in `MALFORMED_EVERY` in half."""
    return [value[: len(value) // 2] if number % MALFORMED_EVERY == 0 else value for number, value in enumerate(values)]


def report(venue: str, message: Callable[[int], bytes]) -> None:
    """Print the figures of one venue."""
    values = [message(number) for number in range(MESSAGES)]
    clean, faulty = batch_of(values, venue), batch_of(with_malformed(values), venue)

    symbols = Symbols()
    trades = decode(clean, symbols=symbols).trades
    compiled, malformed, splitting, reference = costs(
        lambda: decode(clean, symbols=symbols),
        lambda: decode(faulty, symbols=symbols),
        lambda: split(trades),
        lambda: decode_by_reference(clean, symbols=symbols),
    )
    size = sum(map(len, values)) / MESSAGES
    print(f"{venue}: {size:.0f} bytes per message; us of CPU per message:")
    print(f"  compiled {compiled:.3f}   reference {reference:.2f}   split by key group {splitting:.3f}")
    print(f"  1 in {MALFORMED_EVERY:,} malformed {malformed:.3f}: {malformed / compiled:.2f} times valid messages")


class CaptureCost(NamedTuple):
    """What the messages of a capture cost, those without a trade included."""

    venue: str
    bytes_per_message: float
    trades_per_message: float
    compiled_us: float
    reference_us: float

    @property
    def compiled_megabytes_per_second(self) -> float:
        """Throughput of the compiled decoder."""
        return self.bytes_per_message / self.compiled_us


def cost_of_capture(venue: str, capture: str) -> CaptureCost:
    """Measure both decoders of a venue on the messages of a capture."""
    lines = gzip.decompress((DATA / f"{capture}.ndjson.gz").read_bytes()).splitlines()
    values = (lines * (CAPTURE_MESSAGES // len(lines) + 1))[:CAPTURE_MESSAGES]
    batch, symbols = batch_of(values, venue), Symbols()
    trades = len(decode(batch, symbols=symbols).trades.columns)
    compiled, reference = costs(
        lambda: decode(batch, symbols=symbols),
        lambda: decode_by_reference(batch, symbols=symbols),
        messages=CAPTURE_MESSAGES,
        rounds=CAPTURE_ROUNDS,
    )
    return CaptureCost(venue, sum(map(len, values)) / CAPTURE_MESSAGES, trades / CAPTURE_MESSAGES, compiled, reference)


def report_captures(measured: Sequence[CaptureCost]) -> None:
    """Print a line for each venue, with the cost of a byte as a multiple of that of the fastest venue."""
    fastest = max(cost.compiled_megabytes_per_second for cost in measured)
    print("\nmessages of captures: bytes and trades per message; us of CPU per message, MB per second,")
    print("and the cost of a byte in times that of the fastest venue")
    print(f"{'':<24}  bytes  trades  compiled    MB/s   times  reference    MB/s")
    for cost in measured:
        speed = cost.compiled_megabytes_per_second
        print(
            f"{cost.venue:<24}  {cost.bytes_per_message:5.0f}  {cost.trades_per_message:6.2f}  {cost.compiled_us:8.3f}"
            f"  {speed:6.0f}  {fastest / speed:6.2f}"
            f"  {cost.reference_us:9.2f}  {cost.bytes_per_message / cost.reference_us:6.1f}"
        )


def dydx_message(number: int) -> bytes:
    """Return a message with a trade and the number of its connection, of about 320 bytes."""
    return (
        f'{{"type":"channel_data","connection_id":"5a2a4b9e-2f0c-4c1e-9f2b-{number % 4:012}",'
        f'"message_id":{number // 4},'
        f'"id":"SYM{number % SYMBOLS}-USD","channel":"v4_trades","version":"2.1.0","contents":{{"trades":[{{'
        f'"id":"{number:032x}","side":"BUY","size":"0.5","price":"{60_000 + number % 999}.5","type":"LIMIT",'
        f'"createdAt":"2024-08-08T23:54:15.342Z","createdAtHeight":"{number}"}}]}}}}'
    ).encode()


def report_connections() -> None:
    """Print the cost of the numbers of four connections, in one partition and as one of two partitions has them."""
    batch = batch_of([dydx_message(number) for number in range(MESSAGES)], "dydx")
    read = VENUES[batch.venue].connection
    assert read is not None

    def track(step: int) -> None:
        tracker = ConnectionTracker(0)
        for one in read(batch):
            numbers, offsets, timestamps = one.numbers[::step], one.offsets[::step], one.timestamps[::step]
            tracker.add(one._replace(numbers=numbers, offsets=offsets, timestamps=timestamps), 0.0)
        tracker.state()

    reading, whole, half = costs(lambda: read(batch), lambda: track(1), lambda: track(2))
    print("numbers of connections: us of CPU per message:")
    print(f"  read {reading:.3f}   read and tracked {whole:.3f}   in one of two partitions {half:.3f}")


def main() -> None:
    """Print the figures of the canonical message, of tables, of numbers of connections, and of all captures."""
    report("k2", k2_message)
    report("binance-spot", binance_message)
    report("dydx", dydx_message)
    report_connections()
    report_captures([cost_of_capture(venue, capture) for venue, capture in CAPTURES.items()])


if __name__ == "__main__":
    main()

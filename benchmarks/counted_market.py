"""Messages that `benchmarks.instructions` counts: a market with known faults, made from a seed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from benchmarks.decode import batch_of
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition

__all__ = ["FAULTS", "INPUTS", "MIXED", "PARTITION", "POLL", "Input", "coinbase_message", "k2_message"]

PARTITION: Final = TopicPartition("trades", 0)
SYMBOLS: Final = 300
SEED: Final = 7
BEGIN_US: Final = 1_723_161_600_000_000
KAFKA_DELAY_US: Final = 20_000
COPIED_MESSAGES_MAX: Final = 1_000
"""A duplicate is a copy of one of the messages before it, at most this far back."""

Message = Callable[[int, int, int, int], bytes]
"""Returns a message of a symbol, with the number, cents and venue time (microseconds) of its trade."""


class Shares(NamedTuple):
    """The shares of messages that are not the next trade of their symbol."""

    malformed: float
    """Messages that are cut in half."""
    duplicates: float
    gaps: float
    """Trades before which a number is missing."""


def k2_message(symbol: int, number: int, cents: int, time_us: int) -> bytes:
    """Return a canonical trade of about 190 bytes; each third symbol has ids only."""
    sequence = "" if symbol % 3 == 0 else f'"sequence":{number},'
    return (
        f'{{"exchange":"{"binance" if symbol % 2 else "coinbase"}","symbol":"SYM{symbol}-USD",'
        f'"trade_id":"{3_735_683_259 + number}",{sequence}"price":"{cents // 100}.{cents % 100:02}",'
        f'"quantity":"0.{1 + cents % 9_999:04}","side":"{"buy" if cents % 2 else "sell"}","timestamp":{time_us},'
        f'"received":{time_us + 10_000}}}'
    ).encode()


def coinbase_message(symbol: int, number: int, cents: int, time_us: int) -> bytes:
    """Return a trade of about 270 bytes as Coinbase sends it."""
    time = np.datetime_as_string(np.datetime64(time_us, "us"))
    return (
        f'{{"type":"match","trade_id":{number},"maker_order_id":"27fff20b-af29-4f45-8744-{cents:012}",'
        f'"taker_order_id":"1da6ce16-c8da-4732-9f71-{time_us % 10**12:012}","side":"{"buy" if cents % 2 else "sell"}",'
        f'"size":"0.{1 + cents % 9_999:04}","price":"{cents // 100}.{cents % 100:02}","product_id":"SYM{symbol}-USD",'
        f'"sequence":{333_938_798 + number},"time":"{time}Z"}}'
    ).encode()


class Input(NamedTuple):
    """What is counted of a market: some polls, after one that is not."""

    polls: int
    poll_messages: int
    shares: Shares

    @property
    def messages(self) -> int:
        """Number of messages that are counted."""
        return self.polls * self.poll_messages

    def batches(self, venue: str = "k2", message: Message = k2_message) -> list[MessageBatch]:
        """Return the polls, with the one before; the same in each process."""
        values = _values(self.shares, self.messages + self.poll_messages, message)
        firsts = range(0, len(values), self.poll_messages)
        return [_poll(venue, first, values[first : first + self.poll_messages]) for first in firsts]


MIXED: Final = "mixed"
FAULTS: Final = "faults"
INPUTS: Final = {
    # A poll of the job has at most as many messages.
    MIXED: Input(2, 20_000, Shares(malformed=0.001, duplicates=0.004, gaps=0.0005)),
    FAULTS: Input(1, 5_000, Shares(malformed=0.1, duplicates=0.0, gaps=0.1)),
}
POLL: Final = f"{MIXED}: poll"
"""The stage that is counted on one poll alone."""


def _poll(venue: str, first: int, values: Sequence[bytes]) -> MessageBatch:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return replace(
        batch_of(values, venue),
        topic=PARTITION.topic,
        partition=PARTITION.partition,
        first_offset=first,
        next_offset=first + len(values),
        offsets=offsets,
        kafka_timestamps=BEGIN_US + KAFKA_DELAY_US + offsets * 1_000,
    )


def _values(shares: Shares, count: int, message: Message) -> list[bytes]:
    random = np.random.default_rng(SEED)
    symbols = random.integers(0, SYMBOLS, count).tolist()
    is_gap = (random.random(count) < shares.gaps).tolist()
    kinds = random.random(count).tolist()
    cents = random.integers(100, 10_000_000, count).tolist()
    times_us = (BEGIN_US + np.arange(count) * 1_000 - random.integers(0, 5_000, count)).tolist()
    back = random.integers(1, COPIED_MESSAGES_MAX, count).tolist()
    numbers = [1_000 * symbol for symbol in range(SYMBOLS)]
    values: list[bytes] = []
    for row, symbol in enumerate(symbols):
        if kinds[row] < shares.duplicates and row >= back[row]:
            values.append(values[row - back[row]])
            continue
        numbers[symbol] += 2 if is_gap[row] else 1
        value = message(symbol, numbers[symbol], cents[row], times_us[row])
        values.append(value[: len(value) // 2] if kinds[row] >= 1 - shares.malformed else value)
    return values

"""Cost of the accounts of feeds: `python -m benchmarks.feeds [--symbols N] [--feeds N]`.

The property `k2.feeds.N` of a market with several feeds of all symbols, and lags of all days that are kept: its size,
CPU time to make and to read it, and the same with the usual level of compression. Then CPU time per row of the step,
and of the observation of a lag.
"""

import argparse
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import Final
from unittest.mock import patch

import numpy as np

from k2.model.feeds import (
    BUCKETS,
    COLUMNS,
    FIRST,
    FLOOR,
    HIGHEST,
    SESSION,
    SINCE,
    FeedDay,
    FeedTopic,
    GroupFeeds,
    SymbolFeeds,
)
from k2.model.key_groups import group_of
from k2.model.symbols import Symbols
from k2.ops.metrics import FEED_LAG
from k2.sequencing import feed_states
from k2.sequencing.feed_states import DAYS_KEPT, FeedStates
from k2.sequencing.feeds import FeedTracker
from tests.model.trade_slices import Row, slice_of

EXCHANGE: Final = "binance"
LEVELS: Final = (1, 6)
"""That of the property, and zlib's default."""
LAG_BUCKETS: Final = 50
"""Buckets of lags that a day has."""
ROWS: Final = ((1_200, 100), (20_000, 10))
"""Rows of a slice, and slices of each feed: a key group's share of a full poll, and all of it."""
ROW_SYMBOLS: Final = 100
OBSERVATIONS: Final = 10_000
ROUNDS: Final = 5


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feeds", description=__doc__)
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--feeds", type=int, default=2)
    arguments = parser.parse_args()
    topics = tuple(FeedTopic(f"trades-{number}", f"{number}", arguments.feeds) for number in range(arguments.feeds))
    report_property(topics, arguments.symbols)
    for rows, slices in ROWS:
        report_step(topics, rows, slices)
    lags = FEED_LAG.labels(EXCHANGE, topics[0].feed)
    seconds = cpu_seconds(lambda: deque(map(lags.observe, repeat(0.01, OBSERVATIONS)), maxlen=0))
    print(f"a lag that is observed: {seconds / OBSERVATIONS * 1e6:.2f} us")


def report_property(topics: tuple[FeedTopic, ...], symbols: int) -> None:
    """Print size and CPU time of the property."""
    states = filled(topics, symbols)
    for level in LEVELS:
        with patch.object(feed_states, "_LEVEL", level):
            text = states.text()
            making = cpu_seconds(states.text)
        reading = cpu_seconds(lambda text=text: FeedStates(text))  # type: ignore[misc]
        print(
            f"{symbols:,} symbols, {len(topics)} feeds, compression {level}: {len(text) / 1e6:.2f} MB, "
            f"{len(text) / symbols / len(topics):.0f} bytes a symbol and feed; made in {making:.3f} s, "
            f"read in {reading:.3f} s of CPU"
        )


def filled(topics: tuple[FeedTopic, ...], symbols: int) -> FeedStates:
    """Return accounts in which the feeds have brought nearly the same, and lags of all days that are kept."""
    random = np.random.default_rng(7)
    states = FeedStates()
    states.begin(topics)
    names = defaultdict[int, list[tuple[str, str]]](list)
    for number in range(symbols):
        name = EXCHANGE, f"{'ABCDEFGHIJKLMNOP'[random.integers(16)]}{number}USDT"
        names[group_of(*name)].append(name)
    by_topic = tuple(one.topic for one in topics)
    days = tuple(
        FeedDay(EXCHANGE, 20_000 + day, topic, 5, np.resize(random.integers(0, 10**6, LAG_BUCKETS), BUCKETS))
        for day in range(DAYS_KEPT)
        for topic in by_topic
    )
    for group, of_group in names.items():
        count, slots = len(of_group), np.zeros((len(of_group), len(topics), COLUMNS), dtype=np.int64)
        highest = random.integers(10**6, 4 * 10**9, (count, 1))
        first = highest - random.integers(1_000, 10**6, (count, 1)) + random.integers(0, 50, (count, len(topics)))
        slots[:, :, SESSION], slots[:, :, SINCE] = 1, 1
        slots[:, :, FIRST], slots[:, :, FLOOR] = first, first
        slots[:, :, HIGHEST] = highest - random.integers(0, 5, (count, len(topics)))
        states.update(GroupFeeds(group, SymbolFeeds(by_topic, of_group, slots), (), (), days))
        days = ()
    states.advance({})
    return states


def report_step(topics: tuple[FeedTopic, ...], rows: int, slices: int) -> None:
    """Print the CPU time per row of feeds that bring the same trades, one slice of each in turn."""
    registry = Symbols()
    tracker, seconds, count = FeedTracker(0, topics, registry), 0.0, 0
    for number in range(slices):
        first = number * rows
        trades = [
            Row(1 + at // ROW_SYMBOLS, at * 1_000, f"S{at % ROW_SYMBOLS}", EXCHANGE, kafka_timestamp=at * 1_000)
            for at in range(first, first + rows)
        ]
        base = slice_of(trades, first_offset=first, session=1).with_ids_of(registry)
        for topic in topics:
            of_topic = replace(base, batch=replace(base.batch, source=replace(base.batch.source, topic=topic.topic)))
            start = time.process_time()
            tracker.add(of_topic)
            tracker.state()
            if number:  # the first ones make the slots, and compile
                seconds, count = seconds + time.process_time() - start, count + rows
    print(f"{rows:6,} rows a slice: {seconds / count * 1e6:.3f} us of CPU a row")


def cpu_seconds(act: Callable[[], object]) -> float:
    """Return the minimum CPU time of several calls."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        act()
        found.append(time.process_time() - start)
    return min(found)


if __name__ == "__main__":
    main()

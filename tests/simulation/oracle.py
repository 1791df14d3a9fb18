"""The expected results of a market, by plain reasoning over the published messages, without any of the job's rules."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.simulation.market import Market, PartitionKey, Published, Trade

__all__ = ["Coordinates", "Expected", "expected_results"]


class Coordinates(NamedTuple):
    """The coordinates of a message."""

    topic: str
    partition: int
    offset: int


@dataclass
class Expected:
    """What must be in the table, the dead letters and the ledger once all is read."""

    messages: dict[Coordinates, Published] = field(default_factory=dict)
    rows: dict[Coordinates, Trade] = field(default_factory=dict)
    """Where each trade is first published: the stored row, if a symbol's trades are in one partition."""
    trades: dict[Trade, int] = field(default_factory=dict)
    """How many rows each trade must have: one, or more if its copies cannot be recognised."""
    dead_letters: dict[Coordinates, Published] = field(default_factory=dict)
    skipped: set[Coordinates] = field(default_factory=set)
    corrections: dict[Coordinates, tuple[Any, ...]] = field(default_factory=dict)
    """Where each correction is first published, and what it says."""
    missing: dict[tuple[str, str, int], set[int]] = field(default_factory=dict)
    """Numbers never published, by exchange, symbol and session; includes empty sets."""

    def received(self, partition: PartitionKey) -> int:
        """Count a partition's messages."""
        return sum((one.topic, one.partition) == partition for one in self.messages)


def expected_results(market: Market) -> Expected:
    """Derive the expected results from all messages of a market, each partition in the order of its offsets."""
    expected = Expected()
    stored_at: dict[Trade, int] = {}
    corrected_at: dict[tuple[Any, ...], int] = {}
    for (topic, partition), log in market.logs.items():
        for message in log.messages:
            coordinates = Coordinates(topic, partition, message.offset)
            expected.messages[coordinates] = message
            if message.kind in {"unreadable", "conflict"}:
                expected.dead_letters[coordinates] = message
            elif message.kind == "skipped":
                expected.skipped.add(coordinates)
            elif message.kind == "correction":
                _add_correction(expected, coordinates, corrected_at, market.window_seconds)
            elif message.kind == "trade" and _is_first(message, stored_at, market.window_seconds):
                expected.rows[coordinates] = message.trade
                expected.trades[message.trade] = expected.trades.get(message.trade, 0) + 1
    expected.missing = _missing(expected.trades)
    return expected


def _add_correction(
    expected: Expected, coordinates: Coordinates, stored_at: dict[tuple[Any, ...], int], window_seconds: int
) -> None:
    """Expect a correction to be stored unless it is a copy within the window."""
    message = expected.messages[coordinates]
    said = message.correction
    assert said is not None
    if said not in stored_at or message.timestamp_ms - stored_at[said] > window_seconds * 1000:
        stored_at[said] = message.timestamp_ms
        expected.corrections[coordinates] = said


def _is_first(message: Published, stored_at: dict[Trade, int], window_seconds: int) -> bool:
    """Return whether a message's trade is stored for it: the first copy is, and one by id only after its window."""
    trade = message.trade
    assert trade is not None
    before = stored_at.get(trade)
    is_known_by_id = trade.sequence is None and trade.trade_id is not None
    if before is not None and trade.sequence is not None:
        return False
    if before is not None and is_known_by_id and message.timestamp_ms - before <= window_seconds * 1000:
        return False
    stored_at[trade] = message.timestamp_ms
    return True


def _missing(trades: Mapping[Trade, int]) -> dict[tuple[str, str, int], set[int]]:
    numbers: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for trade in trades:
        if trade.sequence is not None:
            numbers[trade.exchange, trade.symbol, trade.session].add(trade.sequence)
    return {session: set(range(min(seen), max(seen))) - seen for session, seen in numbers.items()}

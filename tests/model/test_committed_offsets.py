"""Which trades are in the table: decided by the progress of the writer that a symbol's group belongs to."""

import pytest

from k2.model.committed_offsets import CommittedOffsets
from k2.model.key_groups import group_of
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent

HERE, THERE = TopicPartition("trades", 0), TopicPartition("trades", 1)


def three_writers() -> CommittedOffsets:
    """Return three writers at different offsets, the last of which has not started."""
    writers = {"0": {HERE: PartitionProgress(7), THERE: PartitionProgress(3)}, "1": {HERE: PartitionProgress(9)}}
    return CommittedOffsets(Progress(writers), 3)


def test_each_writer_has_its_own_committed_offset() -> None:
    """In the order of the writers; 0 for a writer that has no offset of the partition, or if no writer has one."""
    assert three_writers().offsets(HERE) == (7, 9, 0)
    assert three_writers().offsets(THERE) == (3, 0, 0)
    assert three_writers().offsets(TopicPartition("other", 0)) == (0, 0, 0)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"])
@pytest.mark.parametrize("exchange", ["binance", "kraken"])
def test_a_symbols_committed_offset_is_that_of_its_writer(exchange: str, symbol: str) -> None:
    """By the key group of its exchange and symbol; the same on repeated calls and for other partitions."""
    progress, writer = three_writers(), group_of(exchange, symbol) % 3
    for _ in range(2):
        assert progress.offset(exchange, symbol, HERE) == (7, 9, 0)[writer]
        assert progress.offset(exchange, symbol, THERE) == (3, 0, 0)[writer]


def test_a_symbols_group_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group of each symbol is cached, because events look it up repeatedly."""
    asked = list[tuple[str, str]]()
    monkeypatch.setattr("k2.model.committed_offsets.group_of", lambda *name: asked.append(name) or 0)
    progress = three_writers()
    for symbol in ("x", "y", "x", "y"):
        progress.offset("a", symbol, HERE)
    assert asked == [("a", "x"), ("a", "y")]


@pytest.mark.parametrize(
    ("kind", "missing"), [(EventKind.SESSION_STARTED, 0), (EventKind.GAP_OPENED, 4), (EventKind.GAP_FILLED, 4)]
)
def test_an_event_counts_its_numbers(kind: EventKind, missing: int) -> None:
    """Both ends of its range are included, and the start of a session counts no missing number."""
    assert SequenceEvent("a", "x", 1, kind, 6, 9, 0, "trades", 0, 5).missing == missing

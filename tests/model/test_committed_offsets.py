"""Which trades are in the table: the progress of the writer whose group a symbol is of."""

import pytest

from k2.model.committed_offsets import CommittedOffsets
from k2.model.key_groups import group_of
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent

HERE, THERE = TopicPartition("trades", 0), TopicPartition("trades", 1)


def landed() -> CommittedOffsets:
    """Return three writers of which the last has begun nowhere, at different offsets."""
    writers = {"0": {HERE: PartitionProgress(7), THERE: PartitionProgress(3)}, "1": {HERE: PartitionProgress(9)}}
    return CommittedOffsets(Progress(writers), 3)


def test_each_writer_has_its_own_floor() -> None:
    """In the order of the writers, 0 for one that has nothing of a partition, or where nobody has."""
    assert landed().floors(HERE) == (7, 9, 0)
    assert landed().floors(THERE) == (3, 0, 0)
    assert landed().floors(TopicPartition("other", 0)) == (0, 0, 0)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"])
@pytest.mark.parametrize("exchange", ["binance", "kraken"])
def test_a_symbols_floor_is_its_writers(exchange: str, symbol: str) -> None:
    """By the key group of its exchange and symbol, the same when asked again and of another partition."""
    progress, writer = landed(), group_of(exchange, symbol) % 3
    for _ in range(2):
        assert progress.floor(exchange, symbol, HERE) == (7, 9, 0)[writer]
        assert progress.floor(exchange, symbol, THERE) == (3, 0, 0)[writer]


def test_a_symbols_group_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each symbol's own: events ask for it again and again."""
    asked = list[tuple[str, str]]()
    monkeypatch.setattr("k2.model.committed_offsets.group_of", lambda *name: asked.append(name) or 0)
    progress = landed()
    for symbol in ("x", "y", "x", "y"):
        progress.floor("a", symbol, HERE)
    assert asked == [("a", "x"), ("a", "y")]


@pytest.mark.parametrize(
    ("kind", "missing"), [(EventKind.SESSION_STARTED, 0), (EventKind.GAP_OPENED, 4), (EventKind.GAP_FILLED, 4)]
)
def test_an_event_says_how_many_numbers_it_holds(kind: EventKind, missing: int) -> None:
    """Both ends are in its range, and the start of a session is missing nothing."""
    assert SequenceEvent("a", "x", 1, kind, 6, 9, 0, "trades", 0, 5).missing == missing

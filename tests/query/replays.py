"""Replays of dead letters that a test chooses, as their journal has them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from k2.model.dead_letter import DeadLetter
from k2.model.progress import TopicPartition
from k2.model.replay import WHOLE, intended_batch, settled_batch
from k2.ops.settings import Settings
from k2.storage.dead_letters.folders import replay_journal

__all__ = ["record_replays"]


def record_replays(settings: Settings, pairs: Sequence[tuple[DeadLetter, int]]) -> None:
    """Record that each letter became the message at an offset."""
    journal, now = replay_journal(settings), datetime(2024, 8, 9, tzinfo=UTC)
    ends = {TopicPartition(letter.topic, letter.partition): 0 for letter, _ in pairs}
    letters = [(letter.coordinates, WHOLE) for letter, _ in pairs]
    batch = intended_batch(journal.new_batch(now), "id", now, letters, ends)
    offsets = {(TopicPartition(one.topic, one.partition), one.offset, WHOLE): at for one, at in pairs}
    settled = settled_batch(batch, offsets)
    assert settled is not None
    journal.settle(settled)

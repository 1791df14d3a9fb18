"""What became of replayed dead letters, as the journal and the tables say together."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.model.progress import TopicPartition
from k2.model.replay import intended_batch
from k2.ops.settings import Settings
from k2.query.dead_letters import Statistics, count_dead_letters, count_with_replays, open_dead_letters
from k2.query.replays import (
    SPANS_MAX,
    LetterPlaces,
    ReplayCounts,
    committed_letters,
    count_replays,
    replay_sentence,
    spans,
)
from k2.storage.dead_letters.folders import replay_journal
from tests.model.dead_letters import dead_letter
from tests.query.replays import record_replays
from tests.query.tables import append, correction, made, progress, set_progress, trade, write_letters

NOW = datetime(2024, 8, 9, tzinfo=UTC)


def counted(settings: Settings) -> ReplayCounts:
    """Count as `k2 dlq stats` does."""
    found = count_with_replays(count_dead_letters, settings, open_dead_letters(settings, pytest.fail), pytest.fail)
    assert isinstance(found, Statistics)
    assert found.replays is not None
    return found.replays


def test_each_replayed_letter_has_one_outcome(settings: Settings) -> None:
    """Stored, rejected again, a correction, a duplicate or skipped, or not read yet; the others wait."""
    letters = [dead_letter(offset) for offset in range(6)]
    again = dead_letter(11)
    write_letters(settings, [*letters, again, dead_letter(3, partition=1)])
    # A message that is decoded to several trades stores one letter.
    append(
        made(settings, TableName.TRADES), [trade(10), trade(10, index=1), trade(14, partition=1), trade(14, topic="a")]
    )
    append(made(settings, TableName.CORRECTIONS), [correction(12, index=0)])
    set_progress(made(settings, TableName.TRADES), progress(offset=14, received=14))
    record_replays(settings, list(zip(letters[:3], (10, 11, 12), strict=True)))
    record_replays(settings, list(zip(letters[3:5], (13, 14), strict=True)))
    found = counted(settings)
    assert found == ReplayCounts(3, 5, stored=1, rejected_again=1, corrections=1, unread=1, other=1)
    assert replay_sentence(found) == (
        "3 waiting; 5 replayed: 1 stored since, 1 rejected again, 1 stored as corrections, "
        "1 duplicate, skipped or removed, 1 not read yet"
    )


def test_a_letter_that_was_replayed_again_and_again_has_each_outcome(settings: Settings) -> None:
    """Each attempt is a letter of its own: the first two were rejected again, the last one is stored."""
    letters = [dead_letter(offset) for offset in (0, 10, 11)]
    write_letters(settings, letters)
    append(made(settings, TableName.TRADES), [trade(12)])
    record_replays(settings, list(zip(letters, (10, 11, 12), strict=True)))
    assert counted(settings) == ReplayCounts(0, 3, stored=1, rejected_again=2, corrections=0, unread=0, other=0)


def test_a_message_that_two_batches_record_counts_once(settings: Settings) -> None:
    """A replay that was frozen may have meant to publish what another one did, and is taken to have done it."""
    letters = [dead_letter(0), dead_letter(1)]
    write_letters(settings, letters)
    record_replays(settings, [(letters[0], 10)])
    record_replays(settings, [(letters[0], 10), (letters[1], 11)])
    assert counted(settings) == ReplayCounts(0, 2, stored=0, rejected_again=0, corrections=0, unread=2, other=0)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60))
def test_spans_contain_all_offsets(offsets: list[int]) -> None:
    """In order, at most 16; with fewer runs of offsets than that, they contain nothing else."""
    found = spans(offsets)
    assert len(found) <= SPANS_MAX
    assert all(any(first <= offset <= last for first, last in found) for offset in offsets)
    assert all(last < first for (_, last), (first, _) in pairwise(found))
    runs = sum(1 for before, after in pairwise(sorted({*offsets})) if after - before > 1) + 1
    if runs <= SPANS_MAX:
        assert sum(last - first + 1 for first, last in found) == len({*offsets})


def test_without_replays_no_table_is_read(settings: Settings) -> None:
    """All letters wait, each once, though tables that share the folder both have it; an intent changes nothing."""
    places = LetterPlaces()
    assert [*places.through([dead_letter(1), dead_letter(1), dead_letter(1, index=1)])] != []
    settings.dead_letter_folder.mkdir(parents=True)
    journal = replay_journal(settings)
    where = TopicPartition("trades", 0)
    journal.intend(intended_batch(journal.new_batch(NOW), "id", NOW, [(dead_letter(1).coordinates, -1)], {where: 0}))
    assert count_replays(settings, places, pytest.fail) == ReplayCounts(2, 0, 0, 0, 0, 0, 0)


def test_only_letters_that_commits_count_are_replayed(settings: Settings) -> None:
    """What no commit counts is cut back at a start, and its message is read again."""
    write_letters(settings, [dead_letter(0), dead_letter(1)], uncounted=[dead_letter(2)])
    read = committed_letters(settings, pytest.fail)
    assert [letter.offset for letter in read()] == [letter.offset for letter in read()] == [0, 1]

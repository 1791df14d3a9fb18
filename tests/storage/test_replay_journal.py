"""The journal of replays: what a stopped process left is read as it was, on a disk and in an object store."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from k2.model.dead_letter import Coordinates
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.replay import WHOLE, ReplayBatch, intended_batch, settled_batch
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.dead_letters.object_folder import ObjectFolder
from k2.storage.dead_letters.replay_journal import JournalFolder, ReplayJournal, replayed_letters, taken_trades
from tests.s3 import S3
from tests.storage.test_dead_letter_objects import store_of

HERE = TopicPartition("trades", 0)
NOW = datetime(2024, 1, 1, tzinfo=UTC)
OpenFolder = Callable[[Path], JournalFolder]


def object_folder(path: Path) -> ObjectFolder:
    """Return an object store in a folder."""
    return ObjectFolder("s3://b/dlq", SubTreeFileSystem(str(path.parent), LocalFileSystem()), path.name)


@pytest.fixture(params=[LocalFolder, object_folder], ids=["disk", "objects"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> JournalFolder:
    """Return an empty folder of each kind."""
    (tmp_path / "dlq").mkdir()
    opened: OpenFolder = request.param
    return opened(tmp_path / "dlq")


def begun(journal: ReplayJournal, *offsets: int, take: int = WHOLE) -> ReplayBatch:
    """Record the intent to replay the letters at some offsets."""
    letters = [(Coordinates("trades", 0, offset), take) for offset in offsets]
    batch = intended_batch(journal.new_batch(NOW), "id", NOW, letters, {HERE: 10})
    journal.intend(batch)
    return batch


def done(journal: ReplayJournal, batch: ReplayBatch, first: int) -> None:
    """Record that the messages of a batch have the offsets from `first` on."""
    settled = settled_batch(batch, {mark: first + place for place, mark in enumerate(sorted(batch.replays_of()))})
    assert settled is not None
    journal.settle(settled)


def test_an_intent_becomes_an_outcome(folder: JournalFolder) -> None:
    """Only an outcome says that letters were replayed; the intent is gone then, and another reader sees the same."""
    journal = ReplayJournal(folder, "market.data")
    assert journal.entries() == []
    first, second = begun(journal, 1, 2), begun(journal, 3, take=4)
    assert [(one.batch, one.is_settled) for one in journal.entries()] == sorted(
        [(first, False), (second, False)], key=lambda one: one[0].batch
    )
    assert replayed_letters(journal.entries()) == {}
    done(journal, first, 10)
    done(journal, second, 13)
    again = ReplayJournal(folder, "market.data").entries()
    assert replayed_letters(again) == {Coordinates("trades", 0, one): at for one, at in ((1, 10), (2, 11), (3, 13))}
    assert taken_trades(again) == {(HERE, 13): 4}
    assert [one.endswith(".intent.jsonl") for one in folder.names("replays-")] == [False, False]
    assert ReplayJournal(folder, "market").entries() == ReplayJournal(folder, "marketXdata").entries() == []


def test_a_dropped_intent_leaves_nothing(folder: JournalFolder) -> None:
    """Its letters wait again."""
    journal = ReplayJournal(folder, "market_data")
    journal.drop(begun(journal, 1))
    assert journal.entries() == []
    assert folder.names("") == []


def test_an_intent_that_outlives_its_outcome_does_not_count(folder: JournalFolder) -> None:
    """A process may be killed between the two."""
    journal = ReplayJournal(folder, "market_data")
    batch = begun(journal, 1)
    done(journal, batch, 10)
    journal.intend(batch)
    (entry,) = journal.entries()
    assert entry.is_settled


def test_an_unreadable_file_is_named(folder: JournalFolder) -> None:
    """A replay ends with its path and the way on; a report goes on without it."""
    journal = ReplayJournal(folder, "market_data")
    done(journal, begun(journal, 1), 10)
    batch = begun(journal, 2)
    outcome = f"replays-market_data-{batch.batch}.jsonl"
    for damaged in (b"", b"{", batch.line()):
        folder.write(outcome, damaged)
        with pytest.raises(StateError, match=rf"{outcome}: .*; restore the file from a copy, or remove it"):
            journal.entries()
        said: list[str] = []
        assert len(journal.entries(said.append)) == 1
        assert [one.startswith(folder.location(outcome)) for one in said] == [True]


def test_an_unfinished_file_on_a_disk_is_not_read(tmp_path: Path) -> None:
    """A file has its name only once it is whole."""
    folder = LocalFolder(tmp_path)
    (tmp_path / ".replays-market_data-20240101T000000000000-00000000.intent.jsonl").write_bytes(b"{")
    assert ReplayJournal(folder, "market_data").entries() == []
    assert LocalFolder(tmp_path / "absent").names("") == []


def test_the_dead_letters_do_not_see_the_journal(folder: JournalFolder) -> None:
    """It is in their folder, and no file of theirs."""
    journal = ReplayJournal(folder, "market_data")
    done(journal, begun(journal, 1), 10)
    begun(journal, 2)
    assert isinstance(folder, LocalFolder | ObjectFolder)
    assert folder.files() == []


def test_the_journal_on_s3(s3: S3) -> None:
    """An intent that became an outcome and one that was dropped leave one object, which any reader sees."""
    address = f"s3://{s3.bucket()}/dlq"
    journal = ReplayJournal(store_of(s3, address), "market_data")
    done(journal, begun(journal, 1, 2), 10)
    journal.drop(begun(journal, 3))
    (entry,) = ReplayJournal(store_of(s3, address), "market_data").entries()
    assert (entry.is_settled, entry.location) == (True, f"{address}/replays-market_data-{entry.batch.batch}.jsonl")
    assert replayed_letters([entry]) == {Coordinates("trades", 0, 1): 10, Coordinates("trades", 0, 2): 11}

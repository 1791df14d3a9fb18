"""The properties of the job's tables, each by its one declaration."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.correction import Correction, CorrectionKind, PlacedCorrection
from k2.model.errors import TableError
from k2.model.partition_starts import PartitionStart
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.state_source import NumberDoubt
from k2.sequencing.doubts import Doubts
from k2.storage.checkpoints import CheckpointPlace, NamedCheckpoints
from k2.storage.commit_log import Commit
from k2.storage.dead_letters.files import Position
from k2.storage.pending_corrections import PendingCorrections
from k2.storage.removed_rows import RemovedRows
from k2.storage.table_properties import (
    ANNOUNCED_NUMBERS,
    CHECKPOINTS,
    COMMIT_ID,
    COMMIT_LOG_BATCH,
    COMMIT_NOTES,
    CONNECTIONS,
    DEAD_LETTER_POSITIONS,
    DOUBTS,
    FEEDS,
    FENCING_TOKEN,
    FORMAT,
    KEY_GROUPS,
    LAST_SNAPSHOT,
    LEDGER_ID,
    NON_MARKET_NUMBERS,
    PARTITION_STARTS,
    PENDING_CORRECTIONS,
    PROGRESS,
    PROPERTIES,
    REMOVED_ROWS,
    TOPIC_IDS,
    WRITERS,
    CommitLogBatch,
    LastSnapshot,
    TableProperty,
    check_format,
)

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "tables.md"
POSITIVE = st.integers(1, 2**62)
POSITIONS = st.dictionaries(st.text("abc-0123456789", min_size=1), st.builds(Position, POSITIVE, POSITIVE), max_size=3)
SAID: Final = Correction(
    CorrectionKind.CORRECTED, "x", "ü", "1", "2", Decimal("0.1"), None, Decimal(10) ** 19, Decimal(1), None, '["@"]', 5
)
PLACED: Final = PlacedCorrection(SAID, "t", 1, 2, 3, None)
VALUES: Mapping[TableProperty[Any], st.SearchStrategy[Any]] = {
    PROGRESS: st.builds(
        lambda offset: Progress({"0": {TopicPartition("t", 1): PartitionProgress(offset, 2, 1, 1)}}), POSITIVE
    ),
    COMMIT_ID: st.text(min_size=1),
    LAST_SNAPSHOT: st.builds(LastSnapshot, POSITIVE, POSITIVE),
    FENCING_TOKEN: st.text(min_size=1),
    LEDGER_ID: st.text(min_size=1),
    DEAD_LETTER_POSITIONS: POSITIONS,
    CHECKPOINTS: st.builds(
        lambda one: NamedCheckpoints({3: [CheckpointPlace("f", 0, one, "00")]}, [3], [("t", 0, one)], one), POSITIVE
    ),
    COMMIT_NOTES: st.builds(lambda one: [Commit(one, None, 1, 0, "0", 1, 1, 1, [])], POSITIVE),
    PENDING_CORRECTIONS: st.builds(lambda one: PendingCorrections("id", [PLACED], one), st.just(1)),
    REMOVED_ROWS: st.builds(RemovedRows, st.dictionaries(st.text(), POSITIVE, max_size=3), st.none() | st.dates()),
    PARTITION_STARTS: st.builds(lambda one: {TopicPartition("t", 1): PartitionStart(one, 0, "latest")}, POSITIVE),
    TOPIC_IDS: st.dictionaries(st.text(), st.text(), max_size=3),
    WRITERS: POSITIVE,
    KEY_GROUPS: POSITIVE,
    FORMAT: POSITIVE,
    COMMIT_LOG_BATCH: st.builds(CommitLogBatch, st.text(), st.frozensets(POSITIVE, max_size=3)),
}


@given(st.data())
def test_every_value_survives_a_round_trip(data: st.DataObject) -> None:
    """A property that is set is read back, for its writer alone, whatever other properties there are."""
    one = data.draw(st.sampled_from([*VALUES]))
    value = data.draw(VALUES[one])
    writer = "7" if one.is_per_writer else ""
    properties = {"write.format.default": "parquet", **one.set_to(value, writer)}
    assert [*properties][1] == one.key + writer
    assert one.read(properties, writer) == value
    if one.is_per_writer:
        assert one.read_all(properties) == [value]
        assert one.read(properties, "8") == one.default()


def test_a_table_without_properties_has_the_defaults() -> None:
    """An older table lacks some; each reads as what that version did."""
    found = {
        one.key: one.read({})
        for one in PROPERTIES
        if one not in {NON_MARKET_NUMBERS, DOUBTS, ANNOUNCED_NUMBERS, CONNECTIONS, FEEDS}
    }
    assert found == {
        "k2.progress": Progress(),
        "k2.commit.": "",
        "k2.snapshot": None,
        "k2.removed": RemovedRows(),
        "k2.claim": None,
        "k2.ledger": None,
        "k2.letters.": {},
        "k2.checkpoints.": NamedCheckpoints(),
        "k2.corrections.": PendingCorrections(),
        "k2.trail": [],
        "k2.topics": {},
        "k2.decoding": {},
        "k2.starts": {},
        "k2.writers": None,
        "k2.key_groups": 16,
        "k2.format": 1,
        "k2.kept": CommitLogBatch(),
    }
    assert [*NON_MARKET_NUMBERS.read({}).sessions()] == DOUBTS.read({}).each() == CONNECTIONS.read({}).seen(0, {}) == []
    assert FEEDS.read({}).ranges() == []


def test_doubts_of_all_writers_are_read() -> None:
    """Each writer has a property of its own."""
    properties = dict[str, str]()
    doubts = [NumberDoubt("a", "x", 5, 7), NumberDoubt("a", "y", -1, 8)]
    for writer, doubt in enumerate(doubts):
        one = Doubts()
        one.update([doubt])
        properties |= DOUBTS.set_to(one, str(writer))
    assert [*properties] == ["k2.doubts.0", "k2.doubts.1"]
    assert [doubt for one in DOUBTS.read_all(properties) for doubt in one.each()] == doubts


@pytest.mark.parametrize(
    "one", [one for one in PROPERTIES if one.parse is not str and one is not CHECKPOINTS], ids=lambda one: one.key
)
def test_an_unreadable_value_names_the_property(one: TableProperty[Any]) -> None:
    """A value that cannot be read does not count as none, except for checkpoints, which a start can do without."""
    with pytest.raises(TableError, match=f"^table property {one.key} cannot be read: ."):
        one.read({one.key: "?"})


@pytest.mark.parametrize(
    ("one", "text", "error"),
    [
        (PROGRESS, "{}", "table property k2.progress cannot be read: Object missing required field `format`"),
        (PROGRESS, '{"format":2,"writers":{}}', "table property k2.progress has format 2; this version reads 1"),
        (
            COMMIT_NOTES,
            '{"format":1}',
            "table property k2.trail cannot be read: Object missing required field `commits`",
        ),
        (COMMIT_NOTES, '{"format":2,"commits":[]}', "table property k2.trail has format 2; this version reads 1"),
        (
            NON_MARKET_NUMBERS,
            '{"format":2,"sessions":[]}',
            "table property k2.off_book.0 has format 2; this version reads 1",
        ),
        (DOUBTS, '{"format":2,"doubts":[]}', "table property k2.doubts.0 has format 2; this version reads 1"),
        (DOUBTS, '{"format":1}', "table property k2.doubts.0 cannot be read: Object missing required field `doubts`"),
    ],
)
def test_the_error_says_what_is_wrong(one: TableProperty[Any], text: str, error: str) -> None:
    """An older version does not misread what a newer one wrote."""
    writer = "0" if one.is_per_writer else ""
    with pytest.raises(TableError) as caught:
        one.read({one.key + writer: text}, writer)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({}, None),
        ({"k2.format": "1", "k2.key_groups": "16"}, None),
        ({"k2.format": "2"}, r"table k2\.trades has k2\.format=2, this version reads 1; run a later version"),
        ({"k2.key_groups": "32"}, "was created for 32 key groups, this version has 16"),
    ],
)
def test_a_table_of_another_format_is_refused(properties: dict[str, str], error: str | None) -> None:
    """A table of an older version, without the properties, is accepted."""
    if error is None:
        check_format(properties, "k2.trades")
        return
    with pytest.raises(TableError, match=error):
        check_format(properties, "k2.trades")


def test_the_documentation_lists_every_property() -> None:
    """The table in the documentation is made from the declarations; this prints it if they differ."""
    rows = "".join(
        f"| `{one.key}{'N' if one.is_per_writer else ''}` | {one.table} | {one.meaning} |\n" for one in PROPERTIES
    )
    table = f"| Property | Table | Meaning |\n|---|---|---|\n{rows}"
    assert table in DOCUMENT.read_text(encoding="utf-8"), f"replace the table of {DOCUMENT.name} by:\n{table}"

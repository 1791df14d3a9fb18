"""The table `corrections`: each row once, whatever is killed, put back or doubled."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from k2.iceberg.corrections_writer import CorrectionsWriter
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName, open_table
from k2.model.correction import Correction, CorrectionKind, PlacedCorrection
from k2.model.errors import FencedError, TableError
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from k2.storage.pending_corrections import PendingCorrections
from k2.storage.table_properties import PENDING_CORRECTIONS
from tests.iceberg.trades_table import settings_in

HERE = TopicPartition("t", 0)
WINDOW_US = 1_000_000
LARGEST = Decimal((0, (9,) * 38, -18))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a job in a folder of its own."""
    return settings_in(tmp_path / "a b")


def cancel(offset: int, **values: Any) -> PlacedCorrection:
    """Return a cancel in the message at an offset."""
    said = Correction(CorrectionKind.CANCELLED, "x", "A", f"{offset}", None, Decimal("1.5"), None, *[None] * 4, 5)
    said = said._replace(**{name: value for name, value in values.items() if name in Correction._fields})
    return PlacedCorrection(said, "t", 0, offset, values.get("index", 0), values.get("kafka_timestamp", 7))


def writer_of(settings: Settings) -> CorrectionsWriter:
    """Return the writer of a process of its own."""
    return CorrectionsWriter("0", 1, TableHandle(settings, TableName.CORRECTIONS, None), WINDOW_US)


def table_of(settings: Settings) -> Table:
    """Return the table as it is now."""
    return open_table(open_catalog(settings), settings, TableName.CORRECTIONS)


def offsets_of(settings: Settings) -> list[int]:
    """Return the offsets of all rows, sorted."""
    offsets: list[int] = table_of(settings).scan().to_arrow()["offset"].to_pylist()
    return sorted(offsets)


def pending_of(properties: dict[str, str]) -> PendingCorrections:
    """Return what a commit to `trades` has as pending."""
    return PENDING_CORRECTIONS.read(properties, "0")


def reached(offset: int) -> dict[TopicPartition, PartitionProgress]:
    """Return progress of the trades table."""
    return {HERE: PartitionProgress(offset)}


def test_every_value_survives_a_round_trip(settings: Settings) -> None:
    """Extremes of each column, nulls included; a start reads them back, and knows a copy of each."""
    said = {
        "old_price": LARGEST.copy_negate(),
        "new_price": LARGEST,
        "new_quantity": Decimal(1),
        "new_trade_id": "ü" * 200,
    }
    rows = [
        cancel(0),
        cancel(1, kafka_timestamp=None, received=9, symbol="ü/ é", exchange="a/b ü"),
        cancel(2, what=CorrectionKind.CORRECTED, old_conditions='["@"]', new_conditions="7", timestamp=-1, **said),
        cancel(2, index=9, trade_id="i"),
    ]
    writer = writer_of(settings)
    writer.take(rows)
    writer.close_epoch("one")
    writer.commit()
    found = table_of(settings).scan().to_arrow().sort_by([("offset", "ascending"), ("index", "ascending")]).to_pylist()
    assert [(row["symbol"], row["old_price"], row["new_price"], row["index"]) for row in found] == [
        (one.correction.symbol, one.correction.old_price, one.correction.new_price, one.index) for one in rows
    ]
    again = writer_of(settings)
    again.resume(PendingCorrections(), reached(3))
    assert all(again.is_duplicate(PlacedCorrection(one.correction, "t", 1, 77, 0, 7)) for one in rows)
    assert not again.is_duplicate(cancel(5))


def test_a_start_completes_what_is_pending_once(settings: Settings) -> None:
    """However often it starts, and whether or not the second commit was made."""
    writer = writer_of(settings)
    writer.take([cancel(0)])
    first = writer.close_epoch("one")
    writer.commit()
    assert pending_of(first).rows == [cancel(0)]
    writer.take([cancel(1), cancel(2)])
    second = writer.close_epoch("two")
    for _ in range(2):
        start = writer_of(settings)
        start.resume(pending_of(second), reached(3))
        assert offsets_of(settings) == [0, 1, 2]
    assert start.close_epoch("three") == PENDING_CORRECTIONS.set_to(PendingCorrections(), "0")
    assert start.close_epoch("four") == {}


def test_rows_that_trades_lack_are_not_added_again(settings: Settings) -> None:
    """If `trades` was put back to an earlier state, a replay counts them, and finds them in the table."""
    writer = writer_of(settings)
    writer.take([cancel(0)])
    earlier = writer.close_epoch("one")
    writer.commit()
    writer.take([cancel(1), cancel(2)])
    writer.close_epoch("two")
    writer.commit()
    start = writer_of(settings)
    start.resume(pending_of(earlier), reached(1))
    replayed = [cancel(1), cancel(2), cancel(3)]
    assert [start.is_duplicate(one) for one in replayed] == [False] * 3
    start.take(replayed)
    start.close_epoch("three")
    start.commit()
    assert offsets_of(settings) == [0, 1, 2, 3]


def test_rows_of_other_messages_are_refused(settings: Settings) -> None:
    """If trades and topic were dropped and created again, the old table is not taken for theirs."""
    writer = writer_of(settings)
    writer.take([cancel(0)])
    writer.close_epoch("one")
    writer.commit()
    start = writer_of(settings)
    start.resume(PendingCorrections(), {})
    with pytest.raises(TableError, match=r"has another correction at offset 0 of t:0 than the topic: .* rename it"):
        start.is_duplicate(cancel(0, trade_id="another"))


def test_of_two_instances_one_is_fenced(settings: Settings) -> None:
    """One that was frozen before its second commit cannot add rows that another start has added."""
    frozen = writer_of(settings)
    frozen.take([cancel(0)])
    pending = pending_of(frozen.close_epoch("one"))
    other = writer_of(settings)
    other.resume(pending, reached(1))
    other.take([cancel(1)])
    other.close_epoch("two")
    other.commit()
    with pytest.raises(FencedError, match=r"another instance writes to table market_data\.corrections"):
        frozen.commit()
    assert offsets_of(settings) == [0, 1]


def test_old_corrections_are_not_read_at_a_start(settings: Settings) -> None:
    """Those of two windows before the newest are, by Kafka time."""
    writer = writer_of(settings)
    for number in range(4):
        writer.take([cancel(number, kafka_timestamp=number * WINDOW_US)])
        writer.close_epoch(f"{number}")
        writer.commit()
    start = writer_of(settings)
    start.resume(PendingCorrections(), reached(4))
    copies = [cancel(number, kafka_timestamp=number * WINDOW_US) for number in range(4)]
    assert [start.is_duplicate(one) for one in copies] == [False, True, True, True]

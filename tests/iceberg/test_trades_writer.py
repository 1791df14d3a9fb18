"""The guarantees of a writer against a real catalog: rows and progress in one commit, once, whatever is replayed."""

import math
import pickle
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from pyiceberg.table import Table

from k2.iceberg.sink import TradesSink
from k2.iceberg.table_progress import progress_of, read_progress
from k2.iceberg.tables import TableName, open_table
from k2.model.batch import NULL_TIME
from k2.model.errors import DeadLetterRatioError, UnreachableError
from k2.model.origin import MessageMarks
from k2.model.progress import Counts, PartitionProgress, Progress, TopicPartition
from k2.model.reasons import Reason
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from k2.storage.dead_letters.files import Position, read_dead_letters
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.table_properties import DEAD_LETTER_POSITIONS
from tests.iceberg.trades_table import (
    DAY,
    SCALE,
    decimal_of,
    offsets_of,
    read_to,
    row_at,
    rows_of,
    settings_in,
    writer_of,
)
from tests.model.trade_slices import Row, slice_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = 10**38 - 1
HERE = TopicPartition("trades", 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a job in a folder of its own, with a space in its path."""
    return settings_in(tmp_path / "a b")


@pytest.fixture
def table(settings: Settings) -> Table:
    """Return the table `trades`."""
    return open_table(open_catalog(settings), settings, TableName.TRADES)


@pytest.mark.parametrize(
    "row",
    [
        row_at(0),
        row_at(0, price=-1, quantity=-SCALE - 1),
        row_at(0, price=LARGEST, quantity=-LARGEST),
        row_at(0, price=2**64, quantity=2**64 - 1),
        row_at(0, trade_id=None, sequence=None, side=0),
        row_at(0, trade_id="", sequence=-(2**63), side=2),
        row_at(0, trade_id="ü" * 300, sequence=2**63 - 1, received=5, kafka_timestamp=7, trade_index=9),
        row_at(0, timestamp=-1),
        row_at(0, sequence=9, first_sequence=-3),
        row_at(0, exchange="a/b ü", symbol="BTC/USD ü", timestamp=30_000 * DAY + 1),
    ],
)
def test_every_value_survives_a_round_trip(settings: Settings, table: Table, row: Row) -> None:
    """Extremes of each column are preserved in the file, nulls included."""
    writer = writer_of(settings)
    writer.write_batch([slice_of([row], session=3), read_to(1)])
    writer.snapshot()
    [found] = rows_of(table)
    times = {"timestamp": row.timestamp, "received": row.received, "kafka_timestamp": row.kafka_timestamp}
    for name, value in times.items():
        wanted = None if value in {None, NULL_TIME} else EPOCH + timedelta(microseconds=value)
        assert found.pop(name) == wanted
    assert found == {
        "exchange": row.exchange,
        "symbol": row.symbol,
        "trade_id": row.trade_id,
        "sequence": row.sequence,
        "session": 3,
        "price": decimal_of(row.price),
        "quantity": decimal_of(row.quantity),
        "side": (None, "buy", "sell")[row.side],
        "topic": "trades",
        "partition": 0,
        "offset": 0,
        "index": row.trade_index,
        "origin": None,
        "first_sequence": row.first_sequence,
    }


def test_a_row_has_the_origin_of_its_message(settings: Settings, table: Table) -> None:
    """Over several files and buffers; other rows of the same file have none."""
    writer = writer_of(settings)
    for first in (0, 4):
        piece = slice_of([row_at(first + place, timestamp=place % 2 * DAY) for place in range(4)], first_offset=first)
        origins = {0: MessageMarks(f"person {first}"), 1: MessageMarks(None, "k2"), 3: MessageMarks("person ann")}
        source = replace(piece.batch.source, marks=origins)
        writer.write_batch([replace(piece, batch=replace(piece.batch, source=source)), read_to(first + 4)])
        writer.snapshot()
    found = {row["offset"]: row["origin"] for row in rows_of(table)}
    named = [["person 0", None, None, "person ann"], ["person 4", None, None, "person ann"]]
    assert [[found[first + place] for place in range(4)] for first in (0, 4)] == named


def test_a_file_contains_one_day_and_exchange_sorted(settings: Settings, table: Table) -> None:
    """Mixed rows are split into a file for each partition, sorted by symbol and time; dictionaries do not show."""
    symbols, exchanges = ["b", "a", "ü", "B", "z"], ["kraken", "okx"]
    rows = [
        row_at(
            offset,
            symbol=symbols[offset % 5],
            exchange=exchanges[offset % 2],
            timestamp=20_000 * DAY + (offset * 7919 % 4) * DAY // 2 - offset % 3,
        )
        for offset in range(200)
    ]
    writer = writer_of(settings)
    writer.write_batch([slice_of(rows), read_to(200)])
    writer.snapshot()
    files = [task.file for task in table.refresh().scan().plan_files()]
    for file in files:
        found = pq.read_table(file.file_path.removeprefix("file://"), partitioning=None).to_pylist()
        days = {int((row["timestamp"] - EPOCH) // timedelta(days=1)) for row in found}
        assert ({row["exchange"] for row in found}, days) == ({file.partition[1]}, {file.partition[0]})
        keys = [(row["symbol"].encode(), row["timestamp"], row["offset"]) for row in found]
        assert keys == sorted(keys)
        assert file.sort_order_id == table.sort_order().order_id
    wanted = {(row.timestamp // DAY, row.exchange) for row in rows}
    assert sorted((file.partition[0], file.partition[1]) for file in files) == sorted(wanted)
    assert offsets_of(table) == list(range(200))


def test_a_commit_records_the_lag_if_it_is_known(settings: Settings, table: Table) -> None:
    """In the summary of its snapshot."""
    lags = iter([math.nan, 12.0])
    writer = writer_of(settings, lag=lambda: next(lags))
    for offset in range(2):
        writer.write_batch([slice_of([row_at(offset)]), read_to(offset + 1)])
        writer.snapshot()
    summaries = [snapshot.summary for snapshot in table.refresh().snapshots()]
    assert [summary and summary["k2.lag"] for summary in summaries] == [None, "12"]


def test_rows_and_progress_are_one_commit(settings: Settings, table: Table) -> None:
    """One snapshot has the rows, the progress with its totals, and a summary of only that commit."""
    reported: list[Progress] = []
    writer = writer_of(settings, on_commit=reported.append)
    verdicts = [0, 0, DUPLICATE, CONFLICT, 0]
    first = slice_of([row_at(offset, verdict=verdict) for offset, verdict in enumerate(verdicts)])
    writer.write_batch([first, read_to(8, rejected=[5], skipped=[6, 7])])
    assert writer.snapshot()["offsets"] == {"trades:0": 8}
    writer.write_batch([read_to(10), slice_of([row_at(8), row_at(9, verdict=DUPLICATE)])])
    writer.snapshot()
    assert offsets_of(table) == [0, 1, 4, 8]
    total = PartitionProgress(10, received=10, stored=4, duplicates=2, dead_letters=2, skipped=2)
    assert read_progress(settings).of("0") == {HERE: total} == reported[-1].of("0")
    assert total.counts.holds
    snapshot = table.current_snapshot()
    assert len(table.snapshots()) == 2
    assert snapshot is not None
    assert snapshot.summary is not None
    assert {name: snapshot.summary[f"k2.{name}"] for name in ("writer", "received", "stored", "duplicates")} == {
        "writer": "0",
        "received": "2",
        "stored": "1",
        "duplicates": "1",
    }
    alone = Progress.parse(snapshot.summary["k2.progress"])
    assert alone.of("0")[HERE] == PartitionProgress(10, received=2, stored=1, duplicates=1)


@pytest.mark.parametrize("is_applied", [True, False])
def test_dead_letters_are_those_that_commits_count(settings: Settings, table: Table, *, is_applied: bool) -> None:
    """Unreadable messages and conflicts: durable before the commit, and stored once, whether or not it is applied."""

    def epoch() -> None:
        sink = TradesSink(settings)
        writer = sink.build_part("iceberg_out", "00", None)
        try:
            writer.write_batch(
                [slice_of([row_at(0), row_at(1, verdict=CONFLICT, trade_index=2)]), read_to(4, rejected=[3])]
            )
            with monkeypatch.context() as patch:
                if not is_applied:
                    patch.setattr(sink.committer, "commit", _fails)
                with nullcontext() if is_applied else pytest.raises(UnreachableError):
                    writer.snapshot()
        finally:
            writer.close()

    monkeypatch = pytest.MonkeyPatch()
    epoch()
    is_applied = True
    epoch()
    found = list(read_dead_letters(LocalFolder(settings.dead_letter_folder), pytest.fail))
    assert sorted((one.offset, one.index, str(one.reason)) for one in found) == [
        (1, 2, "conflict"),
        (3, 0, "malformed"),
    ]
    assert "trade id 'id' of kraken BTC-USD is stored with price 1, quantity 1, side buy" in next(
        one.error for one in found if one.reason is Reason.CONFLICT
    )
    (recorded,) = DEAD_LETTER_POSITIONS.read(table.refresh().properties, "0").values()
    (path,) = settings.dead_letter_folder.glob("dlq-*")
    assert recorded == Position(1, path.stat().st_size)


def test_too_many_dead_letters_end_the_epoch_before_its_commit(settings: Settings, table: Table) -> None:
    """Neither rows nor dead letters of that epoch remain, and a start without the limit reads them again."""

    def epochs(limited: Settings) -> None:
        writer = TradesSink(limited).build_part("iceberg_out", "00", None)
        try:
            writer.write_batch([slice_of([row_at(0)]), replace(read_to(4, rejected=[1, 2, 3]), messages=4)])
            writer.snapshot()
            writer.write_batch([slice_of([row_at(4)]), replace(read_to(5), first_offset=4, messages=1)])
            more = replace(read_to(20, rejected=range(5, 20)), first_offset=5, messages=15)
            writer.write_batch([more])
            writer.snapshot()
        finally:
            writer.close()

    limits = {"dlq_ratio_max": 0.7, "dlq_ratio_messages_min": 10}
    with pytest.raises(DeadLetterRatioError, match=r"100\.0 % of the last 15 messages are dead letters by venue 'k2'"):
        epochs(settings.model_copy(update=limits))
    assert progress_of(table.refresh()).counts(HERE) == Counts(4, 1, 0, 3)
    found = list(read_dead_letters(LocalFolder(settings.dead_letter_folder), pytest.fail))
    assert [one.offset for one in found] == [1, 2, 3]
    epochs(settings)
    assert progress_of(table.refresh()).counts(HERE) == Counts(20, 2, 0, 18)
    assert offsets_of(table) == [0, 4]


def test_replayed_messages_do_not_count_against_the_limit(settings: Settings, table: Table) -> None:
    """Their dead letters are in the table: they neither stop the job nor hide new ones."""
    limited = settings.model_copy(update={"dlq_ratio_max": 0.4, "dlq_ratio_messages_min": 10})
    for _ in range(2):
        writer = TradesSink(limited).build_part("iceberg_out", "00", None)
        writer.write_batch([replace(read_to(8, rejected=range(8)), messages=8)])
        writer.snapshot()
        writer.close()
    writer = TradesSink(limited).build_part("iceberg_out", "00", None)
    writer.write_batch([replace(read_to(17, rejected=[*range(8), 10, 11, 12]), messages=17)])
    with pytest.raises(DeadLetterRatioError, match=r"of the last 12 messages"):
        writer.write_batch([replace(read_to(20, rejected=range(17, 20)), first_offset=17, messages=3)])
    writer.close()


def test_replays_that_fail_again_do_not_count_against_the_limit(settings: Settings, table: Table) -> None:
    """Neither as messages nor as dead letters: a mistake of whoever replays must not stop the capture of the feed."""
    limited = settings.model_copy(update={"dlq_ratio_max": 0.4, "dlq_ratio_messages_min": 10})
    writer = TradesSink(limited).build_part("iceberg_out", "00", None)
    writer.write_batch([replace(read_to(50, rejected=range(50)), messages=50, is_live=False)])
    writer.write_batch([replace(read_to(59, rejected=range(50, 59)), first_offset=50, messages=9)])
    writer.snapshot()
    assert progress_of(table.refresh()).counts(HERE).dead_letters == 59
    with pytest.raises(DeadLetterRatioError, match=r"90\.0 % of the last 10 messages"):
        writer.write_batch([replace(read_to(60), first_offset=59, messages=1)])
    writer.close()


def _fails(_pending: object) -> None:
    raise UnreachableError("the catalog does not answer")


def test_an_empty_epoch_commits_nothing(settings: Settings, table: Table) -> None:
    """Neither an idle epoch nor one with stored rows makes a snapshot; moved progress alone does."""
    writer = writer_of(settings)
    writer.snapshot()
    assert table.refresh().snapshots() == []
    writer.write_batch([slice_of([row_at(0, verdict=DUPLICATE)]), read_to(1)])
    writer.snapshot()
    writer.write_batch([slice_of([row_at(0)]), read_to(1)])
    writer.snapshot()
    assert len(table.refresh().snapshots()) == 1
    assert offsets_of(table) == []


@trying(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 29), max_size=4), killed_at=st.integers(0, 30), repeat=st.integers(0, 30))
def test_a_replay_doubles_and_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], killed_at: int, repeat: int
) -> None:
    """Whatever was committed before a kill, and wherever the replay starts and is cut, each row is stored once."""
    settings = settings_in(tmp_path_factory.mktemp("replay"))
    verdicts = [0, 0, 0, DUPLICATE, CONFLICT]
    rows = [row_at(offset // 2, trade_index=offset % 2, verdict=verdicts[offset % 5]) for offset in range(60)]
    writer = writer_of(settings)
    if killed_at:
        writer.write_batch([slice_of(rows[: 2 * killed_at]), read_to(killed_at)])
        writer.snapshot()
        writer.write_batch([slice_of(rows[:10])])
    again = writer_of(settings)
    bounds = [min(repeat, killed_at), *sorted(cuts), 30]
    for start, stop in pairwise(bounds):
        if start < stop:
            again.write_batch([read_to(stop), slice_of(rows[2 * start : 2 * stop])])
            again.snapshot()
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    stored = [(row.offset, row.trade_index) for row in rows if row.verdict == STORED]
    assert [(row["offset"], row["index"]) for row in rows_of(table)] == stored
    counts = progress_of(table).counts(HERE)
    assert counts.holds
    assert counts.stored == len(stored)


def test_memory_is_bounded_by_flushing_files(settings: Settings, table: Table) -> None:
    """An epoch with more rows than a buffer holds is several files in one commit."""
    writer = writer_of(settings, flush_rows=30)
    writer.write_batch([slice_of([row_at(offset) for offset in range(100)]), read_to(100)])
    writer.snapshot()
    files = [task.file.record_count for task in table.refresh().scan().plan_files()]
    assert (sorted(files), len(table.snapshots())) == ([10, 30, 30, 30], 1)
    assert offsets_of(table) == list(range(100))


def test_a_slice_from_another_process_is_stored_the_same(settings: Settings, table: Table) -> None:
    """Pickled slices contain names and only their own rows."""
    rows = [row_at(offset, symbol=f"S{offset % 3}", trade_id=f"t{offset}") for offset in range(9)]
    writer = writer_of(settings)
    writer.write_batch([pickle.loads(pickle.dumps(slice_of(rows))), read_to(9)])  # noqa: S301
    writer.snapshot()
    found = [(row["symbol"], row["trade_id"], row["offset"]) for row in rows_of(table)]
    assert found == [(row.symbol, row.trade_id, row.offset) for row in rows]


def test_writers_keep_each_others_progress(tmp_path: Path) -> None:
    """Two writers of two processes commit in turn and lose nothing of each other, nor a foreign append."""
    settings = settings_in(tmp_path, writers=2)
    writers = [writer_of(settings, str(number)) for number in (0, 1)]
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    for epoch in range(3):
        for number, writer in enumerate(writers):
            first = epoch * 10
            rows = [row_at(offset) for offset in range(first + number, first + 10, 2)]
            writer.write_batch([slice_of(rows), read_to(first + 10)])
            writer.snapshot()
        if epoch == 0:
            table.refresh().append(table.scan().to_arrow().slice(0, 1))
    assert sorted(set(offsets_of(table))) == list(range(30))
    assert len(offsets_of(table)) == 31
    assert {number: read_progress(settings).of(str(number))[HERE].stored for number in (0, 1)} == {0: 15, 1: 15}


def test_rows_beyond_the_reported_offsets_are_a_bug(settings: Settings) -> None:
    """Rows outside a reported range would be read, and stored, again."""
    writer = writer_of(settings)
    writer.write_batch([slice_of([row_at(5)]), read_to(5)])
    with pytest.raises(AssertionError, match="beyond the ranges"):
        writer.snapshot()

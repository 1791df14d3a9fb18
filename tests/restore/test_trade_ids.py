"""Which ids a start reads from the table, and that it reads no more than necessary."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from k2.dedup.deduplicator import GroupDeduplicator
from k2.dedup.trade_id_hash import TradeIdHasher
from k2.dedup.window import CONFIRMATIONS
from k2.iceberg.tables import TableName
from k2.model.key_groups import GROUPS, group_of
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.state_source import Positions, Reach
from k2.model.symbols import Symbols
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.ops.settings import Settings, read_settings
from k2.query import engine
from k2.restore.trade_ids import StoredTradeIds
from tests.model.trade_slices import Row, slice_of
from tests.query.tables import append, made, trade

P0, P1 = TopicPartition("trades", 0), TopicPartition("trades", 1)
GROUP = group_of("binance", "BTCUSDT")
WINDOW = 1_000
ZERO = datetime(1970, 1, 1, tzinfo=UTC)


def unnumbered(offset: int, kafka_timestamp: int | None, **values: Any) -> dict[str, Any]:
    """Return a trade without a number whose id is its offset, with the content of a `Row`."""
    row = {
        "sequence": None,
        "price": Decimal("1e-18"),
        "quantity": Decimal("1e-18"),
        "side": None,
        "timestamp": ZERO + timedelta(microseconds=7),
        "kafka_timestamp": None if kafka_timestamp is None else ZERO + timedelta(microseconds=kafka_timestamp),
    }
    return trade(offset, **row | values)


def progress_to(**offsets: int) -> Progress:
    """Return the progress of one writer in partitions p0 and p1, with every message stored."""
    entries = {
        name: PartitionProgress(offset=offset, received=offset, stored=offset) for name, offset in offsets.items()
    }
    return Progress({"0": {TopicPartition("trades", int(name[1:])): entry for name, entry in entries.items()}})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a folder of its own."""
    return read_settings({}, data_dir=tmp_path)


@pytest.fixture
def table(settings: Settings) -> Table:
    """An empty table `trades`."""
    return made(settings, TableName.TRADES)


def times_given(ids: StoredTradeIds, *, is_resumed: bool) -> dict[TopicPartition, list[int]]:
    """Return the sorted times of the ids that one group gets."""
    given = ids.ids(GROUP, WINDOW, is_resumed=is_resumed)
    return {one.topic_partition: sorted(one.times.tolist()) for one in given}


def test_without_a_store_the_clocks_come_from_the_table(settings: Settings, table: Table) -> None:
    """The rows of a partition's last two windows are returned, however far ahead a wrong time among them is."""
    start = 100_000
    rows = [unnumbered(number, start + 40 * number) for number in range(CONFIRMATIONS + 50)]
    append(table, [*rows, unnumbered(999, 10**15), unnumbered(7, 9_000, partition=1), unnumbered(8, 5, partition=1)])
    reached = start + 40 * 51
    given = times_given(StoredTradeIds(settings, table, progress_to(p0=1_000, p1=9), None), is_resumed=False)
    wanted = [start + 40 * number for number in range(CONFIRMATIONS + 50)]
    floor = reached - 2 * WINDOW
    assert given[P0] == [at for at in wanted if at >= floor // 6 * 6] + [10**15]
    assert given[P1] == [5, 9_000]


def test_ids_from_the_table_are_those_of_the_stream(settings: Settings, table: Table) -> None:
    """A stored trade has the same id hash and content in the table and in a batch."""
    names = ["plain", "", "Ü€", "x" * 255]
    append(table, [unnumbered(number, 5_000, trade_id=name) for number, name in enumerate(names)])
    append(table, [unnumbered(9, None, trade_id="no time")])
    ids = StoredTradeIds(settings, table, progress_to(p0=10), None)
    deduplicator = GroupDeduplicator(WINDOW, hasher=TradeIdHasher(Symbols(), ids.hash_key))
    deduplicator.absorb(ids.ids(GROUP, WINDOW, is_resumed=False))
    batch = [Row(None, 7, "BTCUSDT", "binance", name, 5_000) for name in [*names, "other"]]
    batch += [Row(None, 7, "BTCUSDT", "binance", name, 5_000, price=2) for name in names]
    batch += [Row(None, 7, "BTCUSDT", "binance", "no time", at) for at in (WINDOW + 7, WINDOW + 8)]
    verdicts = [*[DUPLICATE] * len(names), STORED, *[CONFLICT] * len(names), DUPLICATE, STORED]
    assert deduplicator.deduplicate(slice_of(batch, partition=3)).verdicts.tolist() == verdicts


@pytest.mark.parametrize(
    ("written", "clocks", "given"),
    [
        # The store's clocks are unknown: partitions with a known clock are read to their end, others completely.
        (None, {P0: Reach(20_000, 20_500)}, {P0: [18_000, 20_000, 29_000], P1: [500, 10_000]}),
        # The store is level with the table: nothing is later than what it has seen, and no partition is unknown.
        ({"0": {P0: 10, P1: 10}}, {P0: Reach(20_000, 20_500)}, {P0: [18_000, 20_000]}),
        # The table is ahead in one partition, which is read to its end.
        ({"0": {P0: 5, P1: 10}}, {P0: Reach(20_000, 20_500)}, {P0: [18_000, 20_000, 29_000]}),
        ({"0": {P0: 10, P1: 5}}, {P0: Reach(20_000, 20_500)}, {P0: [18_000, 20_000], P1: [500, 10_000]}),
        ({}, {P1: Reach(2_500, 2_500)}, {P0: [1_000, 18_000, 20_000, 29_000], P1: [500, 10_000]}),
        # Clocks far apart: each partition has its own two windows.
        ({"0": {P0: 10, P1: 10}}, {P0: Reach(29_000, 29_000), P1: Reach(700, 700)}, {P0: [29_000], P1: [500]}),
    ],
)
def test_a_resumed_start_reads_by_its_clocks(
    settings: Settings,
    table: Table,
    written: Mapping[str, Positions] | None,
    clocks: Mapping[TopicPartition, Reach],
    given: dict[TopicPartition, list[int]],
) -> None:
    """For each partition it gets the ids that the clock requires, and those that no state has seen."""
    append(table, [unnumbered(number, at) for number, at in enumerate([1_000, 18_000, 20_000, 29_000])])
    append(table, [unnumbered(number, at, partition=1) for number, at in enumerate([500, 10_000])])
    ids = StoredTradeIds(settings, table, progress_to(p0=10, p1=10), written)
    for where, reach in clocks.items():
        ids.report_clocks({where: Reach(0, 0)})
        ids.report_clocks({where: reach})
    assert times_given(ids, is_resumed=True) == given


def test_files_of_other_times_are_not_read(settings: Settings, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start with a store reads the files of the last two windows, even if a partition fell silent long ago."""
    for number, at in enumerate([1_000_000, 2_000_000, 3_000_000, 4_000_000]):
        append(table, [unnumbered(number, at, partition=number % 2)])
    read = list[str]()
    plain = engine.planned_files

    def noted(*arguments: Any) -> Any:
        read.extend(plain(*arguments))
        return plain(*arguments)

    monkeypatch.setattr(engine, "planned_files", noted)
    ids = StoredTradeIds(settings, table, progress_to(p0=4, p1=4), {"0": {P0: 4, P1: 4}})
    ids.report_clocks({P0: Reach(1_000_000, 1_000_500), P1: Reach(4_000_000, 4_000_000)})
    assert times_given(ids, is_resumed=True) == {P0: [1_000_000], P1: [4_000_000]}
    assert len(read) == 2


def test_a_group_without_state_gets_the_tables_ids(settings: Settings, table: Table) -> None:
    """The clocks of other groups do not limit it."""
    append(table, [unnumbered(1, 5_000)])
    ids = StoredTradeIds(settings, table, progress_to(p0=2), {"0": {P0: 2}})
    ids.report_clocks({})
    assert times_given(ids, is_resumed=True) == {}
    assert times_given(ids, is_resumed=False) == {P0: [5_000]}


def test_ids_are_read_again_on_a_second_request(settings: Settings, table: Table) -> None:
    """The ids are not kept in memory, and are read again for a second caller."""
    append(table, [unnumbered(1, 5_000), unnumbered(2, 5_001, symbol="ETHUSDT")])
    ids = StoredTradeIds(settings, table, progress_to(p0=3), None)
    assert group_of("binance", "ETHUSDT") != GROUP
    without_rows = ({*range(GROUPS)} - {GROUP, group_of("binance", "ETHUSDT")}).pop()
    assert list(ids.ids(without_rows, WINDOW, is_resumed=False)) == []
    for _ in range(2):
        assert times_given(ids, is_resumed=False) == {P0: [5_000]}
    assert list(StoredTradeIds(settings, None, Progress(), None).ids(GROUP, WINDOW, is_resumed=False)) == []


def test_manifests_before_the_checkpoints_are_not_read(settings: Settings, table: Table) -> None:
    """States without a clock have seen no id, so only what was committed since can matter to them."""
    append(table, [unnumbered(1, 5_000)])
    after = table.metadata.last_sequence_number
    append(table, [unnumbered(2, 5_001)])
    ids = StoredTradeIds(settings, table, progress_to(p0=3), {"0": {P0: 2}}, committed_after=after)
    assert times_given(ids, is_resumed=True) == {P0: [5_001]}
    assert times_given(ids, is_resumed=False) == {P0: [5_000, 5_001]}
    ids.report_clocks({P0: Reach(5_000, 5_000)})
    assert times_given(ids, is_resumed=True) == {P0: [5_000, 5_001]}

"""A start without a recovery store: from the checkpoints and the rows since, or from all rows."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import structlog
from bytewax.testing import cluster_main
from prometheus_client import REGISTRY
from pyiceberg.table import Table
from structlog.typing import EventDict
from typer.testing import CliRunner

import operators.sequence
from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.cli.main import app
from k2.dedup.trade_id_hash import TradeIdHasher
from k2.iceberg import checkpoint_writer
from k2.iceberg.checkpoint_writer import CheckpointWriter
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_binding import bind_tables
from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName
from k2.maintenance.commits import live_files
from k2.maintenance.compaction import compact
from k2.model.batch import MessageBatch
from k2.model.errors import UnreachableError
from k2.model.key_groups import group_of
from k2.model.progress import TopicPartition
from k2.model.state_source import GroupState
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.ops.retry import RetryPolicy
from k2.ops.settings import Settings, read_settings
from k2.query.gaps import gaps
from k2.restore import checkpoints
from k2.restore.recovery_store import NO_STORE, ResumeInfo
from k2.restore.tables import TableStateSource
from k2.storage.catalog import find_table, open_catalog
from k2.storage.checkpoints import Checkpoint, CheckpointPlace
from k2.storage.recovery.backup import make_store
from k2.storage.table_properties import CHECKPOINTS
from tests.flows.job_io import MemorySource, message_batch

PARTITION = TopicPartition("trades", 0)
DAMAGED = {"checkpoint_unreadable", "checkpoints_incomplete"}
START = 1_700_000_000_000_000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with a folder of their own; each group has a checkpoint at every third row."""
    monkeypatch.setattr(operators.sequence, "CHECKPOINT_ROWS", 3)
    return read_settings({}, data_dir=tmp_path / "data")


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """Yield what is logged."""
    with structlog.testing.capture_logs() as found:
        yield found


def message(number: int | str) -> tuple[None, bytes]:
    """Return a trade with that sequence number, or with that id and none."""
    identity = {"sequence": number} if isinstance(number, int) else {"trade_id": number}
    fields = {"exchange": "x", "symbol": f"S-{type(number).__name__}", "price": "1", "quantity": f"{len(str(number))}"}
    at = number if isinstance(number, int) else 0
    return None, json.dumps({**fields, **identity, "timestamp": START + at}).encode()


def run(settings: Settings, *epochs: list[int | str]) -> None:
    """Run the job without a recovery store, with an epoch for each list of trades, from where the table ends."""
    trades = TradesSink(settings)
    entry = trades.open().of("0").get(PARTITION)
    offset = 0 if entry is None else entry.offset
    batches = [MessageBatch.first(PARTITION, "k2", offset)]
    for numbers in epochs:
        batches.append(message_batch([message(number) for number in numbers], offset))
        offset += len(numbers)
    events = LedgerSink(settings, trades.open(), fence=trades)
    bind_tables(trades.committer, events.committer, is_resumed=False)
    events.open()
    job_io = JobIO(MemorySource({"trades:0": batches}), trades, events, TableStateSource(settings))
    cluster_main(trades_flow(job_io, settings), [], 0, epoch_interval=timedelta(0))


def counts(settings: Settings) -> tuple[int, int, int]:
    """Return how many trades are stored, dropped as duplicates, and dead letters."""
    entry = read_progress(settings).of("0")[PARTITION]
    return entry.stored, entry.duplicates, entry.dead_letters


def missing(settings: Settings) -> list[tuple[int, int, int]]:
    """Return session, first and last number of the open gaps."""
    return [(gap.session, gap.first_sequence, gap.last_sequence) for gap in gaps(settings)]


def checkpoint_files(settings: Settings) -> list[Path]:
    """Return the files of checkpoints, the oldest first."""
    files = settings.data_dir.glob("warehouse/**/checkpoints-*.bin")
    return sorted(files, key=lambda file: file.stat().st_mtime_ns)


def data_files(settings: Settings) -> list[Path]:
    """Return the data files of the trades, the oldest first."""
    files = settings.data_dir.glob("warehouse/**/trades/**/*.parquet")
    return sorted(files, key=lambda file: file.stat().st_mtime_ns)


def test_older_rows_are_not_read(settings: Settings, logs: list[EventDict]) -> None:
    """Their files may even be gone: what is missing is known from the checkpoint."""
    run(settings, [1, 2, 3, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14], [15])
    for file in data_files(settings)[:3]:
        file.unlink()
    run(settings, [4, 16])
    assert counts(settings) == (16, 0, 0)
    assert missing(settings) == []
    (read,) = [one for one in logs if one["event"] == "checkpoints_read"]
    assert (read["groups"], read["offsets_after"] < 10) == (16, True)


@pytest.mark.parametrize("are_lost", [False, True])
def test_a_compaction_hides_no_row_from_a_start(settings: Settings, logs: list[EventDict], *, are_lost: bool) -> None:
    """Rows before and after the checkpoints are in one new file: a start judges as if they were in the old ones.

    Those after the checkpoints are read, so a copy is a duplicate and a late number fills its gap; those before are not
    counted again. Without checkpoints, all rows come from the new files.
    """
    run(settings, [1, 2, 3, 5], [6, 7, 8], [10], ["a", "b"], [11])
    for which in (TableName.TRADES, TableName.SEQUENCE_EVENTS):
        assert [group.new_files for group in compact(settings, which)] in ([1], [])
    assert len(live_files(_table(settings))) == 1
    if are_lost:
        _all(checkpoint_files(settings))
    run(settings, [4, 10, 11, 12], ["b", "c"])
    assert counts(settings) == (14, 3, 0)
    assert missing(settings) == [(1, 9, 9)]
    assert any(one["event"] == "checkpoints_read" for one in logs) is not are_lost
    assert [group.new_files for group in compact(settings, TableName.TRADES)] == [1]
    run(settings, [9, 12, 13], ["c", "a"])
    assert counts(settings) == (16, 6, 0)
    assert missing(settings) == []


def _table(settings: Settings) -> Table:
    table = find_table(settings, "trades")
    assert table is not None
    return table


def _none(_files: list[Path]) -> None:
    pass


def _all(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def _newest(files: list[Path]) -> None:
    files[-1].unlink()


def _cut(files: list[Path]) -> None:
    files[-1].write_bytes(files[-1].read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "logged"),
    [
        (_none, []),
        (_newest, ["checkpoint_unreadable"]),
        (_cut, ["checkpoint_unreadable"]),
        (_all, ["checkpoint_unreadable", "checkpoints_incomplete"]),
    ],
)
def test_a_damaged_checkpoint_changes_no_verdict(
    settings: Settings, logs: list[EventDict], damage: Callable[[list[Path]], None], logged: list[str]
) -> None:
    """The one before is used, or the rows of the table, and the log and a metric say so."""
    run(settings, ["a", 1, 2, 5], [6, "b", 8, 9], [10, "c", 11, 13], [14, 15, "d", 16], [17])
    damage(checkpoint_files(settings))
    started = time.time()
    run(settings, [3, 9, "a", "d", 12], [18, 20, "e"])
    assert REGISTRY.get_sample_value("k2_state_rebuilt") == (damage is _all)
    assert (REGISTRY.get_sample_value("k2_checkpoint_timestamp_seconds", {"writer": "0"}) or 0) >= started
    assert counts(settings) == (22, 3, 0)
    assert missing(settings) == [(1, 4, 4), (1, 7, 7), (1, 19, 19)]
    assert [*dict.fromkeys(one["event"] for one in logs if one["event"] in DAMAGED)] == logged
    assert checkpoint_files(settings)


def test_a_store_that_does_not_answer_is_asked_again(
    settings: Settings, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that passes does not make a start read the whole table; one that lasts ends it."""
    run(settings, [1, 2], [3])
    monkeypatch.setattr(RetryPolicy, "wait_seconds", lambda *_: 0)
    read, faults = checkpoints.read_checkpoint, [OSError("slow down"), TimeoutError()]

    def fails(table: Table, place: CheckpointPlace) -> Checkpoint:
        if faults:
            raise faults.pop()
        return read(table, place)

    monkeypatch.setattr(checkpoints, "read_checkpoint", fails)
    TableStateSource(settings)
    assert [one["event"] for one in logs if one["event"] in {"retry", "checkpoints_read", *DAMAGED}] == [
        "retry",
        "retry",
        "checkpoints_read",
    ]
    faults += [OSError("away") for _ in range(9)]
    with pytest.raises(UnreachableError, match="reading a checkpoint failed 4 times, the last with: away"):
        TableStateSource(settings)


def test_what_a_start_would_read(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`k2 recovery status` says it of a start without the store."""

    def said() -> str:
        result = CliRunner().invoke(app, ["recovery", "status", str(tmp_path / "store"), "--json"])
        text: str = json.loads(result.stdout)["without_store"]
        return text

    monkeypatch.setenv("K2_DATA_DIR", str(settings.data_dir))
    make_store(tmp_path / "store", 1)
    run(settings, [1, 2], [3])
    run(settings, [4], [5, 6, 7, 8])
    assert re.fullmatch(r"reads the checkpoints, and the rows of [4-7] offsets since", said())
    _all(checkpoint_files(settings))
    assert said() == "reads all rows of the table: 16 key groups without a checkpoint"


def test_two_checkpoints_of_a_group_are_kept(settings: Settings) -> None:
    """Older files are removed, and every file is named by the table."""
    for start in range(1, 40, 4):
        run(settings, [*range(start, start + 4)])
    table = find_table(settings, "trades")
    assert table is not None
    named = CHECKPOINTS.read(table.metadata.properties, "0")
    assert {file.name for file in checkpoint_files(settings)} == named.files
    assert len(named.groups) == 16
    assert max(map(len, named.groups.values())) == 2
    assert len(named.files) <= 3


def ids(start: int, stop: int) -> list[int | str]:
    """Return that many ids."""
    return [f"id-{number}" for number in range(start, stop)]


def with_id_blocks(settings: Settings) -> frozenset[str]:
    """Run the job three times on 60 ids; return the files with blocks of ids."""
    for start in range(0, 60, 20):
        run(settings, *(ids(first, first + 4) for first in range(start, start + 20, 4)))
    named = CHECKPOINTS.read(_table(settings).metadata.properties, "0")
    return frozenset(file for places in named.groups.values() for place in places for file in place.id_files)


def test_ids_come_from_the_checkpoints(settings: Settings, logs: list[EventDict]) -> None:
    """Not from their rows, whose files may even be gone; only the ids since are read from rows."""
    with_id_blocks(settings)
    for file in data_files(settings)[:-4]:
        file.unlink()
    run(settings, ids(0, 60), ids(58, 62))
    assert counts(settings) == (62, 62, 0)
    assert not [one for one in logs if one["event"] in DAMAGED]


def _emptied(files: list[Path]) -> None:
    for file in files:
        file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [_all, _emptied])
def test_ids_without_their_block_come_from_the_rows(
    settings: Settings, logs: list[EventDict], damage: Callable[[list[Path]], None]
) -> None:
    """The state of the checkpoint is used all the same, and the log says what is read."""
    files = with_id_blocks(settings)
    named = CHECKPOINTS.read(_table(settings).metadata.properties, "0")
    states = {place.file for places in named.groups.values() for place in places}
    older = [file for file in checkpoint_files(settings) if file.name in files - states]
    assert older
    damage(older)
    logs.clear()
    run(settings, ids(0, 60), ids(58, 62))
    assert counts(settings) == (62, 62, 0)
    (found,) = [one for one in logs if one["event"] in DAMAGED]
    assert found["effect"] == "ids are read from the rows of the table"


@pytest.mark.parametrize("is_resumed", [True, False])
def test_which_blocks_a_start_uses(settings: Settings, *, is_resumed: bool) -> None:
    """Those that reach as far back as the window, under the table's key, with a recovery store as without."""
    with_id_blocks(settings)
    resume_info = ResumeInfo(is_resumed=True, sources=frozenset(), written={}) if is_resumed else NO_STORE
    source = TableStateSource(settings, resume_info)
    group, window_us = group_of("x", "S-str"), settings.dedup_window_seconds * SECOND_US
    key_check = TradeIdHasher(Symbols(), source.id_hash_key).key_check
    blocks = source.id_blocks(group, window_us, key_check)
    assert sum(block.count for block, _ in blocks) >= 57
    assert [block for block, _ in source.id_blocks(group, window_us // 2, key_check)] == [block for block, _ in blocks]
    assert not source.id_blocks(group, window_us + 1, key_check)
    assert not source.id_blocks(group, window_us, "of another table")
    assert not source.id_blocks((group + 1) % 16, window_us, key_check)
    assert (source.checkpoint(group) is None) is is_resumed


def test_checkpoints_of_an_earlier_version_have_no_ids(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start after them reads the ids from the rows, and the next one has them in blocks."""
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "add", partialmethod(_without_ids, CheckpointWriter.add))
        assert not with_id_blocks(settings)
    run(settings, ids(0, 60))
    assert counts(settings) == (60, 60, 0)
    named = CHECKPOINTS.read(_table(settings).metadata.properties, "0")
    assert named.has_ids
    for file in data_files(settings)[:-2]:
        file.unlink()
    run(settings, ids(0, 60))
    assert counts(settings) == (60, 120, 0)


def _without_ids(writer: CheckpointWriter, add: Any, table: Table, group: int, state: GroupState, seen: Any) -> None:
    add(writer, table, group, state._replace(ids=None, new_ids=None), seen)


def test_files_of_ids_are_removed_with_their_last_block(settings: Settings) -> None:
    """What lies in the folder is what the table names, and blocks are merged."""
    for _ in range(3):
        with_id_blocks(settings)
    assert {file.name for file in checkpoint_files(settings)} == {
        file for one in CHECKPOINTS.read_all(_table(settings).metadata.properties) for file in one.files
    }
    run(settings, ids(60, 140), ids(140, 143), ids(143, 146), ids(146, 149))
    assert counts(settings) == (149, 120, 0)
    assert len(with_id_blocks(settings)) < 12


def test_a_new_ledger_is_rebuilt_from_all_rows(settings: Settings) -> None:
    """The checkpoint has seen rows whose events only the dropped ledger had."""
    run(settings, [1, 2, 5], [6, 7, 8], [9, 10, 11], [12])
    open_catalog(settings).drop_table("market_data.sequence_events")
    run(settings, [13])
    assert missing(settings) == [(1, 3, 4)]


def test_a_state_from_a_checkpoint_has_no_positions(settings: Settings) -> None:
    """They would outlive the run in a new recovery store, whose other groups may not have read so far."""
    run(settings, [1, 2, 3, 4], ["a", 5], [6, 7, 8, 9])
    source = TableStateSource(settings)
    for group in range(16):
        state = source.checkpoint(group)
        assert state is not None
        assert state.deduplicate is not None
        assert (state.sequence["positions"], state.deduplicate["positions"]) == ([], [])


def test_idle_groups_advance_without_a_new_state(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their writer commits while other writers' groups have the rows."""
    monkeypatch.setattr(checkpoint_writer, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(operators.sequence, "CHECKPOINT_ROWS", 10**6)
    writers = settings.model_copy(update={"writers": 2})
    run(writers, [1, 2, 3, 4], [5, 6], [7, 8], [9])
    table = find_table(writers, "trades")
    assert table is not None
    named = CHECKPOINTS.read_all(table.metadata.properties)
    assert max(offset for one in named for _, _, offset in one.positions) >= 6
    assert {len(one.idle) for one in named} == {8, 7}


def test_an_older_table_has_no_checkpoints(settings: Settings, logs: list[EventDict]) -> None:
    """Its first start reads all rows, and takes the checkpoints from which the next one starts."""
    run(settings, [1, 2, 5], [6])
    table = find_table(settings, "trades")
    assert table is not None
    with table.transaction() as transaction:
        transaction.remove_properties("k2.checkpoints.0")
    _all(checkpoint_files(settings))
    run(settings, [3, 6])
    assert not [one for one in logs if one["event"] == "checkpoints_read"]
    run(settings, [4, 2])
    assert [one for one in logs if one["event"] == "checkpoints_read"]
    assert counts(settings) == (6, 2, 0)
    assert missing(settings) == []

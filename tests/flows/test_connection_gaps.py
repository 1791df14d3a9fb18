"""Gaps in the numbers of connections through the real flow into real tables: reported once, wherever it crashes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bytewax.testing import cluster_main

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition
from k2.ops.failpoints import Name
from k2.ops.metrics import CONNECTION_GAPS
from k2.ops.settings import Settings, read_settings
from k2.query.connection_gaps import connection_gaps
from k2.query.gaps import gaps
from tests.flows.crash import BATCH, Crash, run_to_crash, run_to_end
from tests.flows.job_io import FIRST_KAFKA_TIME, MemorySource, message_batch
from tests.query.tables import made

CONNECTIONS = ("c-1", "c-2", "c-3")
LOST = {("c-1", number) for number in (3, 4, 17)} | {("c-2", 1), ("c-3", 12)}


def line_of(name: str, number: int) -> bytes:
    """Return a message of dYdX: every third has a trade."""
    message: dict[str, Any] = {"type": "connected", "connection_id": name, "message_id": number}
    if number % 3 == 0:
        trade = {
            "id": f"{name}-{number}",
            "side": "BUY",
            "size": "0.5",
            "price": "60000",
            "createdAt": "2024-10-15T10:00:00.123Z",
        }
        message |= {"type": "channel_data", "channel": "v4_trades", "id": "BTC-USD", "contents": {"trades": [trade]}}
    return msgspec.json.encode(message)


def log(partition: int) -> list[bytes]:
    """Return the messages of one of two partitions: each connection's messages are spread over both."""
    every = [(name, number) for name in CONNECTIONS for number in range(20)]
    return [line_of(*one) for idx, one in enumerate(every) if one not in LOST and idx * 7 % 3 % 2 == partition]


def batches(settings: Settings, ends: dict[int, int], size: int = 5) -> dict[str, Sequence[MessageBatch]]:
    """Return what the partitions have from the offset that all writers have committed, up to some ends."""
    found, progress = {}, read_progress(settings)
    writers = [progress.of(str(writer)) for writer in range(settings.writers)]
    for partition, end in ends.items():
        one = TopicPartition("trades", partition)
        first = min(entries[one].offset if one in entries else 0 for entries in writers)
        found[f"trades:{partition}"] = [
            MessageBatch.first(one, "dydx", first),
            *(
                message_batch(
                    [(None, value) for value in log(partition)[at : min(at + size, end)]], at, partition, venue="dydx"
                )
                for at in range(first, end, size)
            ),
        ]
    return found


def land(settings: Settings, ends: dict[int, int], workers: int = 1) -> None:
    """Run the flow to its end, an epoch for each batch."""
    run_to_end(settings, batches(settings, ends), workers, BATCH)


def missing(settings: Settings) -> list[tuple[str, int, int]]:
    """Return the missing numbers that the report has."""
    return [(one.connection, one.first_number, one.last_number) for one in connection_gaps(settings)]


ALL = {0: len(log(0)), 1: len(log(1))}
EXPECTED = [("c-1", 3, 4), ("c-1", 17, 17), ("c-2", 1, 1), ("c-3", 12, 12)]


def events_of(settings: Settings) -> list[tuple[str, str, int, int]]:
    """Return the events of connections that the ledger has."""
    table: Any = made(settings, TableName.SEQUENCE_EVENTS)
    rows = table.scan().to_arrow().sort_by([("symbol", "ascending"), ("first_sequence", "ascending")]).to_pylist()
    return [(row["event"], row["symbol"], row["first_sequence"], row["last_sequence"]) for row in rows]


@pytest.mark.parametrize(("writers", "workers"), [("1", 1), ("3", 2)])
def test_lost_messages_are_reported(tmp_path: Path, writers: str, workers: int) -> None:
    """With the message after each gap; they are no gaps of trades, and count in no partition count."""
    settings = read_settings({"K2_WRITERS": writers}, data_dir=tmp_path)
    before = CONNECTION_GAPS.labels("dydx")._value.get()
    land(settings, ALL, workers=workers)
    assert missing(settings) == EXPECTED
    assert CONNECTION_GAPS.labels("dydx")._value.get() - before == len(EXPECTED)
    assert gaps(settings) == []
    assert sum(entry.received for writer in read_progress(settings).writers.values() for entry in writer.values()) == (
        sum(ALL.values())
    )
    one = connection_gaps(settings, "dydx")[0]
    assert log(one.partition)[one.offset] == line_of("c-1", 5)
    assert one.timestamp.timestamp() * 1e6 == FIRST_KAFKA_TIME + one.offset * 1_000
    assert connection_gaps(settings, "binance") == []


@pytest.mark.parametrize("cut", [(0, 0), (1, 18), (5, 5), (13, 2), (20, 16)])
def test_a_start_goes_on_where_the_table_ends(tmp_path: Path, cut: tuple[int, int]) -> None:
    """With other workers; a gap that spans it is reported once; one that the other partition still had is filled."""
    settings = read_settings({}, data_dir=tmp_path)
    land(settings, dict(enumerate(cut)))
    land(settings, ALL, workers=2)
    assert missing(settings) == EXPECTED
    land(settings, ALL)
    assert missing(settings) == EXPECTED


@pytest.mark.parametrize("passing", [1, 3, 6])
@pytest.mark.parametrize(
    "name", ["trades.closing", "commit.staged", "trades.snapshot", "events.taken", "events.closing", "events.committed"]
)
def test_a_crash_changes_nothing(tmp_path: Path, name: Name, passing: int) -> None:
    """Between any two commits, of either table and of any writer."""
    settings = read_settings({"K2_WRITERS": "2"}, data_dir=tmp_path)
    land(settings, {0: 9, 1: 14})
    run_to_crash(settings, batches(settings, ALL), Crash(name, passing))
    land(settings, ALL)
    assert missing(settings) == EXPECTED
    gaps_of = [one for one in events_of(settings) if one[0] == "connection_gap"]
    for connection, number in LOST:
        assert len([one for one in gaps_of if one[1] == connection and one[2] <= number <= one[3]]) == 1


def test_numbers_that_another_table_passed_over_are_no_gap(tmp_path: Path) -> None:
    """Messages that the job read under a table without `connection` are unknown, so counting begins again."""
    settings = read_settings({}, data_dir=tmp_path)
    land(settings, {0: 9, 1: 14})
    progress = read_progress(settings)
    trades = TradesSink(settings, progress)
    trades.open()
    events = LedgerSink(settings, progress, fence=trades)
    events.open()
    plain = [message_batch([(None, b"{}")] * 4, 9, venue="k2")]
    cluster_main(trades_flow(JobIO(MemorySource({"trades:0": plain}), trades, events), settings), [], 0)
    found = missing(settings)
    land(settings, ALL)
    assert [one for one in missing(settings) if one[0] == "c-1"] == [one for one in found if one[0] == "c-1"]

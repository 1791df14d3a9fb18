"""Gaps above the newest trade, through the real flow into real tables: known after every crash, and filled later."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest

from k2.iceberg.table_progress import read_progress
from k2.model.batch import MessageBatch
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.ops.failpoints import Name
from k2.ops.settings import Settings, read_settings
from k2.query.completeness import by_day
from k2.query.gap_causes import explained
from k2.query.gaps import gaps
from k2.query.reconcile import reconcile
from k2.query.symbol_topics import topic_partition_of
from k2.venues import VENUES
from tests.flows.crash import BATCH, Crash, run_to_crash, run_to_end
from tests.flows.job_io import FIRST_KAFKA_TIME, message_batch

START: Final = 1_723_161_255_000_000
Line = tuple[str, int, bool]
"""Symbol, number, and whether the message only names it."""

LOGS: Final[dict[int, list[Line]]] = {
    0: [
        *(("A", number, False) for number in range(1, 6)),
        ("A", 9, True),
        ("A", 7, False),
        ("A", 9, True),
        ("C", 1, False),
        ("B", 4, True),
        ("A", 8, False),
        ("A", 12, True),
        ("A", 14, False),
        ("A", 16, True),
        ("C", 2, False),
    ],
    1: [("B", 1, False), ("B", 2, False)],
}
MISSING: Final = {("A", 6, 6), ("A", 9, 13), ("A", 15, 16), ("B", 3, 4)}


def batches(settings: Settings, size: int) -> dict[str, Sequence[MessageBatch]]:
    """Return what the partitions have from the committed offsets on."""
    found, progress = {}, read_progress(settings)
    for partition, log in LOGS.items():
        one = TopicPartition("trades", partition)
        first = progress.next_offset(one, ["0"]) or 0
        of_partition = [MessageBatch.first(one, "k2", first)]
        for at in range(first, len(log), size):
            lines = log[at : at + size]
            batch = message_batch([(None, value_of(*line)) for line in lines], at, partition)
            marks = {idx: MessageMarks("person ann", "k2-head") for idx, line in enumerate(lines) if line[2]}
            of_partition += replace(batch, marks=marks).runs(VENUES)
        found[str(one)] = of_partition
    return found


def value_of(symbol: str, number: int, is_head: bool) -> bytes:  # noqa: FBT001  part of a line
    """Return a trade, or what `k2 head` publishes."""
    name = {"exchange": "x", "symbol": symbol, "sequence": number}
    trade = {"price": str(number), "quantity": "1", "timestamp": START + number}
    return msgspec.json.encode(name | ({"type": "head"} if is_head else trade))


def land(settings: Settings, size: int) -> None:
    """Run the flow to its end, an epoch for each batch."""
    run_to_end(settings, batches(settings, size), epoch_interval=BATCH)


CRASHES: Final[tuple[tuple[Name, int], ...]] = tuple(
    (name, passing)
    for name in ("trades.committed", "events.closing", "events.committed", "trades.closing")
    for passing in (2, 5)
)


@pytest.mark.parametrize("crash", [None, *CRASHES], ids=str)
def test_numbers_that_were_named_are_missing_until_they_come(tmp_path: Path, crash: tuple[Name, int] | None) -> None:
    """Named at once or by a person; before and after a crash between the commits of trades and events."""
    settings = read_settings({}, data_dir=tmp_path)
    if crash is not None:
        run_to_crash(settings, batches(settings, 2), Crash(*crash))
    land(settings, 3)
    found = gaps(settings)
    assert {(gap.symbol, gap.first_sequence, gap.last_sequence) for gap in found} == MISSING
    assert {gap.cause for gap in explained(settings, found)} == {"tail"}
    totals = {symbol: sum(day.missing or 0 for day in by_day(settings) if day.symbol == symbol) for symbol in "ABC"}
    assert totals == {"A": 8, "B": 2, "C": 0}
    (first, second) = reconcile(settings)
    assert (first.received, first.stored, first.skipped, first.holds) == (15, 10, 5, True)
    assert (second.stored, second.holds) == (2, True)
    assert topic_partition_of(settings, "x", "B") == TopicPartition("trades", 0)


def test_what_is_missing_above_the_newest_is_filled_after_a_start(tmp_path: Path) -> None:
    """By trades of a later run, which knows the numbers from the table alone."""
    settings = read_settings({}, data_dir=tmp_path)
    land(settings, 3)
    log = LOGS[1]
    try:
        log += [("B", 3, False), ("B", 4, False), ("A", 16, False)]
        land(settings, 1)
    finally:
        del log[2:]
    found = {(gap.symbol, gap.first_sequence, gap.last_sequence) for gap in gaps(settings)}
    assert found == {("A", 6, 6), ("A", 9, 13), ("A", 15, 15)}
    assert FIRST_KAFKA_TIME > START

"""Days of a market through the real flow: an open, a rebalance, a weekend."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, cluster_main

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.model.batch import MessageBatch, TradeSlice
from k2.model.consumed import Consumed
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.verdicts import DUPLICATE, STORED
from k2.ops.settings import read_settings
from tests.flows.job_io import MemorySource, Message, message_batch, run_in_memory

OPEN = datetime(2024, 8, 9, 13, 30, tzinfo=UTC)
SYMBOLS_COUNT = 200
BURST = 40
Verdicts = Counter[tuple[str, int, int]]
"""Rows by symbol, number and verdict."""


def trade(symbol: str, sequence: int, at: datetime) -> Message:
    """Return one trade of a symbol."""
    fields = {"exchange": "x", "symbol": symbol, "sequence": sequence, "price": "1.5", "quantity": 2}
    return f"x|{symbol}".encode(), json.dumps(fields | {"timestamp": at.isoformat()}).encode()


def cut(messages: list[Message], size: int, partition: int = 0) -> list[MessageBatch]:
    """Return the messages of a partition in polls of a size."""
    return [message_batch(messages[at : at + size], at, partition) for at in range(0, len(messages), size)]


def verdicts_of(out: list[tuple[str, TradeSlice | Consumed]]) -> Verdicts:
    """Count the verdicts of the rows that reached the writers."""
    found = Verdicts()
    for piece in (piece for _, piece in out if isinstance(piece, TradeSlice)):
        columns = piece.batch.columns
        numbers = columns.sequences[piece.rows].tolist()
        names = [columns.name(row)[1] for row in piece.rows.tolist()]
        found.update(zip(names, numbers, piece.verdicts.tolist(), strict=True))
    return found


def sessions_of(out: list[tuple[str, TradeSlice | Consumed]]) -> set[int]:
    """Return the sessions of all rows."""
    return {int(session) for _, piece in out if isinstance(piece, TradeSlice) for session in np.unique(piece.sessions)}


def numbers_of(out: list[tuple[str, list[SequenceEvent]]], kind: EventKind) -> set[tuple[str, int]]:
    """Return the numbers, with their symbols, in the ledger's events of a kind."""
    events = [event for _, some in out for event in some if event.event is kind]
    return {
        (event.symbol, number) for event in events for number in range(event.first_sequence, event.last_sequence + 1)
    }


def missing_of(out: list[tuple[str, list[SequenceEvent]]]) -> set[tuple[str, int]]:
    """Return what the ledger's events leave missing; check that no number of a session is opened twice."""
    return numbers_of(out, EventKind.GAP_OPENED) - numbers_of(out, EventKind.GAP_FILLED)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_market_open_burst(workers: int) -> None:
    """All symbols trade at once, many with one time, out of order and doubled: each is stored once."""
    random, messages = Random(workers), list[tuple[float, Message]]()
    names, lost = [f"S{number}" for number in range(SYMBOLS_COUNT)], set[tuple[str, int]]()
    copies = 0
    for name in names:
        for number in range(1, BURST + 1):
            one = trade(name, number, OPEN + timedelta(milliseconds=number // 8))
            is_lost = 1 < number < BURST and random.random() < 0.02
            if is_lost:
                lost.add((name, number))
                continue
            copies += (is_doubled := random.random() < 0.02)
            place = number + random.uniform(0, 3)
            messages += [(place + 5 * copy, one) for copy in range(1 + is_doubled)]
    messages.sort(key=lambda placed: placed[0])
    out = run_in_memory({"trades:0": cut([one for _, one in messages], 500)}, workers=workers)
    found = verdicts_of(out["iceberg"])
    everything = {(name, number) for name in names for number in range(1, BURST + 1)}
    assert {key[:2]: count for key, count in found.items() if key[2] == STORED} == dict.fromkeys(everything - lost, 1)
    assert sum(count for key, count in found.items() if key[2] == DUPLICATE) == copies
    assert (missing_of(out["events"]), sessions_of(out["iceberg"])) == (lost, {1})


def test_a_kafka_rebalance(tmp_path: Path) -> None:
    """Partitions move to other workers and the last poll is read again: its rows are duplicates, none is lost."""
    logs = {
        partition: [
            trade(f"P{partition}S{place % 7}", place // 7 + 1, OPEN + timedelta(seconds=place)) for place in range(140)
        ]
        for partition in range(4)
    }
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(str(tmp_path))
    found, events = Verdicts(), list[tuple[str, list[SequenceEvent]]]()
    for workers, (start, stop) in ((1, (0, 3)), (3, (2, 6)), (2, (5, 7))):
        batches = {f"trades:{where}": cut(log, 20, where)[start:stop] for where, log in logs.items()}
        out = run_rebalanced(batches, workers, recovery)
        found += verdicts_of(out["iceberg"])
        events += out["events"]
    assert {key[:2]: count for key, count in found.items() if key[2] == STORED} == {
        (f"P{partition}S{symbol}", number): 1
        for partition in range(4)
        for symbol in range(7)
        for number in range(1, 21)
    }
    assert sum(count for key, count in found.items() if key[2] == DUPLICATE) == 4 * 2 * 20
    assert missing_of(events) == set()
    assert Counter(event.event for _, some in events for event in some) == {EventKind.SESSION_STARTED: 28}


class Reassigned(MemorySource):
    """Partitions whose offset was not stored: each starts with the first of the given batches."""

    def build_part(self, step_id: str, for_part: str, resume_state: int | None):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """Start at the first batch."""
        return super().build_part(step_id, for_part, None)


def run_rebalanced(batches: dict[str, list[MessageBatch]], workers: int, recovery: RecoveryConfig) -> dict[str, list]:  # type: ignore[type-arg]
    """Run the flow with its state from the recovery store, and its offsets from the given batches."""
    out: dict[str, list] = {"iceberg": [], "events": []}  # type: ignore[type-arg]
    sinks = {name: TestingSink(some) for name, some in out.items()}
    ends = JobIO(kafka=Reassigned(batches), **sinks)
    flow = trades_flow(ends, read_settings({}))
    cluster_main(flow, [], 0, worker_count_per_proc=workers, recovery_config=recovery, epoch_interval=timedelta(0))
    return out


def test_a_weekend_without_trades() -> None:
    """From Friday's close to Sunday's open: no gap, no session, and Friday's trades are recognised on a replay."""
    friday = [trade("ES", number, OPEN + timedelta(seconds=number)) for number in range(1, 51)]
    sunday = [trade("ES", number, OPEN + timedelta(hours=57, seconds=number)) for number in range(51, 101)]
    out = run_in_memory({"trades:0": cut([*friday, *friday[-5:], *sunday, *friday[-5:]], 32)})
    found = verdicts_of(out["iceberg"])
    assert {key[1]: count for key, count in found.items() if key[2] == STORED} == dict.fromkeys(range(1, 101), 1)
    assert {key[1]: count for key, count in found.items() if key[2] == DUPLICATE} == dict.fromkeys(range(46, 51), 2)
    assert sessions_of(out["iceberg"]) == {1}
    assert [event.event for _, some in out["events"] for event in some] == [EventKind.SESSION_STARTED]

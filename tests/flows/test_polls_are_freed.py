"""Memory of the flow: a poll is free once its rows are copied, within its epoch and without garbage collection."""

import gc
import weakref
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from bytewax.inputs import StatefulSourcePartition
from bytewax.testing import cluster_main

from benchmarks.mixture import Mixture
from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.model.batch import MessageBatch
from k2.model.symbols import Symbols
from k2.ops.settings import read_settings
from tests.flows.job_io import OnePartitionSource, message_batch

POLL_MESSAGES: Final = 400
POLLS: Final = 12


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """What only a collection would free stays."""
    gc.disable()
    yield
    gc.enable()


class Polls(StatefulSourcePartition[MessageBatch, int]):
    """Makes each poll when it is asked for, and keeps none."""

    def __init__(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        self._records = records
        self._offset = 0
        self._polls: list[weakref.ref[Any]] = []
        self.held: list[int] = []
        """At each poll, the number of earlier ones that are in memory."""

    def next_batch(self) -> Iterable[MessageBatch]:
        """Return the next poll."""
        self.held.append(sum(poll() is not None for poll in self._polls))
        if self._offset == len(self._records):
            raise StopIteration
        poll = message_batch(self._records[self._offset : self._offset + POLL_MESSAGES], self._offset)
        self._offset += POLL_MESSAGES
        self._polls.append(weakref.ref(poll.data))
        return [poll]

    def snapshot(self) -> int:
        """Return the offset of the next poll."""
        return self._offset


@pytest.mark.parametrize("fault", ["", "malformed", "foreign", "duplicates", "conflicts", "gaps", "late", "restarts"])
def test_no_step_keeps_a_poll(tmp_path: Path, fault: str) -> None:
    """Neither as it is nor as a part of what it keeps: rows, errors, events, states."""
    none = {"malformed": 0.0, "duplicates": 0.0, "gaps": 0.0}
    mixture = Mixture(POLLS * POLL_MESSAGES, symbols=20, **none | ({fault: 0.1} if fault else {}))  # type: ignore[arg-type]
    polls = Polls(list(mixture.records()))
    settings, symbols = read_settings({}, data_dir=tmp_path, dlq_ratio_max=0), Symbols()
    trades = TradesSink(settings, symbols=symbols)
    events = LedgerSink(settings, trades.open(), fence=trades)
    events.open()
    flow = trades_flow(JobIO(OnePartitionSource(polls), trades, events, symbols=symbols), settings)
    cluster_main(flow, [], 0, epoch_interval=timedelta(days=1))  # type: ignore[no-untyped-call]
    assert polls.held == [0] * (POLLS + 1)

"""The job from the progress of its tables, without a recovery store, and its crash at a failpoint."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from bytewax.testing import cluster_main

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.model.batch import MessageBatch
from k2.model.symbols import Symbols
from k2.ops.failpoints import Name, arm
from k2.ops.settings import Settings
from k2.restore.connections import TableConnectionSource
from k2.restore.feeds import TableFeedSource
from k2.restore.tables import TableStateSource
from tests.flows.job_io import MemorySource

__all__ = ["BATCH", "Crash", "StoppedError", "crashing", "run_to_crash", "run_to_end"]

BATCH = timedelta(0)
"""An epoch for each batch."""
Partitions = Mapping[str, Sequence[MessageBatch]]


class StoppedError(Exception):
    """A crash."""


class Crash:
    """Ends the job at the n-th passing of a failpoint."""

    def __init__(self, name: Name, passing: int = 1) -> None:
        self._name, self._left = name, passing

    @property
    def is_reached(self) -> bool:
        """Whether the failpoint was passed as often."""
        return self._left <= 0

    def __call__(self, name: Name) -> None:
        """Count a passing."""
        if name == self._name:
            self._left -= 1
            if not self._left:
                raise StoppedError


@contextmanager
def crashing(crash: Crash) -> Iterator[None]:
    """Crash what runs at its failpoint."""
    arm(crash)
    try:
        yield
    finally:
        arm(None)


def run_to_end(
    settings: Settings, partitions: Partitions, workers: int = 1, epoch_interval: timedelta | None = None
) -> None:
    """Run the flow from the tables' progress, without a recovery store, until all is committed."""
    progress, symbols = read_progress(settings), Symbols()
    trades = TradesSink(settings, progress, symbols=symbols)
    trades.open()
    events = LedgerSink(settings, progress, fence=trades)
    events.open()
    job_io = JobIO(
        MemorySource({**partitions}),
        trades,
        events,
        TableStateSource(settings, symbols=symbols),
        symbols,
        connections=TableConnectionSource(settings, trades.committer.table),
        feeds=TableFeedSource(settings, trades.committer.table) if settings.feeds else None,
    )
    flow = trades_flow(job_io, settings)
    cluster_main(flow, [], 0, epoch_interval=epoch_interval, worker_count_per_proc=workers)


def run_to_crash(settings: Settings, partitions: Partitions, crash: Crash, workers: int = 1) -> None:
    """Run the flow with an epoch for each batch, until it crashes; if there are fewer passings, all is committed."""
    try:
        with crashing(crash):
            run_to_end(settings, partitions, workers, BATCH)
    except BaseException as error:  # noqa: BLE001  Bytewax raises what it likes
        assert "StoppedError" in f"{type(error)} {error} {error.__cause__!r}"  # noqa: PT017
        del error
    gc.collect()

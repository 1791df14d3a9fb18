"""The stages from decoding to the commit, as `benchmarks.instructions` runs them twice.

Without `--count` they run as they are, which compiles the rules, and puts the messages for `--count` into the folder.
"""

import argparse
import gc
import pickle
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
from bytewax.inputs import StatefulSourcePartition
from bytewax.testing import cluster_main

from benchmarks.callgrind import CallgrindCounter, Counter
from benchmarks.counted_market import INPUTS, MIXED, PARTITION, coinbase_message
from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.dedup.deduplicator import GroupDeduplicator
from k2.dedup.trade_id_hash import KEY_BYTES, TradeIdHasher
from k2.iceberg.arrow_columns import FileRows, arrow_schema
from k2.iceberg.column_buffer import ColumnBuffer
from k2.iceberg.data_files import write_parts
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.tables import TableName, open_table
from k2.model.batch import MessageBatch, TradeSlice
from k2.model.consumed import Consumed
from k2.model.dead_letter import DeadLetter
from k2.model.key_groups import GROUPS
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.model.verdicts import STORED
from k2.ops.settings import read_settings
from k2.restore.recovery_store import NO_STORE
from k2.restore.tables import TableStateSource
from k2.sequencing.tracker import GroupTracker
from k2.storage.catalog import open_catalog
from k2.venues.decode import Decoded, decode
from k2.venues.slices import split
from tests.flows.job_io import OnePartitionSource
from tests.iceberg.trades_table import writer_of

X = TypeVar("X")
Y = TypeVar("Y")


COINBASE: Final = "coinbase"
"""Venue of a table; all tables are read by one compiled loop."""
_MESSAGES: Final = "messages.pickle"


class _Polls(StatefulSourcePartition[MessageBatch, int]):
    """The polls of a partition; counting begins with the second, so that what is done once is left out."""

    def __init__(self, batches: Sequence[MessageBatch], counter: Counter) -> None:
        self._batches, self._counter = [MessageBatch.first(PARTITION, "k2", 0), *batches], counter
        self._next = 0

    def next_batch(self) -> Iterable[MessageBatch]:
        """Return the next poll."""
        if self._next == len(self._batches):
            raise StopIteration
        if self._next == 2:
            self._counter.begin()
        self._next += 1
        return [self._batches[self._next - 1]]

    def snapshot(self) -> int:
        """Return what no start reads."""
        return self._next


def count_job(counter: Counter, name: str, batches: Sequence[MessageBatch], folder: Path) -> None:
    """Count the whole job from the second poll to its end, with Bytewax and all adapters; the polls are one epoch."""
    settings, symbols = read_settings({}, data_dir=folder), Symbols()
    trades = TradesSink(settings, symbols=symbols)
    events = LedgerSink(settings, trades.open(), fence=trades)
    events.open()
    source = OnePartitionSource(_Polls(batches, counter))
    job_io = JobIO(source, trades, events, TableStateSource(settings, NO_STORE), symbols)
    flow = trades_flow(job_io, settings)
    cluster_main(flow, [], 0, epoch_interval=timedelta(days=1))  # type: ignore[no-untyped-call]
    counter.end(f"{name}: job")


class Stages:
    """The stages of the batch path; each takes what the one before returned."""

    def __init__(self, counter: Counter, name: str, folder: Path) -> None:
        """Begin without state, and with an empty table, for the input of a name."""
        self._counter, self._name, self._symbols = counter, name, Symbols()
        self._settings = read_settings({}, data_dir=folder)
        self._table = open_table(open_catalog(self._settings), self._settings, TableName.TRADES)
        self._schema = arrow_schema(self._table.schema())
        hasher = TradeIdHasher(self._symbols, bytes(KEY_BYTES))
        window_us = self._settings.dedup_window_seconds * SECOND_US
        self._trackers = [GroupTracker(symbols=self._symbols) for _ in range(GROUPS)]
        self._deduplicators = [GroupDeduplicator(window_us, hasher=hasher) for _ in range(GROUPS)]

    def count(self, batches: Sequence[MessageBatch]) -> None:
        """Count each stage."""
        decoded = self.each("decode", self.decode, batches)
        slices = self.each("split", _split, decoded)
        tracked = self.each("track", self._track, slices)
        judged = self.each("deduplicate", self._deduplicate, tracked)
        self.each("states", self._states, [None, None])
        epochs = [judged[0], [one for slices in judged[1:] for one in slices]]
        buffers = self.each("copy", self._copy, epochs)
        files = self.each("sort", _drain, buffers)
        self.each("parquet", self._write, files)
        ranges = list(map(_consumed, decoded))
        self._count_commit([[*epochs[0], ranges[0]], [*epochs[1], *ranges[1:]]], files)

    def each(self, name: str, stage: Callable[[X], Y], values: Sequence[X]) -> list[Y]:
        """Return what a stage returns for each value, and count it for all but the first."""
        first = stage(values[0])
        self._counter.begin()
        others = [stage(value) for value in values[1:]]
        self._counter.end(f"{self._name}: {name}")
        return [first, *others]

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode a poll."""
        return decode(batch, symbols=self._symbols)

    def _track(self, slices: list[TradeSlice]) -> list[TradeSlice]:
        return [self._trackers[one.group].track(one).trade_slice for one in slices]

    def _deduplicate(self, slices: list[TradeSlice]) -> list[TradeSlice]:
        return [self._deduplicators[one.group].deduplicate(one) for one in slices]

    def _states(self, _: None) -> bytes:
        """Return the states of all key groups as bytes, as Bytewax writes them to its store at the end of an epoch."""
        return pickle.dumps([[one.snapshot() for one in steps] for steps in (self._trackers, self._deduplicators)])

    def _copy(self, slices: list[TradeSlice]) -> ColumnBuffer:
        buffer = ColumnBuffer(self._schema, symbols=self._symbols)
        for one in slices:
            buffer.add(one, np.flatnonzero(one.verdicts == STORED))
        return buffer

    def _write(self, files: list[FileRows]) -> None:
        for one in files:
            write_parts(self._table, self._schema, one.parts, (one.day, one.exchange))

    def _count_commit(self, epochs: list[list[TradeSlice | Consumed]], files: list[list[FileRows]]) -> None:
        """Count the end of an epoch whose rows are in files already."""
        stored = sum(len(part) for one in files[1] for part in one.parts())
        writer = writer_of(self._settings, flush_rows=stored)
        for epoch in epochs:
            writer.write_batch([*epoch])
            self._counter.begin()
            writer.snapshot()
        self._counter.end(f"{self._name}: commit")
        writer.close()


def _split(decoded: Decoded) -> list[TradeSlice]:
    return split(decoded.trades, decoded.non_market, decoded.heads)


def _drain(buffer: ColumnBuffer) -> list[FileRows]:
    return [replace(one, parts=partial(iter, list(one.parts()))) for one in buffer.drain()]


def _consumed(decoded: Decoded) -> Consumed:
    source = decoded.trades.source
    rejected = (DeadLetter.of(source, message_idx, one.reason, one.error) for message_idx, one in decoded.rejected)
    skipped, last = source.offsets[decoded.skipped.messages], source.last_message()
    offsets = source.first_offset, source.next_offset
    return Consumed(PARTITION.topic, PARTITION.partition, *offsets, tuple(rejected), skipped, last, len(source))


def count_all(counter: Counter, inputs: Mapping[str, Sequence[MessageBatch]]) -> None:
    """Count each stage of each input."""
    with tempfile.TemporaryDirectory() as folder:
        for name in INPUTS:
            stages = Stages(counter, name, Path(folder, name, "stages"))
            stages.count(inputs[name])
            if name == MIXED:
                stages.each(f"decode {COINBASE}", stages.decode, inputs[COINBASE])
            count_job(counter, name, inputs[name], Path(folder, name, "job"))


def main() -> None:
    """Run the stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the messages are")
    parser.add_argument("--count", action="store_true", help="count instructions, in a process of Callgrind")
    arguments = parser.parse_args()
    counter, messages = Counter(), arguments.folder / _MESSAGES
    if arguments.count:
        counter = CallgrindCounter()
    else:
        inputs = {name: one.batches() for name, one in INPUTS.items()}
        inputs[COINBASE] = INPUTS[MIXED].batches(COINBASE, coinbase_message)
        messages.write_bytes(pickle.dumps(inputs))
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    # When the collector runs depends on the objects of the whole process.
    gc.disable()
    count_all(counter, pickle.loads(messages.read_bytes()))  # noqa: S301  written by the run before


if __name__ == "__main__":
    main()

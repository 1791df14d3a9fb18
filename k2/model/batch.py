"""The messages of one poll as columns, the trades decoded from them, and their shares by key group."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.decimals import as_words
from k2.model.last_message import LastMessage, message_hash
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.model.state_source import AnnouncedNumber, GroupState, NumberDoubt
from k2.model.symbol_names import NameList, SymbolNames, SymbolRegistry
from k2.model.trade import Trade

__all__ = ["NULL_TIME", "MessageBatch", "TradeBatch", "TradeColumns", "TradeSlice"]

NULL_TIME: Final = np.iinfo(np.int64).min
"""Marks an absent time in an int64 column of microseconds."""


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """The n messages of one poll of one topic partition, in offset order.

    `first_offset` to `next_offset` (exclusive) is the range that the batch covers; it may be wider than
    the offsets in it, because compaction and transaction markers leave offsets without a message.
    """

    topic: str
    partition: int
    venue: str
    first_offset: int
    next_offset: int
    offsets: NDArray[np.int64]
    """int64[n]"""
    kafka_timestamps: NDArray[np.int64]
    """int64[n], microseconds since the epoch, UTC; `NULL_TIME` if the broker has none."""
    data: NDArray[np.uint8]
    """uint8[bytes]: values and keys, concatenated."""
    value_starts: NDArray[np.int64]
    """int64[n], into `data`."""
    value_sizes: NDArray[np.int32]
    """int32[n], bytes; -1 for a null value (a tombstone)."""
    key_starts: NDArray[np.int64]
    """int64[n], into `data`."""
    key_sizes: NDArray[np.int32]
    """int32[n], bytes; -1 for a null key."""
    is_first: bool = False
    """Whether this is the partition's first batch in this run. It goes to every key group."""
    leader_epoch: int | None = None
    """Leader epoch of the last message; None if it is not known."""
    marks: Mapping[int, MessageMarks] = field(default_factory=dict)
    """By index, the marks of the messages that are not of the live feed."""

    @classmethod
    def first(cls, topic_partition: TopicPartition, venue: str, offset: int) -> "MessageBatch":
        """Return the empty batch that starts a partition's run and goes to every key group."""
        longs, ints = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        data = np.empty(0, dtype=np.uint8)
        columns = longs, longs, data, longs, ints, longs, ints
        topic, partition = topic_partition.topic, topic_partition.partition
        return cls(topic, partition, venue, offset, offset, *columns, is_first=True)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic partition that was polled."""
        return TopicPartition(self.topic, self.partition)

    def value(self, message_idx: int) -> bytes | None:
        """Return the unchanged value bytes of a message; None for a null value."""
        return _bytes_at(self.data, self.value_starts[message_idx], self.value_sizes[message_idx])

    def key(self, message_idx: int) -> bytes | None:
        """Return the unchanged key bytes of a message; None for a null key."""
        return _bytes_at(self.data, self.key_starts[message_idx], self.key_sizes[message_idx])

    def last_message(self) -> LastMessage | None:
        """Return what the progress keeps of the last message; None for a batch without messages."""
        if not len(self):
            return None
        digest = message_hash(self.key(-1), self.value(-1), int(self.kafka_timestamps[-1]))
        return LastMessage(int(self.offsets[-1]), digest, self.leader_epoch)

    def take(self, messages: NDArray[np.int32]) -> "MessageBatch":
        """Return a batch of the selected messages only, with their bytes copied.

        `messages` is int32[m], indices into this batch.
        """
        data, starts = _compact(
            self.data,
            np.concatenate([self.value_starts[messages], self.key_starts[messages]]),
            np.concatenate([self.value_sizes[messages], self.key_sizes[messages]]),
        )
        return replace(
            self,
            offsets=self.offsets[messages],
            kafka_timestamps=self.kafka_timestamps[messages],
            data=data,
            value_starts=starts[: len(messages)],
            value_sizes=self.value_sizes[messages],
            key_starts=starts[len(messages) :],
            key_sizes=self.key_sizes[messages],
            marks={
                new: self.marks[message_idx]
                for new, message_idx in enumerate(messages.tolist() if self.marks else ())
                if message_idx in self.marks
            },
        )

    def between(self, start: int, stop: int) -> "MessageBatch":
        """Return a batch of the messages with `start` <= index < `stop`, over the same bytes.

        It covers the offsets from the end of the message before; the last such batch covers those of the whole batch.
        """
        first_offset = self.first_offset if start == 0 else int(self.offsets[start - 1]) + 1
        return replace(
            self,
            first_offset=first_offset,
            next_offset=self.next_offset if stop == len(self) else int(self.offsets[stop - 1]) + 1,
            offsets=self.offsets[start:stop],
            kafka_timestamps=self.kafka_timestamps[start:stop],
            value_starts=self.value_starts[start:stop],
            value_sizes=self.value_sizes[start:stop],
            key_starts=self.key_starts[start:stop],
            key_sizes=self.key_sizes[start:stop],
            # The leader epoch is that of the last message of all.
            leader_epoch=self.leader_epoch if stop == len(self) else None,
            marks={idx - start: self.marks[idx] for idx in range(start, stop) if idx in self.marks},
        )

    def runs(self, known: Container[str]) -> "Sequence[MessageBatch]":
        """Return the batch cut where live messages meet marked ones, or the venue changes that the marks name.

        Each run has the venue that its marks name. One that names a venue which is not `known` keeps that of the topic.
        """
        if not self.marks:
            return (self,)
        marks = [self.marks.get(message_idx) for message_idx in range(len(self))]
        kinds = [None if one is None else (one.venue,) for one in marks]
        changes = [idx for idx in range(1, len(self)) if kinds[idx] != kinds[idx - 1]]
        runs = []
        for start, stop in pairwise([0, *changes, len(self)]):
            run, first = self.between(start, stop), marks[start]
            named = None if first is None else first.venue
            runs.append(run if named is None or named not in known else replace(run, venue=named))
        return runs

    @property
    def is_live(self) -> bool:
        """Whether the messages, of which all or none are marked (see `runs`), are of the live feed."""
        return not self.marks

    def is_in_stream(self, message_idx: int) -> bool:
        """Return whether a message is where it was in the stream, neither a fill nor the replay of a conflict."""
        return message_idx not in self.marks or self.marks[message_idx].is_in_stream


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """n decoded trades, one array per column."""

    symbols: NDArray[np.int32]
    """int32[n], symbol ids; their names are in `names`."""
    names: SymbolNames
    """The registry of the symbol ids."""
    sequences: NDArray[np.int64]
    """int64[n]; undefined where `has_sequence` is false."""
    first_sequences: NDArray[np.int64]
    """int64[n]: the first of the numbers that each trade stands for, of which `sequences` is the last; the array
    `sequences` itself if each trade stands for one."""
    has_sequence: NDArray[np.bool_]
    prices: NDArray[np.uint64]
    """uint64[n, 2]: decimal(38, 18) as a 128-bit two's complement integer, low word first."""
    quantities: NDArray[np.uint64]
    """uint64[n, 2], as `prices`."""
    sides: NDArray[np.int8]
    """int8[n], the taker side: 0 none, 1 buy, 2 sell."""
    timestamps: NDArray[np.int64]
    """int64[n], venue time, microseconds since the epoch, UTC."""
    received: NDArray[np.int64]
    """int64[n], capture time, microseconds since the epoch, UTC; `NULL_TIME` if there is none."""
    text: NDArray[np.uint8]
    """uint8[bytes]: buffer that contains the trade ids."""
    id_starts: NDArray[np.int64]
    """int64[n], into `text`."""
    id_sizes: NDArray[np.int32]
    """int32[n], bytes of UTF-8; -1 if the trade has no id."""
    messages: NDArray[np.int32]
    """int32[n]: index of the trade's message in the batch; never decreases."""
    indexes: NDArray[np.int32]
    """int32[n]: index of the trade in its message."""

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def has_ranges(self) -> bool:
        """Whether a trade may stand for several numbers."""
        return self.first_sequences is not self.sequences

    def name(self, row: int) -> tuple[str, str]:
        """Return the (exchange, symbol) of a trade."""
        return self.names.name(int(self.symbols[row]))

    def trade_id(self, row: int) -> str | None:
        """Return the id of a trade; None if it has none."""
        id_bytes = _bytes_at(self.text, self.id_starts[row], self.id_sizes[row])
        return None if id_bytes is None else id_bytes.decode()

    @classmethod
    def from_trades(
        cls, trades: Sequence[Trade], messages: Sequence[int], indexes: Sequence[int], symbols: SymbolRegistry
    ) -> "TradeColumns":
        """Lay out trades as columns, each with the index of its message and its index in that message."""
        ids = [b"" if trade.trade_id is None else trade.trade_id.encode() for trade in trades]
        sizes = [-1 if trade.trade_id is None else len(text) for trade, text in zip(trades, ids, strict=True)]
        lengths = np.array([len(text) for text in ids], dtype=np.int64)
        received = [NULL_TIME if trade.received is None else trade.received for trade in trades]
        sequences = np.array([trade.sequence or 0 for trade in trades], dtype=np.int64)
        first_sequences = sequences
        if any(trade.first_sequence is not None for trade in trades):
            firsts = [trade.sequence if trade.first_sequence is None else trade.first_sequence for trade in trades]
            first_sequences = np.array([first or 0 for first in firsts], dtype=np.int64)
        return cls(
            symbols=np.array([symbols.intern(trade.exchange, trade.symbol) for trade in trades], dtype=np.int32),
            names=symbols,
            sequences=sequences,
            first_sequences=first_sequences,
            has_sequence=np.array([trade.sequence is not None for trade in trades], dtype=np.bool_),
            prices=as_words([trade.price for trade in trades]),
            quantities=as_words([trade.quantity for trade in trades]),
            sides=np.array([trade.side for trade in trades], dtype=np.int8),
            timestamps=np.array([trade.timestamp for trade in trades], dtype=np.int64),
            received=np.array(received, dtype=np.int64),
            text=np.frombuffer(bytearray().join(ids), dtype=np.uint8),
            id_starts=np.cumsum(lengths) - lengths,
            id_sizes=np.array(sizes, dtype=np.int32),
            messages=np.array(messages, dtype=np.int32),
            indexes=np.array(indexes, dtype=np.int32),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["TradeColumns"]) -> "TradeColumns":
        """Return the rows of one or more parts of one registry, concatenated; their text buffers are copied."""
        lengths = np.array([len(part.text) for part in parts], dtype=np.int64)
        text_starts = np.cumsum(lengths) - lengths
        id_starts = [part.id_starts + start for part, start in zip(parts, text_starts, strict=True)]
        sequences = np.concatenate([part.sequences for part in parts])
        has_ranges = any(part.has_ranges for part in parts)
        return cls(
            symbols=np.concatenate([part.symbols for part in parts]),
            names=parts[0].names,
            sequences=sequences,
            first_sequences=np.concatenate([part.first_sequences for part in parts]) if has_ranges else sequences,
            has_sequence=np.concatenate([part.has_sequence for part in parts]),
            prices=np.concatenate([part.prices for part in parts]),
            quantities=np.concatenate([part.quantities for part in parts]),
            sides=np.concatenate([part.sides for part in parts]),
            timestamps=np.concatenate([part.timestamps for part in parts]),
            received=np.concatenate([part.received for part in parts]),
            text=np.concatenate([part.text for part in parts]),
            id_starts=np.concatenate(id_starts),
            id_sizes=np.concatenate([part.id_sizes for part in parts]),
            messages=np.concatenate([part.messages for part in parts]),
            indexes=np.concatenate([part.indexes for part in parts]),
        )

    def take(self, rows: NDArray[np.int32] | NDArray[np.int64] | NDArray[np.bool_]) -> "TradeColumns":
        """Return the selected rows; the text buffer is shared, not copied."""
        sequences = self.sequences[rows]
        return TradeColumns(
            symbols=self.symbols[rows],
            names=self.names,
            sequences=sequences,
            first_sequences=self.first_sequences[rows] if self.has_ranges else sequences,
            has_sequence=self.has_sequence[rows],
            prices=self.prices[rows],
            quantities=self.quantities[rows],
            sides=self.sides[rows],
            timestamps=self.timestamps[rows],
            received=self.received[rows],
            text=self.text,
            id_starts=self.id_starts[rows],
            id_sizes=self.id_sizes[rows],
            messages=self.messages[rows],
            indexes=self.indexes[rows],
        )


@dataclass(frozen=True, slots=True)
class TradeBatch:
    """Decoded trades and their source messages."""

    source: MessageBatch
    columns: TradeColumns

    def offset(self, row: int) -> int:
        """Return the Kafka offset of a row's message."""
        return int(self.source.offsets[self.columns.messages[row]])

    def offsets_of(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return int64[m], the Kafka offset of each of int32[m] `rows`."""
        return self.source.offsets[self.columns.messages[rows]]

    def kafka_timestamps_of(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return int64[m], the Kafka timestamp of each of int32[m] `rows`; `NULL_TIME` where there is none."""
        return self.source.kafka_timestamps[self.columns.messages[rows]]


@dataclass(frozen=True, slots=True)
class TradeSlice:
    """The m rows of a batch that belong to one key group, with the outcome of the rules for each.

    Within a process it is a view: indices into the shared batch. When pickled (to send it to another process), it
    contains only these rows and their messages, and the names of their symbols.
    """

    batch: TradeBatch
    group: int
    rows: NDArray[np.int32]
    """int32[m], ascending indices into the batch's columns."""
    verdicts: NDArray[np.uint8]
    """uint8[m], values of `k2.model.verdicts`."""
    sessions: NDArray[np.int32]
    """int32[m], the session of each trade; 0 if the trade has none."""
    doubts: tuple[NumberDoubt, ...] = ()
    """Changes that the rows made to their symbols' doubts."""
    announced: tuple[AnnouncedNumber, ...] = ()
    """Changes that the rows made to the announced numbers of their symbols' sessions."""
    state: GroupState | None = None
    """The state of the key group before these rows, if it is time for a checkpoint."""

    def __len__(self) -> int:
        return len(self.rows)

    def with_ids_of(self, symbols: SymbolRegistry) -> "TradeSlice":
        """Return the same rows with the symbol ids of a registry; itself, if it has them already."""
        columns = self.batch.columns
        if columns.names is symbols:
            return self
        columns = replace(columns, symbols=symbols.ids_of(columns.symbols, columns.names), names=symbols)
        return replace(self, batch=replace(self.batch, columns=columns))

    def compact(self) -> "TradeSlice":
        """Return the same rows over a batch that contains nothing else."""
        columns = self.batch.columns.take(self.rows)
        messages, message_idx = np.unique(columns.messages, return_inverse=True)
        text, id_starts = _compact(columns.text, columns.id_starts, columns.id_sizes)
        columns = replace(columns, text=text, id_starts=id_starts, messages=message_idx.astype(np.int32))
        batch = TradeBatch(self.batch.source.take(messages.astype(np.int32)), columns)
        return replace(self, batch=batch, rows=np.arange(len(columns), dtype=np.int32))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the names of the symbols that occur, because the registry does not leave the process."""
        compact = self.compact()
        columns = compact.batch.columns
        symbol_ids, codes = np.unique(columns.symbols, return_inverse=True)
        names = NameList([columns.names.name(symbol_id) for symbol_id in symbol_ids.tolist()])
        batch = replace(compact.batch, columns=replace(columns, symbols=codes.astype(np.int32), names=names))
        return TradeSlice, (
            batch,
            self.group,
            compact.rows,
            self.verdicts,
            self.sessions,
            self.doubts,
            self.announced,
            self.state,
        )


def _bytes_at(data: NDArray[np.uint8], start: int, size: int) -> bytes | None:
    return None if size < 0 else data[start : start + size].tobytes()


def _compact(
    data: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    # Queries of dead letters import no compiled rules.
    from k2.model.words_compiled import compact  # noqa: PLC0415

    return compact(data, starts, sizes)

"""Id blocks: the trade ids that a key group holds, in pieces that are written once.

A checkpoint refers to the blocks of those before it, and adds one with the ids held since. Small blocks are written
again as one, so that there are few: `BLOCKS_MERGED` of about the same size, and none of `MERGED_IDS_MAX` ids or more.
So an id is written a few times, however often checkpoints are taken.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from k2.dedup.id_log import Entries, IdLog
from k2.model.packed import digest
from k2.model.progress import TopicPartition
from k2.model.state_source import IdBlock
from k2.model.symbols import Symbols

__all__ = ["BlockIds", "SealedBlocks", "decode_block", "encode_block"]

BLOCKS_MERGED: Final = 8
MERGED_IDS_MAX: Final = 1 << 16
_LEVEL_BITS: Final = BLOCKS_MERGED.bit_length() - 1
_HEADER: Final = b"k2"
_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="zstd")

EntryRange = tuple[int, int]
"""A range of the entries of a log, by their numbers: the first, and the one after the last."""


class BlockIds(NamedTuple):
    """n ids of one topic partition in a block, in the order in which they were stored."""

    topic_partition: TopicPartition
    symbols: Sequence[tuple[str, str]]
    """Exchange and symbol of the trades, and possibly of older ones."""
    entries: Entries


class _Part(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    partition: int
    count: int
    symbols: list[int]
    """Indices of names."""


class _Header(msgspec.Struct, frozen=True):
    names: list[tuple[str, str]]
    parts: list[_Part]


def encode_block(block: Iterable[BlockIds]) -> bytes:
    """Return a block as bytes: an Arrow stream of all its ids, with the topic partitions in its schema's metadata."""
    ids = list(block)
    names: dict[tuple[str, str], int] = {}
    parts = []
    for one in ids:
        symbols = [names.setdefault(name, len(names)) for name in one.symbols]
        parts.append(_Part(one.topic_partition.topic, one.topic_partition.partition, len(one.entries.times), symbols))
    lows, highs, contents, times = (
        np.concatenate(columns) for columns in zip(*(one.entries for one in ids), strict=True)
    )
    # Differences compress better than times.
    columns = {"low": lows, "high": highs, "content": contents, "time": np.diff(times, prepend=0)}
    batch = pa.record_batch(columns)
    batch = batch.replace_schema_metadata({_HEADER: msgspec.json.encode(_Header(list(names), parts))})
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    data: bytes = stream.getvalue().to_pybytes()
    return data


def decode_block(data: bytes) -> list[BlockIds]:
    """Return the ids of an encoded block.

    Raises:
        ValueError: the bytes are not a block.
    """
    try:
        with pa.ipc.open_stream(data) as reader:
            header = msgspec.json.decode(reader.schema.metadata[_HEADER], type=_Header)
            batch = reader.read_next_batch()
        lows, highs, contents = (batch[name].to_numpy() for name in ("low", "high", "content"))
        times = np.cumsum(batch["time"].to_numpy())
    except (pa.ArrowException, msgspec.MsgspecError, OSError, KeyError, TypeError, StopIteration) as error:
        raise ValueError(f"not a block of ids: {error}") from error
    block, first = [], 0
    for part in header.parts:
        end = first + part.count
        entries = Entries(lows[first:end], highs[first:end], contents[first:end], times[first:end])
        symbols = [header.names[symbol] for symbol in part.symbols]
        block.append(BlockIds(TopicPartition(part.topic, part.partition), symbols, entries))
        first = end
    return block


class _Sealed(NamedTuple):
    block: IdBlock
    ranges: dict[TopicPartition, EntryRange]
    """The entries of each log that the block has, if they are still held."""

    def is_held(self, logs: Mapping[TopicPartition, IdLog]) -> bool:
        return any(end > logs[one].entry_range[0] for one, (_, end) in self.ranges.items())


class SealedBlocks:
    """The blocks of one key group, the oldest first, and which entries of its logs they have."""

    def __init__(self) -> None:
        self._sealed: list[_Sealed] = []

    def add(self, block: IdBlock, ranges: dict[TopicPartition, EntryRange]) -> None:
        """Add a block that was read at the start, after its entries were added to the logs."""
        self._sealed.append(_Sealed(block, ranges))

    def seal(self, logs: Mapping[TopicPartition, IdLog], names: Symbols) -> tuple[tuple[IdBlock, ...], bytes | None]:
        """Return the blocks that have all ids held in the logs, and the bytes of the newest if it is a new one."""
        self._sealed = [one for one in self._sealed if one.is_held(logs)]
        sealed_to: dict[TopicPartition, int] = {}
        for one in self._sealed:
            sealed_to |= {topic_partition: end for topic_partition, (_, end) in one.ranges.items()}
        unsealed = {one: _held_from(log, sealed_to.get(one, 0)) for one, log in logs.items()}
        count = sum(end - first for first, end in unsealed.values())
        if not count:
            return tuple(one.block for one in self._sealed), None
        taken = _count_merged([one.block.count for one in self._sealed], count)
        merged = self._sealed[len(self._sealed) - taken :]
        firsts: dict[TopicPartition, int] = {}
        for one in merged:
            for topic_partition, (first, _) in one.ranges.items():
                firsts.setdefault(topic_partition, first)
        ranges = {one: _held_from(logs[one], firsts.get(one, first)) for one, (first, _) in unsealed.items()}
        ranges = {one: (first, end) for one, (first, end) in ranges.items() if first < end}
        data = encode_block(_ids_of(one, logs[one], first, names) for one, (first, _) in ranges.items())
        size = sum(end - first for first, end in ranges.values())
        self._sealed[len(self._sealed) - taken :] = [_Sealed(IdBlock(digest(data), size, len(data)), ranges)]
        return tuple(one.block for one in self._sealed), data


def _held_from(log: IdLog, first: int) -> EntryRange:
    """Return the range of the entries from number `first` on that a log holds."""
    oldest, end = log.entry_range
    return max(first, oldest), end


def _ids_of(topic_partition: TopicPartition, log: IdLog, first: int, names: Symbols) -> BlockIds:
    symbols = [names.name(symbol_id) for symbol_id in log.symbols.tolist()]
    return BlockIds(topic_partition, symbols, log.entries_from(first))


def _count_merged(counts: Sequence[int], count: int) -> int:
    """Return how many of the newest blocks a new one of `count` ids takes in; `counts` are the ids of all blocks."""
    taken = 0
    while count < MERGED_IDS_MAX:
        alike = 0
        for one in reversed(counts[: len(counts) - taken]):
            if one >= MERGED_IDS_MAX or _level(one) > _level(count):
                break
            alike += 1
        if alike < BLOCKS_MERGED - 1:
            break
        count += sum(counts[len(counts) - taken - alike : len(counts) - taken])
        taken += alike
    return taken


def _level(count: int) -> int:
    return count.bit_length() // _LEVEL_BITS

"""Expected results of the capture, counted by the fault injector independently of the code under test."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from demo.market import Listing, Traded
from demo.render import uuid_columns

__all__ = ["GAP_LARGE_MIN", "DeadLetterBytes", "Expected", "ExpectedRows", "MissingRange"]

GAP_LARGE_MIN: Final = 11
"""A gap of this many numbers is large (the job's default)."""

Column: TypeAlias = "pa.Array[Any]"
"""One column of the rows."""

_SIDES: Final = pa.array([None, "buy", "sell"])


class DeadLetterBytes(NamedTuple):
    """A dead letter, with the bytes of its message."""

    reason: str
    key: bytes
    value: bytes | None


class MissingRange(NamedTuple):
    """A range of sequence numbers that never arrived, both bounds inclusive."""

    exchange: str
    symbol: str
    session: int
    first_sequence: int
    last_sequence: int

    @property
    def missing(self) -> int:
        """Count of the missing numbers."""
        return self.last_sequence - self.first_sequence + 1


@dataclass
class Expected:
    """Everything that was injected, and the results that must follow."""

    injected: Counter[str] = field(default_factory=Counter)
    """Count of each kind of fault."""
    published: int = 0
    stored: int = 0
    duplicates: int = 0
    gaps_small: int = 0
    gaps_large: int = 0
    filled: int = 0
    """Numbers that arrived after they were missing."""
    late: int = 0
    """Trades that arrive after a trade of the same symbol with a later venue time."""
    restarts: int = 0
    dead_letters: list[DeadLetterBytes] = field(default_factory=list)
    lost: dict[tuple[Listing, int], set[int]] = field(default_factory=dict)

    def open_gap(self, size: int) -> None:
        """Record a gap: the next message skips `size` numbers."""
        if size < GAP_LARGE_MIN:
            self.gaps_small += 1
        else:
            self.gaps_large += 1

    def lose(self, listing: Listing, session: int, sequence: int) -> None:
        """Record a number that never arrives."""
        self.lost.setdefault((listing, session), set()).add(sequence)

    def missing(self) -> list[MissingRange]:
        """Return the ranges that never arrive, sorted."""
        ranges = []
        for (listing, session), numbers in self.lost.items():
            for first, last in _ranges(sorted(numbers)):
                ranges.append(MissingRange(listing.exchange, listing.symbol, session, first, last))
        return sorted(ranges)

    def reasons(self) -> Counter[str]:
        """Return the number of dead letters of each reason."""
        return Counter(dead_letter.reason for dead_letter in self.dead_letters)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Group ascending numbers into ranges: `[3, 4, 9]` becomes `[(3, 4), (9, 9)]`."""
    breaks = [idx for idx in range(1, len(numbers)) if numbers[idx] != numbers[idx - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(numbers)]
    return [(numbers[start], numbers[end - 1]) for start, end in zip(starts, ends, strict=True)]


_UUID: Final = "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}"
_COLUMNS: Final[list[tuple[str, pa.DataType]]] = [
    ("exchange", pa.string()),
    ("symbol", pa.string()),
    ("session", pa.int32()),
    ("sequence", pa.int64()),
    ("trade_id", pa.string()),
    ("price", pa.decimal128(38, 18)),
    ("quantity", pa.decimal128(38, 18)),
    ("side", pa.string()),
    ("timestamp", pa.timestamp("us", tz="UTC")),
    ("received", pa.timestamp("us", tz="UTC")),
]
_SCHEMA: Final = pa.schema(_COLUMNS)


class ExpectedRows:
    """Parquet file of the rows that must be in the table, written while messages are published."""

    def __init__(self, path: Path, listings: list[Listing]) -> None:
        self._writer = pq.ParquetWriter(
            path,
            _SCHEMA,
            compression="lz4",
            use_dictionary=False,
            write_statistics=False,
        )
        self._exchanges = pa.array([listing.exchange for listing in listings])
        self._symbols = pa.array([listing.symbol for listing in listings])
        self._id_prefixes = pa.array([f"{one.symbol}-" if one.exchange == "okx" else "" for one in listings])
        self._has_received = np.array([one.exchange in ("kraken", "okx") for one in listings])
        self._numbered = np.array([listing.numbered for listing in listings])
        self._prices = np.array([10 ** (8 - listing.price_scale) for listing in listings])
        self._quantities = np.array([10 ** (8 - listing.quantity_scale) for listing in listings])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, traded: Traded, rows: NDArray[np.int64]) -> None:
        """Append the selected rows; `rows` are indices into `traded`."""
        symbols = traded.symbols[rows]
        numbered = self._numbered[symbols]
        exchanges = self._exchanges.take(symbols)
        columns = [
            exchanges,
            self._symbols.take(symbols),
            pa.array(np.where(numbered, traded.sessions[rows], 0), pa.int32()),
            pa.array(traded.sequences[rows], mask=~numbered),
            self._ids(traded, rows),
            _decimals(traded.ticks[rows] * self._prices[symbols]),
            _decimals(traded.lots[rows] * self._quantities[symbols]),
            _SIDES.take(traded.sides[rows]),
            pa.array(traded.timestamps[rows]).cast(_SCHEMA.field("timestamp").type),
            self._received(traded, rows),
        ]
        self._writer.write_table(pa.table(columns, schema=_SCHEMA))

    def _ids(self, traded: Traded, rows: NDArray[np.int64]) -> "Column":
        symbols = traded.symbols[rows]
        sequences: Column = pa.array(traded.sequences[rows]).cast(pa.string())
        prefixes: Column = self._id_prefixes.take(symbols)
        empty: Column = pa.repeat("", len(rows))
        ids = pc.binary_join_element_wise(prefixes, sequences, empty)
        unnumbered = ~self._numbered[symbols]
        parts = zip(*uuid_columns(traded, rows[unnumbered]), strict=True)
        uuids: Column = pa.array([_UUID.format(*part) for part in parts], pa.string())
        written: Column = pc.replace_with_mask(ids, pa.array(unnumbered), uuids)
        return written

    def _received(self, traded: Traded, rows: NDArray[np.int64]) -> "Column":
        absent = ~self._has_received[traded.symbols[rows]]
        return pa.array(traded.received[rows], mask=absent).cast(_SCHEMA.field("received").type)


def _decimals(hundred_millionths: NDArray[np.int64]) -> "Column":
    """Return exact decimals from integers in units of 10**-8; Arrow reads two words per value, the high one is 0."""
    words = np.zeros((len(hundred_millionths), 2), dtype=np.int64)
    words[:, 0] = hundred_millionths
    scaled = pa.Array.from_buffers(pa.decimal128(38, 8), len(words), [None, pa.py_buffer(words.tobytes())])
    return scaled.cast(pa.decimal128(38, 18))

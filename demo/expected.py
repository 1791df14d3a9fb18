"""What the capture must find: the injector's own expected, in plain counting, apart from the code under test."""

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

__all__ = ["GAP_LARGE_MIN", "Expected", "ExpectedRows", "Missing", "SetAside"]

GAP_LARGE_MIN: Final = 11
"""A gap of this many numbers is large (the job's default)."""

Column: TypeAlias = "pa.Array[Any]"
"""One column of the rows."""

_SIDES: Final = pa.array([None, "buy", "sell"])


class SetAside(NamedTuple):
    """A message that must lie in the dead letters, byte for byte."""

    reason: str
    key: bytes
    value: bytes | None


class Missing(NamedTuple):
    """A range of numbers that were traded and never arrived; both ends belong to it."""

    exchange: str
    symbol: str
    session: int
    first_sequence: int
    last_sequence: int

    @property
    def missing(self) -> int:
        """How many numbers it holds."""
        return self.last_sequence - self.first_sequence + 1


@dataclass
class Expected:
    """Everything that was injected, and what must come of it."""

    injected: Counter[str] = field(default_factory=Counter)
    """How often each kind of fault was laid over the market."""
    published: int = 0
    stored: int = 0
    duplicates: int = 0
    gaps_small: int = 0
    gaps_large: int = 0
    filled: int = 0
    """Numbers that were missing for a while."""
    late: int = 0
    """Trades that arrive after a trade of the same symbol with a later venue time."""
    restarts: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    lost: dict[tuple[Listing, int], set[int]] = field(default_factory=dict)

    def open_gap(self, size: int) -> None:
        """Note a range of numbers that the next message jumps over."""
        if size < GAP_LARGE_MIN:
            self.gaps_small += 1
        else:
            self.gaps_large += 1

    def lose(self, listing: Listing, session: int, sequence: int) -> None:
        """Note a number that never arrives."""
        self.lost.setdefault((listing, session), set()).add(sequence)

    def missing(self) -> list[Missing]:
        """Return the ranges that stay missing, sorted."""
        ranges = []
        for (listing, session), numbers in self.lost.items():
            for first, last in _runs(sorted(numbers)):
                ranges.append(Missing(listing.exchange, listing.symbol, session, first, last))
        return sorted(ranges)

    def reasons(self) -> Counter[str]:
        """Return the number of dead letters of each reason."""
        return Counter(letter.reason for letter in self.set_aside)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Join neighbours: `[3, 4, 9]` gives `[(3, 4), (9, 9)]`."""
    breaks = [place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1]
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
    """A Parquet file of the rows that must be in the table, written as the messages are published."""

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
        self._bears_received = np.array([one.exchange in ("kraken", "okx") for one in listings])
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
        """Add the rows of `traded` whose places are given."""
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
        nothing: Column = pa.repeat("", len(rows))
        ids = pc.binary_join_element_wise(prefixes, sequences, nothing)
        bare = ~self._numbered[symbols]
        parts = zip(*uuid_columns(traded, rows[bare]), strict=True)
        uuids: Column = pa.array([_UUID.format(*part) for part in parts], pa.string())
        written: Column = pc.replace_with_mask(ids, pa.array(bare), uuids)
        return written

    def _received(self, traded: Traded, rows: NDArray[np.int64]) -> "Column":
        absent = ~self._bears_received[traded.symbols[rows]]
        return pa.array(traded.received[rows], mask=absent).cast(_SCHEMA.field("received").type)


def _decimals(hundred_millionths: NDArray[np.int64]) -> "Column":
    """Return exact decimals of whole 10**-8: Arrow reads two words a value, the high one 0."""
    words = np.zeros((len(hundred_millionths), 2), dtype=np.int64)
    words[:, 0] = hundred_millionths
    scaled = pa.Array.from_buffers(pa.decimal128(38, 8), len(words), [None, pa.py_buffer(words.tobytes())])
    return scaled.cast(pa.decimal128(38, 18))

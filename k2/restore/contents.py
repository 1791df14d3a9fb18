"""Read the stored contents of sequence numbers when a row first needs them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, In, IsNull, Or

from k2.model.content import COVERED, NON_MARKET_CONTENT
from k2.model.state_source import NO_CONTENTS, SessionKey, StoredContents, StoredSession, WantedContents
from k2.ops.settings import Settings
from k2.restore.content_columns import fingerprints_of
from k2.restore.queries import open_engine
from k2.sequencing.intervals import IntervalSet
from k2.storage.catalog import find_table
from k2.storage.row_filters import any_of

__all__ = ["read_contents"]

_SYMBOLS_MAX: Final = 200
"""With more symbols of an exchange, files are not filtered by symbol: a file has most symbols of an exchange."""
_TIME_MIN: Final = 0
_TIME_MAX: Final = 253_402_300_799_999_999
"""The end of the year 9999."""


def read_contents(
    settings: Settings, wanted: Sequence[WantedContents], floor: int, non_market: Sequence[StoredSession]
) -> StoredContents:
    """Read the contents stored for the wanted sequence numbers; those of `non_market` are added without the table.

    One scan serves all: files without the wanted exchanges, symbols and Kafka times are skipped by their statistics.

    Raises:
        UnreachableError: the catalog or a file cannot be read.
    """
    table = find_table(settings, "trades")
    if table is None or not wanted:
        return NO_CONTENTS
    with open_engine(settings) as engine:
        engine.register("trades", table, row_filter=_files_of(wanted, floor))
        engine.register_arrow("wanted", _as_arrow(wanted))
        parameters = {"floor": min(max(floor, _TIME_MIN), _TIME_MAX)}
        rows = engine.table(_CONTENTS, parameters).combine_chunks()
        lowest = {
            SessionKey(row["exchange"], row["symbol"], row["session"]): row["first"]
            for row in engine.query(_LOWEST, parameters)
        }
    # Non-market trades are not in the table, and their age does not matter.
    for session in non_market:
        if session.key in lowest:
            lowest[session.key] = min(lowest[session.key], session.ranges[0][0])
    stored = _stored_columns(rows)
    found = [stored, *_covered_columns(rows), *_non_market_columns(wanted, non_market)]
    numbers, sequences, contents, kafka_times = (np.concatenate(part) for part in zip(*found, strict=True))
    return StoredContents(numbers, sequences, contents, kafka_times, lowest)


_CONTENTS: Final = """
    SELECT wanted.number, coalesce(first_sequence, sequence) AS first_sequence, sequence,
           trade_id, price, quantity, side,
           epoch_us(coalesce(kafka_timestamp, timestamp)) AS kafka_time
    FROM trades JOIN wanted USING (exchange, symbol, session)
    WHERE sequence >= first AND coalesce(first_sequence, sequence) <= last
      AND (is_any_age OR epoch_us(coalesce(kafka_timestamp, timestamp)) >= $floor)
"""

_LOWEST: Final = """
    SELECT exchange, symbol, session, min(coalesce(first_sequence, sequence)) AS first
    FROM trades SEMI JOIN wanted USING (exchange, symbol, session)
    WHERE epoch_us(coalesce(kafka_timestamp, timestamp)) >= $floor
    GROUP BY ALL
"""


def _files_of(wanted: Sequence[WantedContents], floor: int) -> BooleanExpression:
    """Return the filter that selects the files to read."""
    # PyIceberg's type hints lack its constructors.
    exchanges: dict[str, set[str]] = {}
    for one in wanted:
        exchanges.setdefault(one.key.exchange, set()).add(one.key.symbol)
    names = any_of(
        And(EqualTo("exchange", exchange), In("symbol", symbols))  # type: ignore[call-arg,arg-type]
        if len(symbols) <= _SYMBOLS_MAX
        else EqualTo("exchange", exchange)  # type: ignore[call-arg,arg-type]
        for exchange, symbols in exchanges.items()
    )
    young: BooleanExpression = Or(
        IsNull("kafka_timestamp"),  # type: ignore[call-arg,arg-type]
        GreaterThanOrEqual("kafka_timestamp", min(max(floor, _TIME_MIN), _TIME_MAX)),  # type: ignore[call-arg,arg-type]
    )
    since = [min(max(one.since, _TIME_MIN), _TIME_MAX) for one in wanted if one.is_any_age]
    if since:
        young = Or(young, GreaterThanOrEqual("timestamp", min(since)))  # type: ignore[call-arg,arg-type]
    return And(names, young)


def _as_arrow(wanted: Sequence[WantedContents]) -> pa.Table:
    return pa.table(
        {
            "number": pa.array(range(len(wanted)), pa.int64()),
            "exchange": pa.array([one.key.exchange for one in wanted], pa.string()),
            "symbol": pa.array([one.key.symbol for one in wanted], pa.string()),
            "session": pa.array([one.key.session for one in wanted], pa.int32()),
            "first": pa.array([one.first for one in wanted], pa.int64()),
            "last": pa.array([one.last for one in wanted], pa.int64()),
            "is_any_age": pa.array([one.is_any_age for one in wanted], pa.bool_()),
        }
    )


_Columns = tuple[NDArray[np.int64], ...]


def _stored_columns(rows: pa.Table) -> _Columns:
    batches = rows.to_batches()
    if not batches:
        return (np.empty(0, dtype=np.int64),) * 4
    (batch,) = batches
    return (
        batch["number"].to_numpy(),
        batch["sequence"].to_numpy(),
        fingerprints_of(batch),
        batch["kafka_time"].to_numpy(),
    )


def _covered_columns(rows: pa.Table) -> Iterable[_Columns]:
    """Yield the contents of the numbers that belong to the ranges of rows with higher numbers."""
    names = ("number", "first_sequence", "sequence", "kafka_time")
    numbers, firsts, lasts, kafka_times = (rows[name].to_numpy() for name in names)
    widths = lasts - firsts
    if widths.any():
        row_idx = np.repeat(np.arange(len(widths)), widths)
        place = np.arange(len(row_idx)) - np.repeat(np.cumsum(widths) - widths, widths)
        yield (
            numbers[row_idx],
            firsts[row_idx] + place,
            np.full(len(row_idx), COVERED, dtype=np.int64),
            kafka_times[row_idx],
        )


def _non_market_columns(wanted: Sequence[WantedContents], non_market: Iterable[StoredSession]) -> Iterable[_Columns]:
    """Yield the contents of wanted numbers of non-market trades."""
    by_key = defaultdict[SessionKey, list[StoredSession]](list)
    for session in non_market:
        by_key[session.key].append(session)
    for index, one in enumerate(wanted):
        for session in by_key.get(one.key, ()):
            numbers = IntervalSet(*zip(*session.ranges, strict=True))
            for first, last in numbers.overlap(one.first, one.last):
                count = last - first + 1
                yield (
                    np.full(count, index, dtype=np.int64),
                    np.arange(first, last + 1, dtype=np.int64),
                    np.full(count, NON_MARKET_CONTENT, dtype=np.int64),
                    np.full(count, session.latest, dtype=np.int64),
                )

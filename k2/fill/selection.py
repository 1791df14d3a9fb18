"""Which trades of an archive are missing: by the ledger's numbers, or by their ids where numbers say nothing."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyiceberg.expressions import And
from pyiceberg.table import Table

from k2.fill.ranges import Range, merged, overlaps, within, without
from k2.model.decimals import parse_decimal, spell_decimal
from k2.model.progress import TopicPartition
from k2.model.times import time_of
from k2.query.engine import Engine
from k2.query.gaps import missing_ranges
from k2.query.symbol_topics import topic_partitions
from k2.query.where_clauses import between, equal

__all__ = ["Ledger", "Pick", "Symbol", "ids_of", "numbers_of", "read_ledger", "select", "without_numbers"]

SPAN_MARGIN: Final = timedelta(days=1)
"""Stored trades are compared in the time span of an archive and this long before and after it: times may differ."""


class Symbol(NamedTuple):
    """A symbol of an exchange."""

    exchange: str
    symbol: str


class NumberedSession(NamedTuple):
    """A session of a symbol, by the ledger."""

    number: int
    begins_at: int
    """Venue time of the trade that began it, microseconds since the epoch."""
    missing: list[Range]
    """Disjoint and ascending."""


class Ledger(NamedTuple):
    """What the ledger says of a symbol."""

    missing: list[Range]
    """Of all sessions, disjoint and ascending, accepted ones among them."""
    is_numbered: bool
    """Whether it has a session, so that numbers that are not stored are known."""
    topic_partitions: list[TopicPartition]
    """Those of its events, the newest first."""
    sessions: Sequence[NumberedSession] = ()
    """Ascending; none for a symbol with one session, whose numbers say alone which trade is missing."""


@dataclass(frozen=True)
class Pick:
    """What of an archive's trades of one symbol is published, and what is known of the others."""

    trades: pa.Table
    """Those that are missing, columns as `k2.fill.archives.TRADES`, by number."""
    read: int
    stored: int
    """Trades that are in the table already, with the same content."""
    contradictions: list[str]
    """Ids of the trades that are in the table with other content; neither is published nor changed."""
    overlapping: list[str]
    """Ids of the trades of whose numbers some are missing and others stored. The job stores no number twice, so a trade
    that stands for these would be set aside; none is published."""
    elsewhere: int
    """Trades that are neither stored nor missing: before the first, after the newest, or not of the market."""
    without_id: int
    """Trades with neither a number nor an id; no one can say whether they are stored."""
    absent: list[Range]
    """Missing numbers between the archive's first and last that it does not have either."""
    withheld: int = 0
    """Missing trades that are not published, because more of the archive's others contradict stored trades than agree
    with them: it is of another symbol or market."""


def read_ledger(engine: Engine, ledger: Table, symbol: Symbol) -> Ledger:
    """Read the events of a symbol; the table is registered in the engine as `sequence_events`."""
    engine.register("sequence_events", ledger, row_filter=equal(exchange=symbol.exchange, symbol=symbol.symbol))
    found = {
        key.session: merged(ranges)
        for key, ranges in missing_ranges(engine).items()
        if (key.exchange, key.symbol) == symbol
    }
    known = topic_partitions(engine, *symbol)
    begun = engine.query(_SESSIONS, symbol._asdict())
    sessions = [NumberedSession(row["session"], row["begins_at"], found.get(row["session"], [])) for row in begun]
    missing = merged(one for ranges in found.values() for one in ranges)
    return Ledger(missing, bool(known), known, sessions if len(sessions) > 1 else ())


def select(engine: Engine, stored: Table, symbol: Symbol, ledger: Ledger, trades: pa.Table) -> Pick:
    """Compare an archive's trades of one symbol with the ledger and the stored trades.

    A trade is picked if one of its numbers is missing and none is stored; if the symbol or the archive has no numbers,
    if its id is not stored. A trade that is stored is never picked, whatever the ledger says, so a ledger that is a
    commit late does no harm. If numbering restarted, a number that is missing in the session of the trade's time is
    compared with that session alone: another session stores another trade under it. `trades` has at least one row.
    """
    by_number = ledger.is_numbered and not trades["sequence"].null_count
    places = pa.array(np.arange(trades.num_rows))
    span = pc.min_max(trades["timestamp"])
    start, end = time_of(span["min"].as_py()) - SPAN_MARGIN, time_of(span["max"].as_py()) + SPAN_MARGIN
    where = And(equal(exchange=symbol.exchange, symbol=symbol.symbol), between("timestamp", start, end))
    engine.register("trades", stored, row_filter=where)
    homes = _homes(trades, ledger.sessions) if by_number else np.zeros(trades.num_rows, np.int64)
    compared = _with_decimals(trades).append_column("place", places).append_column("home", pa.array(homes))
    engine.register_arrow("archive", compared)
    rows = engine.table(_BY_NUMBER if by_number else _BY_ID, symbol._asdict())
    is_stored = np.zeros(trades.num_rows, np.bool_)
    agrees = np.zeros(trades.num_rows, np.bool_)
    is_stored[rows["place"].to_numpy()] = True
    agrees[rows["place"].to_numpy()] = rows["agrees"].to_numpy(zero_copy_only=False)
    overlaps_stored = np.zeros(trades.num_rows, np.bool_)
    if by_number and trades["first_sequence"].null_count < trades.num_rows:
        overlaps_stored[engine.table(_OVERLAPPING, symbol._asdict())["place"].to_numpy()] = True
    return _pick(
        trades,
        is_stored,
        agrees,
        overlaps_stored & ~is_stored,
        ledger.missing,
        by_number=by_number,
        homes=homes if ledger.sessions else None,
    )


def _homes(trades: pa.Table, sessions: Sequence[NumberedSession]) -> NDArray[np.int64]:
    """Return for each trade the session in which it is missing, by its time; 0 if it is not, or if there is only one.

    An archive may have the time in milliseconds, and the ledger in microseconds.
    """
    firsts, lasts = _bounds(trades)
    times = trades["timestamp"].to_numpy()
    homes = np.zeros(trades.num_rows, np.int64)
    for idx, one in enumerate(sessions):
        is_its_own = times >= one.begins_at // 1_000 * 1_000 if idx else np.ones(trades.num_rows, np.bool_)
        homes[is_its_own] = np.where(overlaps(one.missing, firsts, lasts), one.number, 0)[is_its_own]
    return homes


def _with_decimals(trades: pa.Table) -> pa.Table:
    """Return trades with price and quantity as decimal(38, 18); null if they do not fit.

    By Arrow: 0.04 us a text, where DuckDB takes 8 us (`python -m benchmarks.backfill`).
    """
    for name in ("price", "quantity"):
        place = trades.schema.get_field_index(name)
        trades = trades.set_column(place, pa.field(name, _DECIMAL), _decimals(trades[name]))
    return trades


def _decimals(texts: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    # Arrow reads 1e30, which does not fit, as another number instead of an error.
    if not pc.any(pc.match_substring(texts, "e", ignore_case=True)).as_py():
        with suppress(pa.ArrowInvalid):
            return texts.cast(_DECIMAL)
    return pa.chunked_array([pa.array([_decimal(str(text)) for text in texts.to_pylist()], _DECIMAL)])


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(spell_decimal(parse_decimal(text)))
    except ValueError:
        return None


def _pick(
    trades: pa.Table,
    is_stored: NDArray[np.bool_],
    agrees: NDArray[np.bool_],
    overlaps_stored: NDArray[np.bool_],
    missing: Sequence[Range],
    *,
    by_number: bool,
    homes: NDArray[np.int64] | None = None,
) -> Pick:
    absent: list[Range] = []
    if by_number:
        firsts, lasts = _bounds(trades)
        is_missing = overlaps(missing, firsts, lasts) if homes is None else homes > 0
        has_id = np.ones(trades.num_rows, np.bool_)
        absent = without(within(missing, int(firsts.min()), int(lasts.max())), numbers_of(trades))
    else:
        has_id = ~pc.and_(pc.is_null(trades["trade_id"]), pc.is_null(trades["sequence"])).to_numpy()
        is_missing = has_id
    picked = is_missing & ~is_stored & ~overlaps_stored
    contradicted = trades.filter(pa.array(is_stored & ~agrees))
    found = _without_repeats(trades.filter(pa.array(picked)), by_number=by_number)
    is_other = contradicted.num_rows > (is_stored & agrees).sum()
    return Pick(
        found[:0] if is_other else found,
        trades.num_rows,
        int((is_stored & agrees).sum()),
        [*dict.fromkeys(ids_of(contradicted))],
        [*dict.fromkeys(ids_of(trades.filter(pa.array(is_missing & overlaps_stored))))],
        int((~is_stored & ~is_missing & has_id).sum()),
        int((~has_id).sum()),
        absent,
        found.num_rows if is_other else 0,
    )


def numbers_of(trades: pa.Table) -> list[tuple[int, int]]:
    """Return the first and the last number of each trade; every trade has a number."""
    firsts, lasts = _bounds(trades)
    return [*zip(firsts.tolist(), lasts.tolist(), strict=True)]


def _bounds(trades: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lasts = trades["sequence"]
    return pc.coalesce(trades["first_sequence"], lasts).to_numpy(), lasts.to_numpy()


def ids_of(trades: pa.Table) -> list[str]:
    """Return the id of each trade: its own, or the text of its number."""
    ids: list[str] = _ids(trades).to_pylist()  # type: ignore[assignment]  # each has one
    return ids


def without_numbers(trades: pa.Table) -> pa.Table:
    """Return trades that are known by their ids alone: the text of its number is the id of one that has no other."""
    none = pa.nulls(trades.num_rows, pa.int64())
    columns: dict[str, Any] = {"trade_id": _ids(trades), "sequence": none, "first_sequence": none}
    return pa.table({name: columns.get(name, trades[name]) for name in trades.schema.names}, trades.schema)


def _ids(trades: pa.Table) -> "pa.ChunkedArray[Any]":
    return pc.coalesce(trades["trade_id"], pc.cast(trades["sequence"], pa.string()))


def _without_repeats(trades: pa.Table, *, by_number: bool) -> pa.Table:
    """Return the trades by number, or in the file's order, the first of those with one number or id."""
    if by_number:
        trades = trades.sort_by("sequence")
    first = {trade_id: idx for idx, trade_id in reversed([*enumerate(ids_of(trades))])}
    return trades.take(np.array(sorted(first.values()), np.int64))


_DECIMAL: Final = pa.decimal128(38, 18)
_SESSIONS: Final = """
    SELECT session, epoch_us(min("timestamp")) AS begins_at FROM sequence_events
    WHERE exchange = $exchange AND symbol = $symbol AND event = 'session_started' GROUP BY session ORDER BY session
"""
# An id that is no more than the number's text is no content, and a side that one of the two does not know is none.
_AGREES: Final = """
    coalesce(stored.price = archive.price AND stored.quantity = archive.quantity, false)
    AND coalesce(stored.side = archive.side, true)
"""
_BY_NUMBER: Final = f"""
    SELECT place, bool_or({_AGREES} AND coalesce(
        stored.trade_id = archive.trade_id OR stored.trade_id = stored.sequence::VARCHAR, true)) AS agrees
    FROM archive JOIN (SELECT * FROM trades WHERE exchange = $exchange AND symbol = $symbol) AS stored
      ON stored.sequence = archive.sequence
     AND coalesce(stored.first_sequence, stored.sequence) = coalesce(archive.first_sequence, archive.sequence)
     AND archive.home IN (0, stored.session)
    GROUP BY place ORDER BY place
"""
_OVERLAPPING: Final = """
    SELECT DISTINCT place FROM archive JOIN trades AS stored
      ON coalesce(stored.first_sequence, stored.sequence) <= archive.sequence
     AND stored.sequence >= archive.first_sequence
     AND archive.home IN (0, stored.session)
    WHERE stored.exchange = $exchange AND stored.symbol = $symbol ORDER BY place
"""
_BY_ID: Final = f"""
    SELECT place, bool_or({_AGREES}) AS agrees
    FROM archive JOIN (SELECT * FROM trades WHERE exchange = $exchange AND symbol = $symbol) AS stored
      ON stored.trade_id = coalesce(archive.trade_id, archive.sequence::VARCHAR)
    GROUP BY place ORDER BY place
"""

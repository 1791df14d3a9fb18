"""Backfill: read archives, publish what of them is missing, and report what they say about the rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from k2.fill.archives import Archive
from k2.fill.publishing import ANY_PARTITION, check_times, messages, publish, target, venue_of, wait_until_read
from k2.fill.ranges import Range, count, merged, without
from k2.fill.selection import Ledger, Pick, Symbol, ids_of, numbers_of, read_ledger, select, without_numbers
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.pool import open_engine
from k2.query.tables import existing_table
from k2.query.where_clauses import equal

__all__ = ["Backfilled", "backfill"]

CONTRADICTIONS_SHOWN: Final = 5
Send = Callable[[Settings, Symbol, TopicPartition, str, str, Iterable[bytes]], None]
"""Publishes messages, as `k2.fill.publishing.publish`."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What came of the trades of one symbol in one archive.

    A trade that is read and in no other count is in the archive, or in one before it in the same call, more than once.
    """

    file: str
    sha256: str
    form: str
    exchange: str
    symbol: str
    topic: str | None
    """None if nothing was missing."""
    partition: int | None
    """None also if the producer chooses it."""
    read: int
    published: int
    """Of a dry run: those that would be published."""
    stored: int
    """Those that are stored with the same content."""
    contradictions: int
    """Trades that are stored with other content."""
    contradicting: list[str]
    """The first ids of those."""
    overlapping: int
    """Ranges of which a part is stored."""
    elsewhere: int
    """Trades that are neither stored nor missing: before the first number, after the newest, or not of the market."""
    without_id: int
    """Trades with neither a number nor an id."""
    still_missing: int
    """Numbers between the archive's first and last that are missing in it as well."""
    absent: list[Range]
    """The ranges of these numbers."""
    withheld: int
    """Missing trades that were not published, because the archive contradicts more stored trades than it confirms."""


def backfill(
    settings: Settings,
    archives: Iterable[tuple[Archive, str]],
    *,
    topic: str | None = None,
    wait_seconds: float = 0,
    dry_run: bool = False,
    send: Send = publish,
    wait: Callable[[Settings, TopicPartition, float], None] = wait_until_read,
) -> Iterator[Backfilled]:
    """Publish the trades of archives that are missing, and yield a report for each archive and symbol.

    `archives` are pairs with the origin to record. Nothing is published before the job has read all that is in the
    symbol's partition (`wait`), so a trade that an earlier call published is found stored, and no two archives of one
    call publish the same trade. A dry run contacts no broker.

    Raises:
        NoTableError: the job has not made its tables.
        SettingsError: the job reads no topic that had trades of a symbol.
        StateError: the job does not read on within `wait_seconds`.
        ArchiveError: the job would reject a trade; nothing of that archive and symbol is published.
    """
    published = _Published()
    targets: dict[Symbol, _Target] = {}
    waited: set[TopicPartition] = set()
    for archive, origin in archives:
        for symbol, of_symbol in _by_symbol(archive.trades):
            if symbol not in targets:
                targets[symbol] = _target(settings, symbol, topic)
            to, is_by_id = targets[symbol]
            check_times(archive.name, of_symbol, settings.time_ahead_seconds_max)
            trades = without_numbers(of_symbol) if is_by_id else of_symbol
            if not dry_run and to not in waited:
                wait(settings, to, wait_seconds)
                waited.add(to)
            with _tables(settings) as (engine, ledger_table, stored):
                ledger = published.left(symbol, read_ledger(engine, ledger_table, symbol))
                pick = published.without_repeats(symbol, select(engine, stored, symbol, ledger, trades))
            if pick.trades.num_rows:
                # All of them before the first is published: a trade that cannot be read stops the whole archive.
                values = [*messages(archive.name, pick.trades)]
                if not dry_run:
                    send(settings, symbol, to, venue_of(pick.trades), origin, values)
                published.add(symbol, pick.trades)
            yield _report(archive, symbol, to, pick)


class _Target(NamedTuple):
    """Where a symbol's trades are published."""

    where: TopicPartition
    is_by_id: bool
    """Whether trades are stored, none with a contiguous number: a numbered fill would open gaps between them."""


class _Published:
    """What this call has published: the job may not have read it yet."""

    def __init__(self) -> None:
        self._numbers: defaultdict[Symbol, list[Range]] = defaultdict(list)
        self._ids: defaultdict[Symbol, set[str]] = defaultdict(set)

    def left(self, symbol: Symbol, ledger: Ledger) -> Ledger:
        """Return the ledger as it is when everything published is read."""
        return ledger._replace(missing=without(ledger.missing, self._numbers[symbol]))

    def without_repeats(self, symbol: Symbol, pick: Pick) -> Pick:
        """Leave out trades without numbers that were published before."""
        if not self._ids[symbol] or not pick.trades["sequence"].null_count:
            return pick
        is_new = [trade_id not in self._ids[symbol] for trade_id in ids_of(pick.trades)]
        trades = pick.trades.filter(pa.array(is_new))
        return replace(pick, trades=trades)

    def add(self, symbol: Symbol, trades: pa.Table) -> None:
        """Record published trades."""
        if trades["sequence"].null_count:
            self._ids[symbol].update(ids_of(trades))
            return
        self._numbers[symbol] = merged([*self._numbers[symbol], *numbers_of(trades)])


@contextmanager
def _tables(settings: Settings) -> Iterator[tuple[Engine, Table, Table]]:
    """Yield an engine, and the ledger and the trades as they are now."""
    ledger, trades = (existing_table(settings, name) for name in ("sequence_events", "trades"))
    with open_engine(settings) as engine:
        yield engine, ledger, trades


def _target(settings: Settings, symbol: Symbol, topic: str | None) -> _Target:
    with _tables(settings) as (engine, ledger_table, trades):
        ledger = read_ledger(engine, ledger_table, symbol)
        stored = [] if ledger.topic_partitions else _stored_partitions(engine, trades, symbol)
        return _Target(target(settings, symbol, ledger, stored, topic), bool(stored))


def _stored_partitions(engine: Engine, trades: Table, symbol: Symbol) -> list[TopicPartition]:
    """Return the topic partitions of the stored trades of a symbol, that of the newest trade first."""
    engine.register("trades", trades, row_filter=equal(exchange=symbol.exchange, symbol=symbol.symbol))
    rows = engine.query(_STORED_PARTITIONS, symbol._asdict())
    return [TopicPartition(row["topic"], row["partition"]) for row in rows]


_STORED_PARTITIONS: Final = """
    SELECT topic, partition FROM trades WHERE exchange = $exchange AND symbol = $symbol
    GROUP BY topic, partition ORDER BY max(kafka_timestamp) DESC, topic, partition
"""


def _by_symbol(trades: pa.Table) -> Iterator[tuple[Symbol, pa.Table]]:
    names = (
        trades.group_by(["exchange", "symbol"])
        .aggregate([])
        .sort_by([("exchange", "ascending"), ("symbol", "ascending")])
    )
    for row in names.to_pylist():
        is_wanted = pc.and_(pc.equal(trades["exchange"], row["exchange"]), pc.equal(trades["symbol"], row["symbol"]))
        of_symbol = trades.filter(is_wanted)
        # A capture may have both kinds: one trade without a number must not take the numbers of the others away.
        is_numbered = pc.is_valid(of_symbol["sequence"])
        for kind in (is_numbered, pc.invert(is_numbered)):
            if (of_kind := of_symbol.filter(kind)).num_rows:
                yield Symbol(**row), of_kind.combine_chunks()


def _report(archive: Archive, symbol: Symbol, to: TopicPartition, pick: Pick) -> Backfilled:
    count_published = pick.trades.num_rows
    return Backfilled(
        archive.name,
        archive.sha256,
        archive.form,
        *symbol,
        to.topic if count_published else None,
        to.partition if count_published and to.partition != ANY_PARTITION else None,
        pick.read,
        count_published,
        pick.stored,
        len(pick.contradictions),
        pick.contradictions[:CONTRADICTIONS_SHOWN],
        len(pick.overlapping),
        pick.elsewhere,
        pick.without_id,
        count(pick.absent),
        pick.absent,
        pick.withheld,
    )

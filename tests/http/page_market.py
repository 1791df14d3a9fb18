"""A day's market for the page: symbols of several exchanges, gaps, outages and dead letters, from a seed."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from k2.iceberg.tables import TableName
from k2.model.dead_letter import DeadLetter
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.storage.commit_log import PartitionMove, commit_of
from k2.storage.table_properties import COMMIT_NOTES
from tests.model.dead_letters import dead_letter
from tests.query.replays import record_replays
from tests.query.tables import append, event, job_commit, made, set_commit_notes, set_progress, write_letters

__all__ = ["ERRORS", "HOSTILE", "LISTED", "PARTITIONS", "Made", "Missing", "make_market", "move_on"]

HOURS: Final = 24
PARTITIONS: Final = 4
LAG: Final = 7
"""What each commit recorded as unread."""
HOSTILE: Final = "<img src=x onerror=document.title='pwned'>\u202egnp.\u2066"
LISTED: Final = (
    ("binance", "BTCUSDT", "61204.5", 170),
    ("binance", "ETHUSDT", "2687.31", 120),
    ("binance", "SOLUSDT", "154.82", 60),
    ("binance", "BNBUSDT", "518.4", 40),
    ("bybit", "BTCUSDT", "61198.1", 70),
    ("bybit", "ETHUSDT", "2686.95", 50),
    ("bybit", "XRPUSDT", "0.58213", 30),
    ("coinbase", "BTC-USD", "61230.02", 50),
    ("coinbase", "ETH-USD", "2688.17", 30),
    ("coinbase", "SOL-USD", "154.91", 20),
    ("okx", "BTC-USDT", "61201.7", 40),
    ("okx", "ETH-USDT", "2687.02", 30),
    ("okx", "DOGE-USDT", "0.10734", 20),
    ("okx", "LTC-USDT", "61.44", 12),
)
"""Exchange, symbol, first price and trades an hour."""
_DEAD: Final = {
    Reason.MALFORMED: 31,
    Reason.INVALID: 14,
    Reason.CONFLICT: 7,
    Reason.UNSUPPORTED: 3,
    Reason.TOO_LARGE: 1,
}
ERRORS: Final = {
    Reason.MALFORMED: "not UTF-8 at byte {}",
    Reason.INVALID: "price: not a decimal: '{}x'; send a decimal",
    Reason.CONFLICT: "sequence: {} is stored with other content",
    Reason.UNSUPPORTED: "no kind of message of this venue: 'order{}'",
    Reason.TOO_LARGE: "value: {} bytes, more than 1048576",
}
"""The error of each reason, where the braces stand for a number."""
VALUES: Final = {Reason.MALFORMED: "e/8KPg==", Reason.INVALID: f'{{"symbol": "{HOSTILE}",\n "price": "1x"}}'}
"""Messages of two reasons; the first is not UTF-8."""
_DUPLICATES, _SKIPPED = 120, 35


@dataclass(frozen=True)
class Missing:
    """Missing numbers of a symbol, all within one hour of the market."""

    exchange: str
    symbol: str
    hour: int
    first: int
    last: int


@dataclass
class Made:
    """What a market consists of."""

    settings: Settings
    start: datetime
    """Start of its first hour."""
    end: datetime
    """No message is later."""
    missing: list[Missing] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    stored: int = 0
    reasons: dict[str, int] = field(default_factory=lambda: {reason.value: count for reason, count in _DEAD.items()})

    @property
    def received(self) -> int:
        """The total of all messages received."""
        return self.stored + _DUPLICATES + sum(self.reasons.values()) + _SKIPPED


_HOLES: Final = (
    *((0, 13, 5), (1, 11, 1), (2, 4, 1), (3, 15, 2), (4, 9, 12), (4, 10, 40), (5, 7, 6), (6, 17, 9), (7, 19, 1)),
    *((8, 12, 3), (9, 2, 3), (10, 6, 40), (10, 7, 40), (12, 20, 2)),
)
"""Index in the list, hour, and how many numbers are missing; all numbers of the hour are an outage."""
_QUIET: Final = {13: range(1, 6)}
"""Index in the list, and hours without trades."""


def make_market(settings: Settings, end: datetime, names: tuple[tuple[str, str, str, int], ...] = LISTED) -> Made:
    """Make the tables of a market over the 24 hours up to and including the hour of `end`."""
    dice = random.Random(7)
    made_of = Made(settings, end.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1), end)
    rows: list[dict[str, Any]] = []
    for at, listed in enumerate(names):
        rows += _symbol(made_of, at, listed, dice, end)
    rows.sort(key=lambda row: row["timestamp"])
    offsets: Counter[int] = Counter()
    for row in rows:
        row["offset"] = offsets[row["partition"]]
        offsets[row["partition"]] += 1
    made_of.stored = len(rows)
    table = made(settings, TableName.TRADES)
    _commit(table, rows, _progress(offsets))
    made_of.letters = _letters(offsets[0] + _DUPLICATES + _SKIPPED, end, dice)
    write_letters(settings, made_of.letters)
    record_replays(settings, [(made_of.letters[0], 10**9)])
    _note_commits(made(settings, TableName.TRADES), rows, made_of)
    gaps = [
        event("gap_opened", one.first, one.last, exchange=one.exchange, symbol=one.symbol, session=1,
              detected_at=made_of.start + timedelta(hours=one.hour, minutes=41))
        for one in made_of.missing
    ]  # fmt: skip
    append(made(settings, TableName.SEQUENCE_EVENTS), gaps)
    return made_of


def _note_commits(table: Table, rows: list[dict[str, Any]], made_of: Made) -> None:
    """Note a commit every 15 minutes instead of one of all rows, so that the market has a history."""
    quarter, snapshot = timedelta(minutes=15), table.current_snapshot()
    assert snapshot is not None, "of the rows"
    stored = Counter(((row["timestamp"] - made_of.start) // quarter, row["partition"]) for row in rows)
    dead = Counter((one.dead_lettered_at - made_of.start) // quarter for one in made_of.letters if one.dead_lettered_at)
    last, offsets, commits = max(idx for idx, _ in stored), Counter[int](), []
    for idx in range(last + 1):
        moves = []
        for partition in sorted({partition for _, partition in stored}):
            rest = (_share(_DUPLICATES, idx, last + 1), dead[idx], _share(_SKIPPED, idx, last + 1))
            counts = (stored[idx, partition], *(rest if partition == 0 else (0, 0, 0)))
            offsets[partition] += sum(counts)
            moves.append(PartitionMove("trades", partition, offsets[partition], sum(counts), *counts))
        when = min(made_of.start + (idx + 1) * quarter - timedelta(seconds=7), made_of.end)
        own_id = snapshot.snapshot_id if idx == last else 0
        commits.append(job_commit(idx + 1, when, snapshot_id=own_id, moves=moves, lag=LAG))
    set_commit_notes(table, commits)


def _share(count: int, idx: int, parts: int) -> int:
    """Return the part of a count that is in one of as many nearly equal parts."""
    return count * (idx + 1) // parts - count * idx // parts


def _symbol(
    made_of: Made, at: int, listed: tuple[str, str, str, int], dice: random.Random, end: datetime
) -> list[dict[str, Any]]:
    exchange, symbol, first_price, an_hour = listed
    price, step = float(first_price), timedelta(hours=1) / an_hour
    places = len(first_price.partition(".")[2])
    lost = set()
    for hour, count in [(hour, count) for place, hour, count in _HOLES if place == at]:
        # In the middle of the hour, so that its neighbours are in the same hour, except in an outage.
        first = hour * an_hour + max(0, (an_hour - count) // 2) + 1
        last = min(first + count - 1, (hour + 1) * an_hour)
        made_of.missing.append(Missing(exchange, symbol, hour, first, last))
        lost |= {*range(first, last + 1)}
    rows = []
    for number in range(1, HOURS * an_hour + 1):
        price *= 1 + dice.gauss(0, 0.0009)
        when = made_of.start + (number - 0.5) * step
        is_quiet = (number - 1) // an_hour in _QUIET.get(at, ())
        if number not in lost and not is_quiet and when <= end:
            rows.append(_row(exchange, symbol, number, at, f"{price:.{places}f}", when, dice))
    # Only trades have numbers: a quiet hour uses none.
    return _renumbered(rows) if at in _QUIET else rows


def _row(
    exchange: str, symbol: str, number: int, at: int, price: str, when: datetime, dice: random.Random
) -> dict[str, Any]:
    activity = 2 + abs(when.hour - 3) % 13 + (9 if dice.random() < 0.02 else 0)
    return {
        "exchange": exchange, "symbol": symbol, "trade_id": str(number), "sequence": number, "session": 1,
        "price": Decimal(price), "quantity": Decimal(dice.randrange(1, 40_000) * activity) / 10_000,
        "side": dice.choice(["buy", "sell"]), "timestamp": when, "received": when, "topic": "trades",
        "partition": at % PARTITIONS, "offset": 0, "index": 0, "kafka_timestamp": when + timedelta(milliseconds=40),
    }  # fmt: skip


def _renumbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "sequence": at + 1, "trade_id": str(at + 1)} for at, row in enumerate(rows)]


def _letters(first: int, end: datetime, dice: random.Random) -> list[DeadLetter]:
    reasons = [reason for reason, count in _DEAD.items() for _ in range(count)]
    dice.shuffle(reasons)
    return [
        dead_letter(
            first + at,
            reason=reason,
            error=ERRORS[reason].format(first + at),
            value=VALUES.get(reason, '{"exchange": "binance"'),
            value_encoding="base64" if reason is Reason.MALFORMED else None,
            dead_lettered_at=end - timedelta(minutes=90 - at),
        )
        for at, reason in enumerate(reasons)
    ]


def _progress(stored: Counter[int]) -> Progress:
    """Return progress after these rows: messages that are not rows belong to partition 0."""
    entries = {TopicPartition("trades", one): PartitionProgress(count, count, count) for one, count in stored.items()}
    first, dead = TopicPartition("trades", 0), sum(_DEAD.values())
    count = stored[0]
    received = count + _DUPLICATES + dead + _SKIPPED
    entries[first] = PartitionProgress(received, received, count, _DUPLICATES, dead, _SKIPPED)
    return Progress({"0": entries})


def move_on(settings: Settings, latest: list[dict[str, Any]], count: int, when: datetime) -> None:
    """Commit this many more trades after the last one of each given symbol, as the job would."""
    table = made(settings, TableName.TRADES)
    progress = Progress.parse(table.metadata.properties["k2.progress"])
    moves: dict[TopicPartition, PartitionProgress] = {}
    rows: list[dict[str, Any]] = []
    for row in latest:
        where = TopicPartition(row["topic"], row["partition"])
        before = progress.of("0")[where].offset
        moves[where] = PartitionProgress(before + count, count, count)
        rows += [_following(row, at, before + at, when) for at in range(count)]
    after = {where: progress.of("0")[where].advanced(move) for where, move in moves.items()}
    _commit(table, rows, progress.replaced("0", {**progress.of("0"), **after}), moves)


def _following(row: dict[str, Any], at: int, offset: int, when: datetime) -> dict[str, Any]:
    number = row["sequence"] + 1 + at
    decimals = {name: Decimal(row[name]) for name in ("price", "quantity")}
    times = dict.fromkeys(("timestamp", "received", "kafka_timestamp"), when)
    return {**row, **decimals, **times, "sequence": number, "trade_id": str(number), "offset": offset}


def _commit(
    table: Table,
    rows: list[dict[str, Any]],
    progress: Progress,
    moves: dict[TopicPartition, PartitionProgress] | None = None,
) -> None:
    """Append rows in a commit with the summary that the job's commits have."""
    moved = progress if moves is None else Progress({"0": moves})
    own = {"k2.writer": "0", "k2.progress": moved.text()}
    table.append(pa.Table.from_pylist(rows, schema=schema_to_pyarrow(table.schema())), snapshot_properties=own)
    set_progress(table, progress)
    if (notes := COMMIT_NOTES.read(table.metadata.properties)) and (snapshot := table.current_snapshot()) is not None:
        commit = commit_of(snapshot)
        assert commit is not None, "of the job"
        set_commit_notes(table, [*notes, msgspec.structs.replace(commit, previous_id=notes[-1].snapshot_id)])

"""What of an archive is published: only what is missing now, once, with its origin."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.fill.archives import TRADES, Archive, ArchiveError
from k2.fill.backfill import Backfilled, backfill
from k2.fill.open_gaps import open_gaps
from k2.fill.publishing import target, wait_until_read
from k2.fill.ranges import Range, merged
from k2.fill.selection import Ledger, Symbol, _decimals, _pick
from k2.iceberg.tables import TableName
from k2.model.errors import SettingsError, StateError
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.trade import Trade
from k2.ops.settings import Settings, read_settings
from k2.venues import VENUES
from tests.query.tables import EPOCH, append, event, made, trade

AT_US = 1723161600_000_000
"""The epoch of the tables that tests make."""


@dataclass
class Sent:
    """What was published, in place of a broker."""

    values: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[Symbol, TopicPartition, str, str]] = field(default_factory=list)

    def __call__(
        self, settings: Settings, symbol: Symbol, to: TopicPartition, venue: str, origin: str, values: Iterable[bytes]
    ) -> None:
        """Record a call of `publish`."""
        self.calls.append((symbol, to, venue, origin))
        self.values += map(json.loads, values)

    @property
    def numbers(self) -> list[int]:
        """The numbers published, in order."""
        return [value["sequence"] for value in self.values]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return a job that has 1, 2, 6, 7, 9 and 10 of a symbol, for which 8 is accepted, and ids of another."""
    options = read_settings({}, data_dir=tmp_path_factory.mktemp("fill"), topics="other,trades")
    ledger = made(options, TableName.SEQUENCE_EVENTS)
    append(
        ledger,
        [
            event("session_started", 1, 1, session=1, partition=3),
            event("gap_opened", 3, 5, session=1, partition=3),
            event("gap_opened", 8, 8, session=1, partition=3),
            event("gap_accepted", 8, 8, session=1, topic="", partition=-1, offset=-1, reason="lost"),
            event("gap_opened", 50, 60, session=1, symbol="ETHUSDT"),
        ],
    )
    stored = [trade(number, session=1, partition=3) for number in (1, 2, 6, 7, 9, 10)]
    ids = [trade(number, exchange="bybit", trade_id=f"id-{number}", sequence=None) for number in (20, 21, 22)]
    append(made(options, TableName.TRADES), [*stored, *ids])
    return options


def archive(rows: Iterable[dict[str, Any]], name: str = "day.zip") -> tuple[Archive, str]:
    """Return an archive of trades, with its origin."""
    content = {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "trade_id": None,
        "first_sequence": None,
        "price": "2.50",
        "quantity": "2",
        "side": "buy",
    }
    trades = [content | {"timestamp": AT_US + (row["sequence"] or 0) * 1_000_000} | row for row in rows]
    return Archive(name, "0" * 64, "form", pa.Table.from_pylist(trades, TRADES)), f"archive sha256:{'0' * 64} {name}"


def numbered(numbers: Iterable[int], **fields: Any) -> tuple[Archive, str]:
    """Return an archive of one trade for each number."""
    return archive([{"sequence": number, **fields} for number in numbers])


def run(settings: Settings, *archives: tuple[Archive, str], **options: Any) -> tuple[Sent, list[Backfilled]]:
    """Backfill without a broker."""
    sent = Sent()
    return sent, [*backfill(settings, archives, send=sent, wait=lambda *_: None, **options)]


def test_only_missing_numbers_are_published(settings: Settings) -> None:
    """Accepted ones as well, to the partition of the symbol's events, by number, with the digits of the file."""
    # 55 is missing of another symbol.
    given = numbered([55, 8, 5, 3, 1, 2, 6, 7, 9, 10])
    sent, (report,) = run(settings, given)
    assert sent.numbers == [3, 5, 8]
    assert sent.calls == [(Symbol("binance", "BTCUSDT"), TopicPartition("trades", 3), "k2-fill", given[1])]
    assert sent.values[0] == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "sequence": 3,
        "price": "2.50",
        "quantity": "2",
        "side": "buy",
        "timestamp": AT_US + 3_000_000,
    }
    assert (report.read, report.published, report.stored, report.elsewhere) == (10, 3, 6, 1)
    assert (report.contradictions, report.still_missing, report.absent) == (0, 1, [Range(4, 4)])
    assert (report.topic, report.partition) == ("trades", 3)


def test_what_is_published_is_what_the_job_decodes(settings: Settings) -> None:
    """The venue that the message names gives the same trade, a range with its first number."""
    rows = [{"sequence": 5, "first_sequence": 3, "trade_id": "77", "side": None, "price": "9.2e-07"}]
    sent, _ = run(settings, archive(rows))
    (found,) = VENUES["k2-fill"].decode(json.dumps(sent.values[0]).encode())
    assert isinstance(found, Trade)
    assert (found.trade_id, found.first_sequence, found.sequence) == ("77", 3, 5)
    assert (found.price, found.timestamp) == (920_000_000_000, AT_US + 5_000_000)


def test_nothing_is_published_twice_by_one_call(settings: Settings) -> None:
    """Two files that overlap, and one that has a trade twice."""
    sent, reports = run(settings, numbered([3, 3, 4, 5]), numbered([5, 8, 8]), numbered([3, 4, 5, 8]))
    assert sent.numbers == [3, 4, 5, 8]
    assert [report.published for report in reports] == [3, 1, 0]


def test_other_content_is_reported_and_never_published(settings: Settings) -> None:
    """Price, quantity, side, and an id of its own are content; a time is none, nor a side that the file lacks."""
    rows = [
        {"sequence": 1, "price": "2.51"},
        {"sequence": 2, "quantity": "1.999999999999999999"},
        {"sequence": 6, "side": "sell"},
        {"sequence": 7, "side": None, "timestamp": AT_US},
        {"sequence": 9, "trade_id": "another", "price": "2.5000"},
        {"sequence": 10, "price": "1e30"},
    ]
    sent, (report,) = run(settings, archive(rows))
    assert not sent.calls
    assert (report.stored, report.contradictions, report.contradicting) == (2, 4, ["1", "2", "6", "10"])
    _, (report,) = run(settings, archive([*rows[:5], {"sequence": 10, "price": "25e-1", "quantity": "2.0"}]))
    assert (report.stored, report.contradictions) == (3, 3)
    assert report.topic is None


def test_ranges_fill_what_they_overlap(settings: Settings) -> None:
    """An aggregate is published if a number of it is missing and none is stored; other ranges are not compared."""
    rows = [
        {"sequence": 2, "first_sequence": 1, "trade_id": "70", "price": "3"},
        {"sequence": 4, "first_sequence": 3, "trade_id": "71"},
        {"sequence": 9, "first_sequence": 8, "trade_id": "72"},
    ]
    sent, (report,) = run(settings, archive(rows))
    assert [(value["first_sequence"], value["sequence"]) for value in sent.values] == [(3, 4)]
    assert (report.contradictions, report.elsewhere, report.absent) == (0, 1, [Range(5, 5)])
    assert (report.overlapping, report.published) == (1, 1)


def test_without_numbers_ids_decide(settings: Settings) -> None:
    """Trades whose id is not stored are published by the venue of ids; a trade without an id never."""
    ids = ["id-20", "id-21", "id-30", "id-30", None]
    rows = [{"exchange": "bybit", "sequence": None, "trade_id": one, "timestamp": AT_US + 20_000_000} for one in ids]
    rows[1]["price"] = "7"
    sent, (first, second) = run(settings, archive(rows), archive(rows))
    assert [(value["trade_id"], "sequence" in value) for value in sent.values] == [("id-30", False)]
    assert [call[2] for call in sent.calls] == ["k2-identity-only"]
    assert (first.published, first.stored, first.contradicting, first.without_id) == (1, 1, ["id-21"], 1)
    assert second.published == 0


def test_a_dry_run_publishes_nothing(settings: Settings) -> None:
    """And neither asks the broker how far the job has read."""
    sent = Sent()
    (report,) = backfill(settings, [numbered([3, 4])], send=sent, dry_run=True)
    assert not sent.calls
    assert report.published == 2


def test_the_topic_is_one_that_the_job_reads(settings: Settings) -> None:
    """The first of `K2_TOPICS` that had the symbol; another by name, where the producer chooses the partition."""
    sent, _ = run(settings, numbered([3]), topic="other")
    assert sent.calls[0][1] == TopicPartition("other", -1)
    with pytest.raises(SettingsError, match=r"--topic 'gone' is not in K2_TOPICS \(other, trades\)"):
        target(settings, Symbol("binance", "BTCUSDT"), Ledger([], is_numbered=False, topic_partitions=[]), [], "gone")
    with pytest.raises(SettingsError, match="had trades of binance DOGEUSDT; name one with --topic"):
        run(settings, numbered([3], symbol="DOGEUSDT"))


def test_a_trade_that_the_job_would_reject_stops_its_archive(settings: Settings) -> None:
    """Before the first of it is published: a fill never becomes a dead letter."""
    sent = Sent()
    bad = archive([{"sequence": 3}, {"sequence": 4, "price": "1e30"}])
    with pytest.raises(ArchiveError, match=r"day.zip: trade 4: price: does not fit"):
        [*backfill(settings, [bad], send=sent, wait=lambda *_: None)]
    assert not sent.calls


def test_the_next_run_waits_until_the_job_has_read(settings: Settings) -> None:
    """All writers count; otherwise it is refused in one sentence that says how far the job is."""
    here = TopicPartition("trades", 3)
    reads = [
        Progress({"0": {here: PartitionProgress(120)}, "1": {here: PartitionProgress(offset)}}) for offset in (90, 120)
    ]
    options: Any = {"progress": lambda _: reads.pop(0), "ends": lambda *_: {here: 120}}
    wait_until_read(settings, TopicPartition("trades", 3), 5, **options)
    assert not reads
    options["progress"] = lambda _: Progress()
    with pytest.raises(
        StateError, match=r"trades:3 ends at offset 120, and the job has committed it up to 0; .* --wait"
    ):
        wait_until_read(settings, TopicPartition("trades", 3), 0, **options)


NUMBERS = st.sets(st.integers(1, 30))


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_number_is_published_if_it_is_missing_and_not_stored(
    missing: set[int], stored: set[int], in_archive: set[int]
) -> None:
    """For any ledger, table and archive; what the archive lacks within its span is named."""
    if not in_archive:
        return
    numbers = sorted(in_archive)
    trades = archive([{"sequence": number} for number in numbers])[0].trades
    is_stored = pa.array([number in stored for number in numbers]).to_numpy(zero_copy_only=False)
    ranges = merged((number, number) for number in missing)
    pick = _pick(trades, is_stored, is_stored, ~is_stored & False, ranges, by_number=True)
    assert pick.trades["sequence"].to_pylist() == sorted(in_archive & missing - stored)
    span = {*range(numbers[0], numbers[-1] + 1)}
    assert {number for first, last in pick.absent for number in range(first, last + 1)} == missing & span - in_archive
    assert pick.read == pick.trades.num_rows + pick.stored + pick.elsewhere


def test_a_gap_has_the_times_of_its_neighbours(settings: Settings) -> None:
    """Of the stored trades below and above, in its session; one that is accepted is requested from nobody."""
    found = open_gaps(settings)
    assert [gap[1:4] for gap in found] == [("BTCUSDT", 3, 5), ("ETHUSDT", 50, 60)]
    times = [[None if one is None else (one - EPOCH).seconds for one in gap[4:]] for gap in found]
    assert times == [[2, 6], [None, None]]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**20), max_value=10**20)))
def test_decimals_are_read_exactly(numbers: list[Decimal]) -> None:
    """Whatever their form; what does not fit is null, and changes no other."""
    texts = [form.format(number) for number in numbers for form in ("{}", "{:f}")]
    wanted = [None if len(number.as_tuple().digits) > 38 else number for number in numbers for _ in range(2)]
    assert _decimals(pa.chunked_array([texts], pa.string())).to_pylist() == wanted
    with_others = pa.chunked_array([[*texts, "1e30", "0.0000000000000000001"]], pa.string())
    assert _decimals(with_others).to_pylist() == [*wanted, None, None]


def test_a_number_is_compared_with_the_session_of_its_time(tmp_path: Path) -> None:
    """After a restart of numbering, another trade has the number that is missing: it is no contradiction of it."""
    options = read_settings({}, data_dir=tmp_path)
    append(
        made(options, TableName.SEQUENCE_EVENTS),
        [
            event("session_started", 1, 1, session=1, timestamp=EPOCH),
            event("gap_opened", 5, 6, session=1),
            event("session_started", 1, 1, session=2, timestamp=EPOCH + timedelta(hours=1)),
            event("gap_opened", 3, 4, session=2),
        ],
    )
    old = [trade(number, session=1) for number in (1, 2, 3, 4, 7)]
    after = EPOCH + timedelta(hours=1)
    new = [
        trade(number, session=2, price=Decimal(9), timestamp=after + timedelta(seconds=number))
        for number in (1, 2, 5, 6, 7)
    ]
    append(made(options, TableName.TRADES), [*old, *new])
    sent, (report,) = run(options, numbered(range(1, 10)))
    assert (sent.numbers, report.stored, report.contradictions, report.elsewhere) == ([5, 6], 5, 0, 2)
    rows = [
        {"sequence": number, "price": "9", "timestamp": AT_US + (3_600 + number) * 1_000_000} for number in range(1, 8)
    ]
    sent, (report,) = run(options, archive(rows))
    assert (sent.numbers, report.stored, report.contradictions) == ([3, 4], 5, 0)
    rows[0]["price"] = "7"
    sent, (report,) = run(options, archive(rows))
    assert (sent.numbers, report.stored, report.contradicting) == ([3, 4], 4, ["1"])


def test_a_trade_without_a_number_takes_none_away(settings: Settings) -> None:
    """A capture that has both kinds: numbered trades fill their numbers, and the others go by their ids."""
    sent, reports = run(settings, archive([{"sequence": 3}, {"sequence": None, "trade_id": "new"}, {"sequence": 4}]))
    assert [call[2] for call in sent.calls] == ["k2-fill", "k2-identity-only"]
    assert [value.get("sequence") for value in sent.values] == [3, 4, None]
    assert [report.published for report in reports] == [2, 1]


def test_numbers_of_a_symbol_that_is_known_by_ids_are_ids(settings: Settings) -> None:
    """Its stored trades have no contiguous numbers, so a numbered fill would open a gap between each two of them."""
    rows = [{"exchange": "bybit", "sequence": number} for number in (30, 40)]
    sent, (report,) = run(settings, archive(rows))
    assert [(value["trade_id"], "sequence" in value) for value in sent.values] == [("30", False), ("40", False)]
    assert (sent.calls[0][2], report.published) == ("k2-identity-only", 2)


@pytest.mark.parametrize("ahead_us", [90_000_000_000, 2**62])
def test_a_trade_of_the_future_stops_its_archive(settings: Settings, ahead_us: int) -> None:
    """The job would reject it, at any time at all."""
    bad = archive([{"sequence": 3}, {"sequence": 4, "timestamp": time.time_ns() // 1_000 + ahead_us}])
    with pytest.raises(ArchiveError, match=r"day.zip: timestamp: .* ahead of .* K2_TIME_AHEAD_SECONDS_MAX"):
        run(settings, bad)

"""The demo's market and its faults: reproducible from a seed, with expectations that match the published messages."""

import hashlib
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.corruption import CORRUPTIONS
from demo.expected import Expected, ExpectedRows, MissingRange
from demo.faults import FAULTS, MESSAGES_MIN, Stream
from demo.market import EXCHANGES, Market, listings
from demo.render import Renderer
from k2.model.reasons import RejectedError
from k2.venues import VENUES

SHORT = settings(max_examples=10)
SEEDS = st.integers(0, 2**32)


class Published(NamedTuple):
    """A whole stream, with the expectation of its injector."""

    keys: list[bytes]
    values: list[bytes | None]
    expected: Expected


def _publish(messages: int, symbols: int, seed: int, rows: ExpectedRows | None = None) -> Published:
    stream = Stream(messages, symbols, seed, rows)
    parts = list(stream)
    keys = [key for part in parts for key in part.keys]
    return Published(keys, [value for part in parts for value in part.values], stream.totals)


def _digest(published: Published) -> str:
    whole = b"\n".join(
        key + b"\t" + (value or b"") for key, value in zip(published.keys, published.values, strict=True)
    )
    return hashlib.sha256(whole).hexdigest()


def test_market_is_the_same_everywhere() -> None:
    """The bytes for a seed are pinned: no machine or library version changes them."""
    assert _digest(_publish(2_000, 50, 7)) == "9bb74cc7a1bcb5814d25370e3cc31cea1a76b57888714dc2c92fd5d7116fcac0"


@SHORT
@given(SEEDS)
def test_market_repeats_by_seed(seed: int) -> None:
    """The same seed publishes the same bytes, another seed others."""
    first = _digest(_publish(MESSAGES_MIN, 20, seed))
    assert first == _digest(_publish(MESSAGES_MIN, 20, seed))
    assert first != _digest(_publish(MESSAGES_MIN, 20, seed + 1))


@SHORT
@given(SEEDS)
def test_market_without_faults_is_complete(seed: int) -> None:
    """Before any fault, numbers of a symbol are contiguous, times strictly increase, and no price or size is zero."""
    market = Market(seed, 10)
    parts = [market.trade(market.draw(300), []) for _ in range(3)]
    times = np.concatenate([part.timestamps for part in parts])
    symbols = np.concatenate([part.symbols for part in parts])
    sequences = np.concatenate([part.sequences for part in parts])
    assert (np.diff(times) > 0).all()
    for symbol in np.unique(symbols):
        assert (np.diff(sequences[symbols == symbol]) == 1).all()
    assert all((part.ticks > 0).all() and (part.lots > 0).all() for part in parts)


def test_market_restarts_in_place() -> None:
    """At a restart the symbol counts from 1 in a new session; its earlier rows and other symbols are unchanged."""
    market = Market(1, 2)
    traded = market.trade(np.array([0, 1, 0, 0, 1]), [2])
    first, other = traded.sequences[0], traded.sequences[1]
    assert traded.sequences.tolist() == [first, other, 1, 2, other + 1]
    assert traded.sessions.tolist() == [1, 1, 2, 2, 1]
    assert market.trade(np.array([0]), []).sequences.tolist() == [3]


def test_few_symbols_are_busy() -> None:
    """Activity is uneven, and every exchange has its share."""
    market = Market(7, 300)
    counts = np.bincount(market.draw(20_000), minlength=300)
    assert np.sort(counts)[-30:].sum() > counts.sum() / 2
    assert {listing.exchange for listing in market.listings} == set(EXCHANGES)


def test_listings_differ() -> None:
    """However many symbols there are, no two have the same name."""
    made = listings(5_000, 3)
    assert len({(one.exchange, one.symbol) for one in made}) == 5_000


@SHORT
@given(SEEDS)
def test_messages_are_canonical(seed: int) -> None:
    """The job's reference decoder reads from each message the trade of the market."""
    market = Market(seed, 10)
    traded = market.trade(market.draw(100), [])
    for row, message in enumerate(Renderer(market.listings).messages(traded)):
        (trade,) = VENUES["k2"].decode(message)
        listing = market.listings[traded.symbols[row]]
        assert (trade.exchange, trade.symbol) == (listing.exchange, listing.symbol)
        assert trade.sequence == (traded.sequences[row] if listing.numbered else None)
        assert trade.price == int(traded.ticks[row]) * 10 ** (18 - listing.price_scale)
        assert trade.quantity == int(traded.lots[row]) * 10 ** (18 - listing.quantity_scale)
        assert (trade.side, trade.timestamp) == (traded.sides[row], traded.timestamps[row])
        assert bool(trade.trade_id)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_corrupted_messages_are_not_trades(kind: str, exchange: str) -> None:
    """Each is rejected for the reason that it is counted under, in the form of every exchange."""
    market = Market(7, len(EXCHANGES))
    traded = market.trade(np.array([EXCHANGES.index(exchange)]), [])
    (message,) = Renderer(market.listings).messages(traded)
    reason, spoil = CORRUPTIONS[kind]
    spoilt = spoil(message)
    if spoilt is None:
        return
    with pytest.raises(RejectedError) as refused:
        VENUES["k2"].decode(spoilt)
    assert refused.value.reason == reason


@pytest.mark.parametrize("messages", [MESSAGES_MIN, 1_999, 2_000, 30_000])
def test_stream_has_the_requested_number_of_messages(messages: int) -> None:
    """Whatever faults remove or add, the count is exact; all kinds occur from 2,000 messages on."""
    published = _publish(messages, 300, 7)
    assert len(published.keys) == len(published.values) == messages == published.expected.published
    if messages >= 2_000:
        assert set(published.expected.injected) == set(FAULTS)


@pytest.mark.parametrize("symbols", [1, 3, 5, 2_000])
def test_stream_takes_any_number_of_symbols(symbols: int) -> None:
    """With one symbol, or with more symbols than trades of each, the expectation still holds."""
    _check_counts(_publish(3_000, symbols, 7))


@SHORT
@given(SEEDS)
def test_expected_counts_match_the_published_messages(seed: int) -> None:
    """The injector's counts are those of a plain count over the published messages."""
    _check_counts(_publish(MESSAGES_MIN + seed % 2_000, 40, seed))


def _check_counts(published: Published) -> None:
    """Count again from the published bytes alone: a symbol's sessions are split where its numbering falls to 1."""
    expected = published.expected
    seen: set[tuple[str, str, object, int]] = set()
    latest: dict[tuple[str, str], int] = {}
    numbers: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    refused = duplicates = late = 0
    for value in published.values:
        try:
            (trade,) = VENUES["k2"].decode(value or b"")
        except RejectedError:
            refused += 1
            continue
        name = (trade.exchange, trade.symbol)
        identity = (*name, trade.trade_id, trade.timestamp)
        if identity in seen:
            duplicates += 1
            continue
        seen.add(identity)
        late += trade.timestamp < latest.get(name, 0)
        latest[name] = max(latest.get(name, 0), trade.timestamp)
        if trade.sequence is not None:
            numbers[name][trade.timestamp] = trade.sequence
    assert (refused, duplicates, late) == (len(expected.dead_letters), expected.duplicates, expected.late)
    assert len(seen) == expected.stored
    assert len(seen) + refused + duplicates == expected.published
    missing, restarts = _holes(numbers)
    assert (sorted(missing), restarts) == (expected.missing(), expected.restarts)


def _holes(numbers: dict[tuple[str, str], dict[int, int]]) -> tuple[list[MissingRange], int]:
    """Return the numbers skipped in the order of venue time, and how often numbering restarted."""
    missing, restarts = [], 0
    for (exchange, symbol), by_time in numbers.items():
        session = 1
        for (_, before), (_, after) in pairwise(sorted(by_time.items())):
            if after <= before:
                session += 1
                restarts += 1
            elif after > before + 1:
                missing.append(MissingRange(exchange, symbol, session, before + 1, after - 1))
    return missing, restarts


def test_expected_rows_are_what_was_published(tmp_path: Path) -> None:
    """The file of expected rows contains each accepted trade once, with every field."""
    path = tmp_path / "expected.parquet"
    with ExpectedRows(path, listings(20, 7)) as rows:
        published = _publish(2_000, 20, 7, rows)
    written = {
        (row["exchange"], row["symbol"], row["trade_id"], row["timestamp"].timestamp()): row
        for row in pq.read_table(path).to_pylist()
    }
    assert len(written) == published.expected.stored == pq.read_metadata(path).num_rows
    for value in published.values:
        try:
            (trade,) = VENUES["k2"].decode(value or b"")
        except RejectedError:
            continue
        row = written[trade.exchange, trade.symbol, trade.trade_id, trade.timestamp / 1_000_000]
        assert (row["sequence"], row["side"]) == (trade.sequence, (None, "buy", "sell")[trade.side])
        assert (row["price"].scaleb(18), row["quantity"].scaleb(18)) == (trade.price, trade.quantity)
        assert (row["received"] is None) == (trade.received is None)
        assert (row["session"] == 0) == (trade.sequence is None)


def test_keys_name_the_symbol() -> None:
    """Every message, corrupted or not, has its symbol's key, so that a symbol is in one partition."""
    published = _publish(2_000, 20, 7)
    for key, value in zip(published.keys, published.values, strict=True):
        try:
            document = json.loads(value or b"")
        except ValueError:
            continue
        if isinstance(document, dict) and "symbol" in document:
            assert key == f"{document['exchange']}|{document['symbol']}".encode()

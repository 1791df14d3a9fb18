"""Each recording under its venue's table: every trade is what a plain script reads, and nothing is a dead letter."""

from collections import Counter
from typing import Final

import msgspec
import pytest

from k2.model.batch import TradeSlice
from k2.model.consumed import Consumed
from k2.model.reasons import SkippedError
from k2.model.verdicts import DUPLICATE, SKIPPED, STORED
from k2.venues import VENUES, SequenceMode
from tests.flows.job_io import message_batch, run_in_memory
from tests.venues.documented import DOCUMENTED
from tests.venues.messages import printed
from tests.venues.recordings import RECORDINGS, Recording, lines_of, parse

CONTIGUOUS: Final = ("htx", "binance-futures-aggtrade")


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: one.file)
def test_every_trade_is_read_and_nothing_is_a_dead_letter(recording: Recording) -> None:
    """Replies, pings and heartbeats are skipped with their reasons; the key is that of the message's symbol."""
    venue, skipped = VENUES[recording.venue], Counter[str]()
    for line in lines_of(recording.file):
        expected = list(recording.trades(parse(line)))
        try:
            trades = venue.decode(line)
        except SkippedError as error:
            skipped[error.why] += 1
            assert expected == []
            continue
        skipped["head_number"] += sum(trade.is_head for trade in trades)
        assert expected == [printed(trade) for trade in trades if not trade.is_head]
        assert {trade.exchange for trade in trades} == {venue.exchange}
        assert venue.key(line) in {f"{trade.exchange}|{trade.symbol}" for trade in trades}
    assert +skipped == recording.skipped


@pytest.mark.parametrize("venue", CONTIGUOUS)
def test_numbers_of_contiguous_venues_have_no_holes(venue: str) -> None:
    """In the order in which the decoder returns them, each number follows the one before of its symbol."""
    assert VENUES[venue].mode is SequenceMode.CONTIGUOUS
    last, steps = dict[str, int](), Counter[int]()
    for recording in (one for one in RECORDINGS if one.venue == venue):
        for line in lines_of(recording.file):
            for one in recording.trades(parse(line)):
                assert one.sequence is not None
                steps[one.sequence - last.get(one.symbol, one.sequence - 1)] += 1
                last[one.symbol] = one.sequence
    assert {*steps} == {1}


def test_aggregates_of_the_spot_market_leave_out_no_trade() -> None:
    """The ranges of a symbol's aggregates follow one another."""
    venue, last = VENUES["binance-spot-aggtrade"], dict[str, int]()
    assert venue.mode is SequenceMode.RANGE
    for line in lines_of("binance-spot-aggtrade-combined"):
        for trade in venue.decode(line):
            assert trade.sequence is not None
            first = trade.sequence if trade.first_sequence is None else trade.first_sequence
            assert first == last.get(trade.symbol, first - 1) + 1
            last[trade.symbol] = trade.sequence


def outcomes(venue: str, files: list[str]) -> Counter[int]:
    """Count the verdicts of the job for recordings read one after the other."""
    lines = [line for file in files for line in lines_of(file)]
    batches = [
        message_batch([(None, line) for line in lines[at : at + 37]], at, venue=venue)
        for at in range(0, len(lines), 37)
    ]
    out = run_in_memory({"trades:0": batches})
    return verdicts_of(out["iceberg"])


def verdicts_of(pieces: list[tuple[str, TradeSlice | Consumed]]) -> Counter[int]:
    """Count the verdicts of the rows that reached the writer."""
    slices = [piece for _, piece in pieces if isinstance(piece, TradeSlice)]
    return Counter(verdict for piece in slices for verdict in piece.verdicts.tolist())


def test_non_market_trades_of_a_monotonic_venue_are_skipped() -> None:
    """They are neither stored nor duplicates, and their numbers open no gap, because holes mean nothing."""
    [sample] = [one.message for one in DOCUMENTED if one.venue == "gate-futures"]
    market, internal = sample["result"]
    rows = [market | {"id": 1}, internal | {"id": 2}, internal | {"id": 2}, market | {"id": 5}, market | {"id": 5}]
    lines = [(None, msgspec.json.encode(sample | {"result": [row]})) for row in rows]
    out = run_in_memory({"trades:0": [message_batch(lines, 0, venue="gate-futures")]})
    assert verdicts_of(out["iceberg"]) == {STORED: 2, SKIPPED: 2, DUPLICATE: 1}
    assert out["events"] == []


def test_three_connections_to_okx_are_stored_once() -> None:
    """Each of them brings the same 36 trades."""
    found = outcomes("okx", [f"okx-v5-trades-2021-conn{number}" for number in (1, 2, 3)])
    assert found == {STORED: 36, DUPLICATE: 72}


def test_bitfinex_trades_are_stored_once() -> None:
    """Each comes twice, as `te` and as `tu`."""
    lines = [parse(line) for line in lines_of("bitfinex-trades-seq")]
    [recording] = [one for one in RECORDINGS if one.venue == "bitfinex"]
    trades = [(one.symbol, one.sequence) for line in lines for one in recording.trades(line)]
    announced = [line[2][0] for line in lines if isinstance(line, list) and line[1] == "te"]
    assert len(announced) == len(trades) - len({*trades}) > 0
    assert outcomes("bitfinex", ["bitfinex-trades-seq"]) == {STORED: len({*trades}), DUPLICATE: len(announced)}

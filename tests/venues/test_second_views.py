"""Two views of the same trades: one is stored, the other proves it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg.decoding import decoding_of
from k2.model.batch import TradeSlice
from k2.model.progress import TopicPartition
from k2.model.reasons import SkippedError
from k2.model.trade import NO_SIDE
from k2.model.verdicts import HEAD, STORED
from k2.ops.settings import read_settings
from k2.query.reconcile import reconcile
from k2.venues import VENUES
from k2.venues.decode import decode
from k2.venues.table_files import read_table
from k2.venues.table_history import venue_of_file
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.job_io import message_batch, run_in_memory
from tests.flows.market import publish
from tests.venues.messages import batch_of
from tests.venues.test_table_kernel import agree

HEARTBEAT: Final = {"type": "heartbeat", "sequence": 90, "product_id": "BTC-USD", "time": "2024-08-08T23:54:15.3Z"}
TRADE: Final = {"e": "trade", "s": "BTCUSDT", "p": "61837.63", "q": "0.02", "T": 1_723_161_255_342, "m": True}
AGGREGATE: Final = TRADE | {"e": "aggTrade"}


def encoded(message: dict[str, Any]) -> bytes:
    """Return a message as its venue sends it."""
    return json.dumps(message).encode()


def trade(number: int) -> bytes:
    """Return a trade of Binance's spot market."""
    return encoded(TRADE | {"t": number})


def aggregate(number: int, first: int, last: int) -> bytes:
    """Return an aggregate of trades."""
    return encoded(AGGREGATE | {"a": number, "f": first, "l": last})


def rows_of(out: list[tuple[str, Any]]) -> Counter[tuple[str, int, int]]:
    """Return what reached the writer, as (topic, number, verdict)."""
    pieces = [piece for _, piece in out if isinstance(piece, TradeSlice)]
    return Counter(
        (piece.batch.source.topic, int(piece.batch.columns.sequences[row]), int(verdict))
        for piece in pieces
        for row, verdict in zip(piece.rows, piece.verdicts, strict=True)
    )


def test_a_heartbeat_names_the_last_number() -> None:
    """It is no trade; the number 0, which all heartbeats had for months, and a missing one say nothing."""
    [head] = VENUES["coinbase"].decode(encoded(HEARTBEAT | {"last_trade_id": 20}))
    assert (head.exchange, head.symbol, head.sequence, head.is_head, head.is_market) == (
        "coinbase",
        "BTC-USD",
        20,
        True,
        False,
    )
    for message in (HEARTBEAT | {"last_trade_id": 0}, HEARTBEAT, HEARTBEAT | {"last_trade_id": None}):
        with pytest.raises(SkippedError, match="heartbeat"):
            VENUES["coinbase"].decode(encoded(message))


ODD: Final = st.sampled_from([None, 0, 1, -1, "0", "7", 7.0, 2**63, 2**63 - 1, True, [], {}, "BTC-USD", "É", ""])
FIELDS: Final = ("type", "product_id", "last_trade_id", "trade_id", "time")


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), ODD), min_size=1, max_size=6), st.data())
def test_both_decoders_agree_on_heads(changes: list[dict[str, Any]], data: st.DataObject) -> None:
    """The compiled loop reads heartbeats and tickers, and leaves what is odd."""
    kinds = st.sampled_from([HEARTBEAT | {"last_trade_id": 20}, HEARTBEAT | {"type": "ticker", "trade_id": 21}])
    batch = batch_of([encoded(data.draw(kinds) | change) for change in changes], "coinbase")
    assert agree(batch)
    assert (decode(batch).trades.columns.sides == NO_SIDE).all()


@pytest.mark.parametrize("topics", ["t=binance-spot,a=binance-spot-aggtrade", "a=binance-spot-aggtrade"])
def test_aggregates_are_stored_unless_the_trades_are_read(topics: str) -> None:
    """Beside the trades they only name numbers; alone they are the rows, without a gap."""
    settings = read_settings({"K2_TOPICS": topics})
    aggregates = [(None, aggregate(1, 1, 3)), (None, aggregate(2, 4, 4))]
    batches = {"a:0": [message_batch(aggregates, topic="a", venue="binance-spot-aggtrade")]}
    if "t=" in topics:
        trades = [(None, trade(number)) for number in range(1, 5)]
        batches |= {"t:0": [message_batch(trades, topic="t", venue="binance-spot")]}
    out = run_in_memory(batches, settings=settings)
    if "t=" in topics:
        stored = {("t", number, STORED): 1 for number in range(1, 5)}
        assert rows_of(out["iceberg"]) == stored | {("a", 3, HEAD): 1, ("a", 4, HEAD): 1}
    else:
        assert rows_of(out["iceberg"]) == {("a", 3, STORED): 1, ("a", 4, STORED): 1}
    assert [event.event for event in out["events"] for event in event[1]] == ["session_started"]


def test_a_view_of_another_exchange_is_stored() -> None:
    """A table that gives the aggregates an exchange of their own keeps both."""
    assert VENUES.is_second_view("binance-spot-aggtrade", {"binance-spot"})
    assert not VENUES.is_second_view("binance-futures-aggtrade", {"binance-futures"})
    assert not VENUES.is_second_view("binance-spot-aggtrade", {"binance-spot-aggtrade"})


def test_that_a_topic_is_a_second_view_is_how_it_is_decoded() -> None:
    """A replay with several writers may not store what was skipped before."""
    alone = decoding_of(read_settings({"K2_TOPICS": "a=binance-spot-aggtrade"}))["a"]
    with_it = decoding_of(read_settings({"K2_TOPICS": "a=binance-spot-aggtrade,t=binance-spot"}))["a"]
    assert "a topic of binance-spot" in with_it
    assert "a topic of" not in alone


VIEW: Final = """
name = "view"
source = "https://example.com"
exchange = "binance"
numbering = "contiguous"
view_of = "binance-spot"
symbol = { path = "s" }
sequence = { path = "n" }
price = { path = "p" }
quantity = { path = "q" }
time = { path = "t", unit = "ms" }
[[messages]]
trades = "[]"
[[corrections]]
when = [{ path = "x", present = true }]
action = "cancel"
trade_id = { path = "x", type = "number" }
[[skip]]
reason = "status"
texts = ["ping"]
"""


@pytest.mark.parametrize("is_second_view", [True, False])
def test_corrections_of_a_second_view_are_skipped(tmp_path: Path, *, is_second_view: bool) -> None:
    """Their ids are those of the view, so each would change another trade; each is counted as skipped."""
    (tmp_path / "view.toml").write_text(VIEW, encoding="utf-8")
    VENUES["view"] = venue_of_file(read_table(tmp_path / "view.toml", {}.get))
    own = {"s": "BTCUSDT", "t": 1_723_161_255_342}
    traded, cancelled = own | {"n": 1, "p": "1", "q": "1"}, [own | {"x": 1}, own | {"x": 2}]
    messages = [json.dumps(one).encode() for one in ([traded, *cancelled], cancelled)]
    values = [b"ping", messages[0], b"{", messages[1], b"ping"]
    try:
        found = decode(batch_of(values, "view"), is_second_view=is_second_view)
    finally:
        del VENUES["view"]
    assert len(found.trades.columns) + len(found.corrections) + len(found.skipped) + len(found.rejected) == 8
    assert (len(found.heads), len(found.corrections)) == ((1, 0) if is_second_view else (0, 4))
    assert found.skipped.messages.tolist() == ([0, 1, 1, 3, 3, 4] if is_second_view else [0, 4])
    assert found.skipped.counts() == ({"status": 2, "head_number": 4} if is_second_view else {"status": 2})


def test_both_views_in_a_table(broker: Broker, tmp_path: Any) -> None:
    """Each trade is a row once, and received = stored + duplicates + dead letters + skipped for both topics."""
    trades, aggregates = broker.topic(), broker.topic()
    publish(broker.bootstrap_servers, trades, [(b"k", trade(number)) for number in (1, 2, 3, 5, 6)])
    publish(broker.bootstrap_servers, aggregates, [(b"k", aggregate(1, 1, 4)), (b"k", aggregate(2, 5, 6))])
    job = Job(broker.bootstrap_servers, tmp_path, f"{trades}=binance-spot,{aggregates}=binance-spot-aggtrade")
    assert "Traceback" not in job.run()
    assert sorted(job.table().column("sequence").to_pylist()) == [1, 2, 3, 5, 6]
    counts = {TopicPartition(one.topic, one.partition): one for one in reconcile(job.settings) if one.received}
    assert all(one.holds for one in counts.values())
    assert sum(one.skipped for one in counts.values() if one.topic == aggregates) == 2

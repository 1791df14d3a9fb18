"""The decode operator: slices by key group, and the offset range of each batch."""

from dataclasses import replace
from typing import Any

import numpy as np
import structlog
from bytewax.dataflow import Stream

from k2.model.batch import MessageBatch
from k2.model.key_groups import GROUPS, group_key, group_of
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.model.symbols import Symbols
from k2.ops.metrics import DATED_AHEAD, MESSAGES_SKIPPED
from k2.venues.decode import decode as decode_batch
from operators.decode import _DatedAhead, decode
from tests.operators.running import run
from tests.venues.messages import K2_MESSAGE, batch_of

OTHER = K2_MESSAGE.replace(b"BTCUSDT", b"ETHUSDT")
HEARTBEAT = b'{"type":"heartbeat","product_id":"BTC-USD"}'


def decoded(batch: MessageBatch) -> list[list[Any]]:
    """Return the items of both streams."""

    def connect(messages: Stream[MessageBatch]) -> list[Stream[Any]]:
        streams = decode("decode", messages, 86_400, Symbols())
        return [streams.trades, streams.consumed]

    return run(connect, [batch])


def test_rows_are_keyed_by_key_group() -> None:
    """Each slice has the rows of one group, in message order, under the key of the group."""
    trades, _ = decoded(batch_of([K2_MESSAGE, OTHER, K2_MESSAGE]))
    assert {key: piece.rows.tolist() for key, piece in trades} == {
        group_key(group_of("binance", "BTCUSDT")): [0, 2],
        group_key(group_of("binance", "ETHUSDT")): [1],
    }


def test_every_message_is_in_the_offset_range() -> None:
    """The range of a batch has its dead letters and the offsets of its skipped messages, which are counted."""
    before = MESSAGES_SKIPPED.labels("heartbeat")._value.get()
    _, [consumed] = decoded(batch_of([HEARTBEAT, b"no json", HEARTBEAT], venue="coinbase"))
    assert (consumed.first_offset, consumed.next_offset, consumed.messages) == (100, 103, 3)
    [letter] = consumed.dead_letters
    assert (letter.offset, letter.reason) == (101, Reason.MALFORMED)
    assert consumed.skipped.tolist() == [100, 102]
    assert MESSAGES_SKIPPED.labels("heartbeat")._value.get() - before == 2


def test_a_replayed_batch_is_not_live() -> None:
    """So its dead letters do not count against the limit of the feed."""
    batch = batch_of([b"no json"])
    [live], [replayed] = (
        decoded(one)[1] for one in (batch, replace(batch, marks={0: MessageMarks("replay trades:0:1")}))
    )
    assert (live.is_live, replayed.is_live) == (True, False)
    assert replayed.dead_letters[0].origin == "replay trades:0:1"


def test_the_first_batch_reaches_every_key_group() -> None:
    """So the states of all groups are brought up to date with the table in one epoch."""
    trades, [consumed] = decoded(MessageBatch.first(TopicPartition("trades", 0), "k2", 7))
    assert sorted(key for key, _ in trades) == [group_key(group) for group in range(GROUPS)]
    assert all(len(piece) == 0 for _, piece in trades)
    assert np.array_equal(consumed.skipped, [])


def test_trades_dated_ahead_are_logged_once_a_minute() -> None:
    """With their number, an example and by how much; the first batch says it, the next only count."""
    now, hour = 1_723_161_255_342_000, 3_600_000_000
    ahead = K2_MESSAGE.replace(b"1723161255342000", str(now + hour).encode())
    assert ahead != K2_MESSAGE
    batch = replace(batch_of([ahead, K2_MESSAGE, ahead]), kafka_timestamps=np.full(3, now, dtype=np.int64))
    times = iter([0.0, 0.0, 30.0, 61.0, 61.0])
    report = _DatedAhead(lambda: next(times))
    before = DATED_AHEAD.labels("binance")._value.get()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            report.add(decode_batch(batch, 86_400, Symbols()))
    assert [(entry["event"], entry["exchange"], entry["trades"]) for entry in logs] == [
        ("trades_dated_ahead", "binance", 2),
        ("trades_dated_ahead", "binance", 4),
    ]
    assert (logs[0]["example"], logs[0]["seconds_ahead"]) == ("trades:0:100", 3_600.0)
    assert DATED_AHEAD.labels("binance")._value.get() - before == 6

"""Venues without a recording read the messages of their documentation; what is no trade is skipped or refused."""

from typing import Any

import msgspec
import pytest

from k2.model.reasons import Reason, RejectedError, SkippedError
from k2.venues import VENUES
from tests.venues.documented import DOCUMENTED, SKIPPED, Documented
from tests.venues.documented_stocks import SKIPPED_STOCKS, STOCKS


@pytest.mark.parametrize("one", [*DOCUMENTED, *STOCKS], ids=lambda one: one.venue)
def test_documented_messages_are_read(one: Documented) -> None:
    """All fields, in the order in which the trades happened, and the key of their symbol."""
    value = msgspec.json.encode(one.message)
    assert VENUES[one.venue].decode(value) == one.trades
    assert VENUES[one.venue].key(value) == f"{one.trades[0].exchange}|{one.trades[0].symbol}"


@pytest.mark.parametrize(("venue", "message", "why"), [*SKIPPED, *SKIPPED_STOCKS])
def test_documented_replies_are_skipped(venue: str, message: Any, why: str) -> None:
    """With the reason of the table."""
    with pytest.raises(SkippedError) as caught:
        VENUES[venue].decode(msgspec.json.encode(message))
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("venue", "message", "error"),
    [
        ("okx", {"event": "error", "msg": "x"}, "event: 'error' is not read from an okx topic"),
        ("kraken", {"channel": "book", "type": "update"}, "channel: 'book' is not read from a kraken topic"),
        ("kraken", {"channel": "trade", "type": "delete"}, "type: 'delete' is not read from a kraken topic"),
        ("bitfinex", [1, "fte", [1, 2, 3, 4]], "[1]: 'fte' is not read from a bitfinex topic"),
        (
            "bitfinex",
            [339521, [[133323072, 1574694245478, -258.7458086, 0.0002587, 2]]],
            "[1][0][4]: '2' is not read from a bitfinex topic",
        ),
        ("bitmex", {"table": "trade", "action": "insert", "data": [{"trdMatchID": "a", "trdType": "New"}]}, None),
        ("gate-futures", {"channel": "futures.trades", "event": "all"}, "event: 'all' is not read from a"),
    ],
)
def test_other_messages_are_unsupported(venue: str, message: Any, error: str | None) -> None:
    """An error, another channel, another event, another kind of trade: never lost in silence."""
    with pytest.raises(RejectedError) as caught:
        VENUES[venue].decode(msgspec.json.encode(message))
    assert caught.value.reason is Reason.UNSUPPORTED
    assert caught.value.error.startswith(error or "data[0].trdType: 'New' is not read from a bitmex topic")

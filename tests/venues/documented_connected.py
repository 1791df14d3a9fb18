"""Documented messages of venues that number the messages of a connection."""

from typing import Any, Final

from k2.model.trade import BUY, SELL, Trade
from tests.venues.documented_form import Documented
from tests.venues.documented_form import trade_of as _trade

__all__ = ["CONNECTED_DOCUMENTED", "CONNECTED_SKIPPED"]


ADVANCED: Final = {
    "trade_id": "8",
    "product_id": "ETH-USD",
    "price": "1260.01",
    "size": "0.3",
    "side": "BUY",
    "time": "2019-08-14T20:42:27.265123Z",
}


def _dydx(number: str, side: str, kind: str) -> dict[str, str]:
    return {
        "id": number,
        "side": side,
        "size": "0.3",
        "price": "1260.01",
        "type": kind,
        "createdAt": "2019-08-14T20:42:27.265Z",
        "createdAtHeight": "5",
    }


def _dydx_message(kind: str, contents: Any) -> dict[str, Any]:
    names = {"connection_id": "e2a6c717", "message_id": 3, "id": "ETH-USD", "channel": "v4_trades"}
    return {"type": kind, **names, "contents": contents}


def _dydx_trade(number: str, side: int) -> Trade:
    return _trade(("dydx", "ETH-USD"), (number, None), (1260.01, 0.3), side, 1_565_815_347_265_000)


CONNECTED_DOCUMENTED: Final = (
    Documented(
        "dydx",
        _dydx_message("channel_data", {"trades": [_dydx("00a1", "BUY", "LIMIT"), _dydx("00a2", "SELL", "LIQUIDATED")]}),
        [_dydx_trade("00a1", BUY), _dydx_trade("00a2", SELL)],
    ),
    Documented(
        "dydx",
        _dydx_message(
            "channel_batch_data",
            [{"trades": [_dydx("00a1", "BUY", "LIMIT")]}, {"trades": [_dydx("00a2", "SELL", "DELEVERAGED")]}],
        ),
        [_dydx_trade("00a1", BUY), _dydx_trade("00a2", SELL)],
    ),
    Documented(
        "dydx",
        _dydx_message("subscribed", {"trades": [_dydx("00a2", "SELL", "LIMIT"), _dydx("00a1", "BUY", "LIMIT")]}),
        [_dydx_trade("00a1", BUY), _dydx_trade("00a2", SELL)],
    ),
    Documented(
        "coinbase-advanced-connection",
        {
            "channel": "market_trades",
            "sequence_num": 0,
            "events": [{"type": "update", "trades": [ADVANCED]}],
        },
        [_trade(("coinbase", "ETH-USD"), ("8", 8), (1260.01, 0.3), BUY, 1_565_815_347_265_123)],
    ),
    Documented(
        "bitfinex-seq",
        [17470, "te", [401597393, 1574694475039, 0.005, 7244.5], 8],
        [_trade(("bitfinex", "17470"), ("401597393", 401_597_393), (7244.5, 0.005), BUY, 1_574_694_475_039_000)],
    ),
)

CONNECTED_SKIPPED: Final = (
    ("dydx", {"type": "connected", "connection_id": "e2a6c717", "message_id": 0}, "status"),
    ("dydx", {"type": "unsubscribed", "message_id": 9, "channel": "v4_trades", "id": "ETH-USD"}, "subscription_reply"),
    ("dydx", {"type": "error", "message": "x", "connection_id": "e2a6c717", "message_id": 1}, "error"),
    ("dydx", {"type": "channel_data", "channel": "v4_orderbook", "id": "ETH-USD", "contents": {}}, "other_channel"),
    ("coinbase-advanced-connection", {"channel": "heartbeats", "sequence_num": 7, "events": []}, "heartbeat"),
    ("coinbase-advanced-connection", {"channel": "subscriptions", "sequence_num": 1}, "subscription_reply"),
    ("coinbase-advanced-connection", {"channel": "l2_data", "sequence_num": 8, "events": []}, "other_channel"),
)

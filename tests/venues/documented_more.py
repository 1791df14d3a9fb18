"""Documented messages of contracts, block trades and newer streams, and what their venues skip."""

from typing import Final

from k2.model.trade import BUY, NO_SIDE, SELL
from tests.venues.documented_form import Documented
from tests.venues.documented_form import trade_of as _trade

__all__ = ["MORE_DOCUMENTED", "MORE_SKIPPED"]

MORE_DOCUMENTED: Final = (
    Documented(
        "k2-json",
        {
            "exchange": "x",
            "symbol": "BTC-USD",
            "sequence": 7,
            "trade_id": None,
            "price": "1260.01",
            "quantity": 0.3,
            "side": "sell",
            "timestamp": 1_723_161_255_342_000,
        },
        [_trade(("x", "BTC-USD"), ("7", 7), (1260.01, 0.3), SELL, 1_723_161_255_342_000)],
    ),
    Documented(
        "k2-fill",
        {
            "exchange": "x",
            "symbol": "BTC-USD",
            "first_sequence": 5,
            "sequence": 7,
            "trade_id": "t7",
            "price": "1260.01",
            "quantity": "0.3",
            "timestamp": 1_723_161_255_342_000,
        },
        [
            _trade(("x", "BTC-USD"), ("t7", 7), (1260.01, 0.3), NO_SIDE, 1_723_161_255_342_000)._replace(
                first_sequence=5
            )
        ],
    ),
    Documented(
        "k2-head",
        {"type": "head", "exchange": "x", "symbol": "BTC-USD", "sequence": 7},
        [_trade(("x", "BTC-USD"), (None, 7), (0, 0), NO_SIDE, 0)._replace(is_market=False, is_head=True)],
    ),
    Documented(
        "binance-spot-blocktrade",
        {
            "e": "blockTrade",
            "E": 1_772_506_983_582,
            "s": "AXVNBTC",
            "t": 582,
            "p": "0.052",
            "q": "5838",
            "T": 1_772_506_983_321,
            "m": True,
        },
        [_trade(("binance-blocktrade", "AXVNBTC"), ("582", 582), (0.052, 5838), SELL, 1_772_506_983_321_000)],
    ),
    Documented(
        "kucoin-futures",
        {
            "topic": "/contractMarket/execution:XBTUSDTM",
            "type": "message",
            "subject": "match",
            "sn": 1_794_100_537_695,
            "data": {
                "symbol": "XBTUSDTM",
                "sequence": 1_794_100_537_695,
                "side": "buy",
                "size": 2,
                "price": "90503.9",
                "takerOrderId": "247822202957807616",
                "makerOrderId": "247822167163555840",
                "tradeId": "1794100537695",
                "ts": 1_731_898_619_520_000_000,
            },
        },
        [
            _trade(
                ("kucoin-futures", "XBTUSDTM"),
                ("1794100537695", 1_794_100_537_695),
                (90_503.9, 2),
                BUY,
                1_731_898_619_520_000,
            )
        ],
    ),
    Documented(
        "htx-linear",
        {
            "ch": "market.BTC-USDT.trade.detail",
            "ts": 1_640_775_632_524,
            "tick": {
                "id": 89_747_117_157,
                "ts": 1_640_775_632_497,
                "data": [
                    {
                        "amount": 120,
                        "quantity": 0.12,
                        "trade_turnover": 5724.132,
                        "ts": 1_640_775_632_497,
                        "id": 897_471_171_570_000,
                        "price": 47_701.1,
                        "direction": "buy",
                    }
                ],
            },
        },
        [
            _trade(
                ("htx-linear", "BTC-USDT"),
                ("897471171570000", 897_471_171_570_000),
                (47_701.1, 0.12),
                BUY,
                1_640_775_632_497_000,
            )
        ],
    ),
    Documented(
        "gemini-streams",
        {
            "E": 1_751_508_438_600_117_161,
            "s": "btcusd",
            "t": 1_751_505_576_085,
            "p": "45001.00",
            "q": "0.125",
            "m": True,
        },
        [
            _trade(
                ("gemini", "btcusd"),
                ("1751505576085", 1_751_505_576_085),
                (45_001, 0.125),
                SELL,
                1_751_508_438_600_117,
            )
        ],
    ),
    Documented(
        "phemex-usdt",
        {
            "sequence": 77_663_551,
            "symbol": "BTCUSDT",
            "trades_p": [
                [1_666_856_062_351_916_300, "Sell", "20703.6", "0.669"],
                [1_666_854_025_545_354_000, "Buy", "20699", "0.001"],
            ],
            "type": "snapshot",
        },
        [
            _trade(("phemex-usdt", "BTCUSDT"), (None, None), (20_699, 0.001), BUY, 1_666_854_025_545_354),
            _trade(("phemex-usdt", "BTCUSDT"), (None, None), (20_703.6, 0.669), SELL, 1_666_856_062_351_916),
        ],
    ),
    Documented(
        "deribit",
        {
            "jsonrpc": "2.0",
            "method": "subscription",
            "params": {
                "channel": "trades.option.BTC.100ms",
                "data": [
                    {
                        "trade_seq": 7,
                        "trade_id": "48079270",
                        "timestamp": 1_590_484_512_189,
                        "tick_direction": 2,
                        "price": 0.125,
                        "mark_price": 0.12,
                        "iv": 60.1,
                        "instrument_name": "BTC-26JUN26-100000-C",
                        "index_price": 8_955.88,
                        "direction": "buy",
                        "contracts": 5,
                        "amount": 5,
                        "liquidation": "T",
                        "block_trade_id": "BLOCK-1",
                        "block_trade_leg_count": 2,
                        "combo_id": "BTC-FS-1",
                        "combo_trade_id": 3,
                    }
                ],
            },
        },
        [_trade(("deribit", "BTC-26JUN26-100000-C"), ("48079270", 7), (0.125, 5), BUY, 1_590_484_512_189_000)],
    ),
    Documented(
        "bybit-v5",
        {
            "topic": "publicTrade.BTCUSD",
            "type": "snapshot",
            "ts": 1_672_304_486_868,
            "data": [
                {
                    "T": 1_672_304_486_865,
                    "s": "BTCUSD",
                    "S": "Sell",
                    "v": "500",
                    "p": "16578.50",
                    "L": "PlusTick",
                    "i": "20f43950",
                    "BT": True,
                    "RPI": False,
                    "seq": 1_783_284_617,
                }
            ],
        },
        [_trade(("bybit", "BTCUSD"), ("20f43950", None), (16_578.5, 500), SELL, 1_672_304_486_865_000)],
    ),
)

MORE_SKIPPED: Final = (
    ("binance-spot", {"e": "serverShutdown", "E": 1_770_123_456_789}, "status"),
    ("binance-spot", {"stream": "!", "data": {"e": "serverShutdown", "E": 1_770_123_456_789}}, "status"),
    ("binance-spot", {"code": 2, "msg": "Invalid request", "id": 1}, "error"),
    ("binance-futures-aggtrade", {"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, "error"),
    ("kucoin-futures", {"id": "hQvf8jkno", "type": "welcome"}, "status"),
    ("kucoin-futures", {"id": "1545910660739", "type": "ack"}, "subscription_reply"),
    ("kucoin-futures", {"id": "1545910590801", "type": "pong"}, "heartbeat"),
    ("htx-linear", {"ping": 1_603_708_208_346}, "heartbeat"),
    ("htx-linear", {"id": "1", "status": "ok", "subbed": "market.BTC-USDT.trade.detail"}, "subscription_reply"),
    ("gemini-streams", {"id": "1", "status": 200}, "subscription_reply"),
    ("gemini-streams", {"u": 1, "E": 2, "s": "btcusd", "b": "1", "B": "2", "a": "3", "A": "4"}, "other_channel"),
    ("gemini-streams", {"e": "depthUpdate", "E": 2, "s": "btcusd", "b": [], "a": []}, "other_channel"),
    ("phemex-usdt", {"error": None, "id": 0, "result": "pong"}, "heartbeat"),
    ("phemex-usdt", {"error": None, "id": 1, "result": {"status": "success"}}, "subscription_reply"),
)

"""A message of each venue that has no recording, in the form of its documentation, and messages that it skips."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from k2.model.correction import Correction
from k2.model.trade import BUY, NO_SIDE, SELL, Trade

__all__ = ["DOCUMENTED", "SKIPPED", "Documented"]

UNIT: Final = 10**18


class Documented(NamedTuple):
    """A message, and its trades in the order in which they happened."""

    venue: str
    message: Any
    trades: Sequence[Trade | Correction]


def _trade(
    venue: tuple[str, str], ids: tuple[str | None, int | None], amounts: tuple[float, float], side: int, time: int
) -> Trade:
    """Return a trade; prices and quantities are given in thousandths that floats hold exactly."""
    price, quantity = (round(amount * 1000) * UNIT // 1000 for amount in amounts)
    return Trade(*venue, *ids, price, quantity, side, time)


def _advanced(number: str, side: str) -> dict[str, str]:
    return {
        "trade_id": number,
        "product_id": "ETH-USD",
        "price": "1260.01",
        "size": "0.3",
        "side": side,
        "time": "2019-08-14T20:42:27.265123Z",
    }


DOCUMENTED: Final = (
    Documented(
        "coinbase-advanced",
        {
            "channel": "market_trades",
            "sequence_num": 0,
            "events": [{"type": "snapshot", "trades": [_advanced("8", "BUY"), _advanced("7", "SELL")]}],
        },
        [
            _trade(("coinbase", "ETH-USD"), ("7", 7), (1260.01, 0.3), SELL, 1_565_815_347_265_123),
            _trade(("coinbase", "ETH-USD"), ("8", 8), (1260.01, 0.3), BUY, 1_565_815_347_265_123),
        ],
    ),
    Documented(
        "kraken",
        {
            "channel": "trade",
            "type": "update",
            "data": [
                {
                    "symbol": "MATIC/USD",
                    "side": "sell",
                    "price": 0.512,
                    "qty": 40,
                    "ord_type": "market",
                    "trade_id": 4_665_906,
                    "timestamp": "2023-09-25T07:49:37.708706Z",
                }
            ],
        },
        [_trade(("kraken", "MATIC/USD"), ("4665906", 4_665_906), (0.512, 40), SELL, 1_695_628_177_708_706)],
    ),
    Documented(
        "kraken-futures",
        {
            "feed": "trade_snapshot",
            "product_id": "PI_XBTUSD",
            "trades": [
                {
                    "feed": "trade",
                    "product_id": "PI_XBTUSD",
                    "uid": f"uid-{seq}",
                    "side": "buy",
                    "type": kind,
                    "seq": seq,
                    "time": 1_612_269_656_839,
                    "qty": 440,
                    "price": 34_893.5,
                }
                for seq, kind in ((653_356, "fill"), (653_355, "assignment"))
            ],
        },
        [
            _trade(
                ("kraken-futures", "PI_XBTUSD"), ("uid-653355", 653_355), (0, 0), NO_SIDE, 1_612_269_656_839_000
            )._replace(is_market=False),
            _trade(
                ("kraken-futures", "PI_XBTUSD"), ("uid-653356", 653_356), (34_893.5, 440), BUY, 1_612_269_656_839_000
            ),
        ],
    ),
    Documented(
        "okx-trades-all",
        {
            "arg": {"channel": "trades-all", "instId": "BTC-USDT"},
            "data": [
                {
                    "instId": "BTC-USDT",
                    "tradeId": "130639474",
                    "px": "42219.9",
                    "sz": "0.125",
                    "side": "buy",
                    "ts": "1630048897897",
                }
            ],
        },
        [_trade(("okx", "BTC-USDT"), ("130639474", 130_639_474), (42_219.9, 0.125), BUY, 1_630_048_897_897_000)],
    ),
    Documented(
        "bybit-v5",
        {
            "topic": "publicTrade.BTCUSDT",
            "type": "snapshot",
            "ts": 1_672_304_486_868,
            "data": [
                {
                    "T": 1_672_304_486_865,
                    "s": "BTCUSDT",
                    "S": "Buy",
                    "v": "0.001",
                    "p": "16578.50",
                    "L": "PlusTick",
                    "i": "20f43950-d8dd-5b31-9112-a178eb6023af",
                    "BT": False,
                    "seq": 1_783_284_617,
                }
            ],
        },
        [
            _trade(
                ("bybit", "BTCUSDT"),
                ("20f43950-d8dd-5b31-9112-a178eb6023af", None),
                (16_578.5, 0.001),
                BUY,
                1_672_304_486_865_000,
            )
        ],
    ),
    Documented(
        "bybit-v5-spot",
        {
            "topic": "publicTrade.BTCUSDT",
            "type": "snapshot",
            "ts": 1_672_304_486_868,
            "data": [
                {
                    "i": "2290000000068683805",
                    "T": 1_672_304_486_865,
                    "p": "16578.40",
                    "v": "0.002",
                    "S": "Sell",
                    "s": "BTCUSDT",
                    "BT": False,
                }
            ],
        },
        [
            _trade(
                ("bybit-spot", "BTCUSDT"),
                ("2290000000068683805", None),
                (16_578.4, 0.002),
                SELL,
                1_672_304_486_865_000,
            )
        ],
    ),
    Documented(
        "deribit",
        {
            "jsonrpc": "2.0",
            "method": "subscription",
            "params": {
                "channel": "trades.BTC-PERPETUAL.raw",
                "data": [
                    {
                        "trade_seq": 30_289_442,
                        "trade_id": "48079269",
                        "timestamp": 1_590_484_512_188,
                        "price": 8_950,
                        "amount": 10,
                        "direction": "sell",
                        "instrument_name": "BTC-PERPETUAL",
                        "index_price": 8_955.88,
                    }
                ],
            },
        },
        [_trade(("deribit", "BTC-PERPETUAL"), ("48079269", 30_289_442), (8_950, 10), SELL, 1_590_484_512_188_000)],
    ),
    Documented(
        "gate",
        {
            "time": 1_606_292_218,
            "channel": "spot.trades",
            "event": "update",
            "result": {
                "id": 309_143_071,
                "id_market": 41_237,
                "create_time_ms": "1606292218213.4578",
                "side": "sell",
                "currency_pair": "GT_USDT",
                "amount": "16.47",
                "price": "0.4705",
            },
        },
        [
            Trade(
                "gate",
                "GT_USDT",
                "309143071",
                41_237,
                4_705 * UNIT // 10_000,
                1_647 * UNIT // 100,
                SELL,
                1_606_292_218_213_457,
            )
        ],
    ),
    Documented(
        "gate-futures",
        {
            "channel": "futures.trades",
            "event": "update",
            "result": [
                {
                    "size": -108,
                    "id": 27_753_479,
                    "create_time_ms": 1_545_136_464_123,
                    "price": "96.4",
                    "contract": "BTC_USD",
                },
                {
                    "size": 3,
                    "id": 27_753_480,
                    "create_time_ms": 1_545_136_464_124,
                    "price": "96.4",
                    "contract": "BTC_USD",
                    "is_internal": True,
                },
            ],
        },
        [
            _trade(("gate-futures", "BTC_USD"), ("27753479", 27_753_479), (96.4, 108), SELL, 1_545_136_464_123_000),
            _trade(
                ("gate-futures", "BTC_USD"), ("27753480", 27_753_480), (0, 0), NO_SIDE, 1_545_136_464_124_000
            )._replace(is_market=False),
        ],
    ),
    Documented(
        "upbit",
        {
            "type": "trade",
            "code": "KRW-BTC",
            "trade_price": 100_473_000.0,
            "trade_volume": 0.125,
            "ask_bid": "BID",
            "trade_timestamp": 1_730_336_862_047,
            "sequential_id": 17_303_368_620_470_000,
            "stream_type": "SNAPSHOT",
        },
        [
            _trade(
                ("upbit", "KRW-BTC"),
                ("17303368620470000", 17_303_368_620_470_000),
                (100_473_000, 0.125),
                BUY,
                1_730_336_862_047_000,
            )
        ],
    ),
    Documented(
        "gemini",
        {
            "type": "trade",
            "symbol": "BTCUSD",
            "event_id": 3_575_573_053,
            "timestamp": 1_151_231_241_000,
            "price": "9004.21",
            "quantity": "0.09",
            "side": "block",
        },
        [_trade(("gemini", "BTCUSD"), ("3575573053", 3_575_573_053), (9_004.21, 0.09), NO_SIDE, 1_151_231_241_000_000)],
    ),
    Documented(
        "hyperliquid",
        {
            "channel": "trades",
            "data": [
                {
                    "coin": "BTC",
                    "side": "A",
                    "px": "60123.5",
                    "sz": "0.25",
                    "hash": "0x0",
                    "time": 1_727_773_200_123,
                    "tid": 907_359_904_431_134,
                    "users": ["0xa", "0xb"],
                }
            ],
        },
        [_trade(("hyperliquid", "BTC"), ("907359904431134", None), (60_123.5, 0.25), SELL, 1_727_773_200_123_000)],
    ),
    Documented(
        "crypto-com",
        {
            "id": -1,
            "method": "subscribe",
            "code": 0,
            "result": {
                "instrument_name": "BTCUSD-PERP",
                "channel": "trade",
                "data": [
                    {
                        "d": number,
                        "t": 1_613_581_138_462,
                        "p": "51327.5",
                        "q": "0.125",
                        "s": "SELL",
                        "i": "BTCUSD-PERP",
                    }
                    for number in ("4611686018428182866", "4611686018428182865")
                ],
            },
        },
        [
            _trade(("crypto-com", "BTCUSD-PERP"), (str(number), number), (51_327.5, 0.125), SELL, 1_613_581_138_462_000)
            for number in (4_611_686_018_428_182_865, 4_611_686_018_428_182_866)
        ],
    ),
)

SKIPPED: Final = (
    ("coinbase-advanced", {"channel": "subscriptions", "events": []}, "subscription_reply"),
    ("coinbase-advanced", {"channel": "heartbeats", "events": [{"heartbeat_counter": 7}]}, "heartbeat"),
    ("kraken", {"channel": "heartbeat"}, "heartbeat"),
    ("kraken", {"channel": "status", "type": "update", "data": []}, "status"),
    ("kraken", {"method": "subscribe", "success": True, "result": {"channel": "trade"}}, "subscription_reply"),
    ("kraken", {"method": "pong", "time_in": "x"}, "heartbeat"),
    ("kraken-futures", {"event": "subscribed", "feed": "trade", "product_ids": []}, "subscription_reply"),
    ("kraken-futures", {"event": "info", "version": 1}, "status"),
    ("kraken-futures", {"feed": "heartbeat", "time": 1}, "heartbeat"),
    ("okx-trades-all", {"event": "subscribe", "arg": {"channel": "trades-all"}}, "subscription_reply"),
    ("bybit-v5", {"success": True, "ret_msg": "pong", "conn_id": "x", "op": "ping"}, "heartbeat"),
    ("bybit-v5", {"success": True, "ret_msg": "", "op": "subscribe"}, "subscription_reply"),
    ("deribit", {"jsonrpc": "2.0", "id": 3, "result": ["trades.X.raw"]}, "subscription_reply"),
    ("deribit", {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}, "heartbeat"),
    ("gate", {"channel": "spot.trades", "event": "subscribe", "result": {"status": "success"}}, "subscription_reply"),
    ("gate", {"channel": "spot.pong", "event": "", "result": None}, "heartbeat"),
    ("gate-futures", {"channel": "futures.pong", "event": ""}, "heartbeat"),
    ("gemini", {"type": "heartbeat", "timestamp": 1}, "heartbeat"),
    ("gemini", {"type": "l2_updates", "symbol": "BTCUSD", "changes": []}, "other_channel"),
    ("hyperliquid", {"channel": "subscriptionResponse", "data": {}}, "subscription_reply"),
    ("hyperliquid", {"channel": "pong"}, "heartbeat"),
    ("upbit", {"status": "UP"}, "heartbeat"),
    ("crypto-com", {"id": 1, "method": "public/heartbeat", "code": 0}, "heartbeat"),
    ("crypto-com", {"id": 1, "method": "subscribe", "code": 0}, "subscription_reply"),
)

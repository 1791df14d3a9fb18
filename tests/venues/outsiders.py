"""Tables that an outsider would write from the documentation of venues that are not built in, and its examples."""

from typing import Any, Final, NamedTuple

__all__ = ["OUTSIDERS", "Outsider"]


class Outsider(NamedTuple):
    """A table, a message of the documentation, and its trades as the documentation means them."""

    name: str
    table: str
    message: Any
    trades: list[tuple[str, str | None, int | None, str, str, str, int]]
    """Symbol, id, number, price, quantity, side and microseconds, in the order in which they happened."""


OUTSIDERS: Final = (
    Outsider(
        "whitebit",
        """
source = "https://docs.whitebit.com/websocket/market-streams/trades"
numbering = "monotonic"
symbol = { path = "$.params[0]" }
sequence = { path = "id", type = "number" }
price = { path = "price", type = "text" }
quantity = { path = "amount", type = "text" }
time = { path = "time", unit = "s", type = "number", fraction = true }
side = { path = "type", buy = ["buy"], sell = ["sell"] }
known = ["rpi", "$.id"]

[[messages]]
when = [{ path = "method", one_of = ["trades_update"] }]
trades = "params[1][]"
order = "newest_first"
""",
        {
            "id": None,
            "method": "trades_update",
            "params": [
                "ETH_BTC",
                [
                    {
                        "id": 41_358_530,
                        "time": 1_580_905_394.70332,
                        "price": "0.020857",
                        "amount": "5.511",
                        "type": "sell",
                    }
                ],
            ],
        },
        [("ETH_BTC", "41358530", 41_358_530, "0.020857", "5.511", "sell", 1_580_905_394_703_320)],
    ),
    Outsider(
        "mexc",
        """
source = "https://mexcdevelop.github.io/apidocs/spot_v3_en/#trade-streams"
numbering = "none"
symbol = { path = "$.s" }
price = { path = "p", type = "text" }
quantity = { path = "v", type = "text" }
time = { path = "t", unit = "ms", type = "number" }
side = { path = "S", buy = [1], sell = [2] }
known = ["$.c", "$.t"]

[[messages]]
when = [{ path = "d.e", one_of = ["spot@public.deals.v3.api"] }]
trades = "d.deals[]"
""",
        {
            "c": "spot@public.deals.v3.api@BTCUSDT",
            "d": {
                "deals": [{"p": "43469.99", "v": "0.002153", "S": 1, "t": 1_706_615_234_824}],
                "e": "spot@public.deals.v3.api",
            },
            "s": "BTCUSDT",
            "t": 1_706_615_234_826,
        },
        [("BTCUSDT", None, None, "43469.99", "0.002153", "buy", 1_706_615_234_824_000)],
    ),
    Outsider(
        "bitget",
        """
source = "https://www.bitget.com/api-doc/contract/websocket/public/New-Trades-Channel"
numbering = "identity_only"
symbol = { path = "$.arg.instId" }
trade_id = { path = "tradeId" }
price = { path = "price", type = "text" }
quantity = { path = "size", type = "text" }
time = { path = "ts", unit = "ms", type = "text" }
side = { path = "side", buy = ["buy"], sell = ["sell"] }
known = ["$.arg.instType", "$.ts"]

[[messages]]
when = [{ path = "arg.channel", one_of = ["trade"] }, { path = "action", one_of = ["snapshot", "update"] }]
trades = "data[]"
order = "newest_first"
""",
        {
            "action": "snapshot",
            "arg": {"instType": "USDT-FUTURES", "channel": "trade", "instId": "BTCUSDT"},
            "data": [
                {"ts": "1695716760565", "price": "27000.5", "size": "0.001", "side": "buy", "tradeId": "1112"},
                {"ts": "1695716759514", "price": "27000.0", "size": "0.001", "side": "sell", "tradeId": "1111"},
            ],
            "ts": 1_695_716_761_589,
        },
        [
            ("BTCUSDT", "1111", None, "27000", "0.001", "sell", 1_695_716_759_514_000),
            ("BTCUSDT", "1112", None, "27000.5", "0.001", "buy", 1_695_716_760_565_000),
        ],
    ),
    Outsider(
        "bingx",
        """
source = "https://bingx-api.github.io/docs/swap/socket-market.html"
numbering = "none"
symbol = { path = "s" }
price = { path = "p", type = "text" }
quantity = { path = "q", type = "text" }
time = { path = "T", unit = "ms", type = "number" }
side = { path = "m", buy = [false], sell = [true] }
known = ["$.code"]

[[messages]]
when = [{ path = "dataType", matches = '.+@trade' }]
trades = "data[]"
""",
        {
            "code": 0,
            "dataType": "BTC-USDT@trade",
            "data": [{"q": "0.0421", "p": "29110.5", "T": 1_690_214_699_771, "m": False, "s": "BTC-USDT"}],
        },
        [("BTC-USDT", None, None, "29110.5", "0.0421", "buy", 1_690_214_699_771_000)],
    ),
    Outsider(
        "poloniex",
        """
source = "https://api-docs.poloniex.com/spot/websocket/market-data"
numbering = "monotonic"
symbol = { path = "symbol" }
sequence = { path = "id", type = "number" }
price = { path = "price", type = "text" }
quantity = { path = "quantity", type = "text" }
time = { path = "createTime", unit = "ms", type = "number" }
side = { path = "takerSide", buy = ["buy"], sell = ["sell"] }
known = ["amount", "ts"]

[[messages]]
when = [{ path = "event", absent = true }, { path = "channel", one_of = ["trades"] }]
trades = "data[]"

[[skip]]
reason = "subscription_reply"
when = [{ path = "event", one_of = ["subscribe", "unsubscribe"] }]
""",
        {
            "channel": "trades",
            "data": [
                {
                    "symbol": "BTC_USDT",
                    "amount": "70",
                    "takerSide": "buy",
                    "quantity": "4",
                    "createTime": 1_648_059_516_810,
                    "price": "104",
                    "id": 1_648_059_516_810,
                    "ts": 1_648_059_516_832,
                }
            ],
        },
        [("BTC_USDT", "1648059516810", 1_648_059_516_810, "104", "4", "buy", 1_648_059_516_810_000)],
    ),
    Outsider(
        "lbank",
        """
source = "https://www.lbank.com/docs/index.html#trade-record"
numbering = "none"
symbol = { path = "$.pair" }
price = { path = "price", type = "number" }
quantity = { path = "volume", type = "number" }
time = { path = "TS", unit = "rfc3339", zone = "+08:00" }
side = { path = "direction", buy = ["buy"], sell = ["sell"] }
known = ["amount", "$.TS", "$.SERVER"]

[[messages]]
when = [{ path = "type", one_of = ["trade"] }]
trades = "trade"
""",
        {
            "trade": {
                "volume": 6.3607,
                "amount": 77_148.9303,
                "price": 12_129,
                "direction": "sell",
                "TS": "2019-06-28T19:55:49.460",
            },
            "type": "trade",
            "pair": "btc_usdt",
            "SERVER": "V2",
            "TS": "2019-06-28T19:55:49.466",
        },
        [("btc_usdt", None, None, "12129", "6.3607", "sell", 1_561_722_949_460_000)],
    ),
    Outsider(
        "woo-x",
        """
source = "https://docs.woox.io/#trade"
numbering = "none"
symbol = { path = "symbol" }
price = { path = "price", type = "number" }
quantity = { path = "size", type = "number" }
time = { path = "$.ts", unit = "ms", type = "number" }
side = { path = "side", buy = ["BUY"], sell = ["SELL"] }
known = ["source"]

[[messages]]
when = [{ path = "topic", matches = '.+@trade' }]
trades = "data"
""",
        {
            "topic": "SPOT_ADA_USDT@trade",
            "ts": 1_618_820_361_552,
            "data": {"symbol": "SPOT_ADA_USDT", "price": 1.27988, "size": 300, "side": "BUY", "source": 0},
        },
        [("SPOT_ADA_USDT", None, None, "1.27988", "300", "buy", 1_618_820_361_552_000)],
    ),
    Outsider(
        "bitso",
        """
source = "https://docs.bitso.com/bitso-api/docs/trades-channel"
numbering = "monotonic"
symbol = { path = "$.book" }
sequence = { path = "i", type = "number" }
price = { path = "r", type = "text" }
quantity = { path = "a", type = "text" }
time = { path = "x", unit = "ms", type = "number" }
side = { path = "t", buy = [0], sell = [1] }
known = ["v", "mo", "to", "$.sent"]

[[messages]]
when = [{ path = "type", one_of = ["trades"] }, { path = "payload", present = true }]
trades = "payload[]"

[[skip]]
reason = "subscription_reply"
when = [{ path = "response", one_of = ["ok"] }]

[[skip]]
reason = "heartbeat"
when = [{ path = "type", one_of = ["ka"] }]
""",
        {
            "type": "trades",
            "book": "btc_mxn",
            "payload": [
                {
                    "i": 77_777,
                    "a": "0.0035",
                    "r": "7190",
                    "v": "25.16",
                    "mo": "laasdqw1ywYgfYI2",
                    "t": 0,
                    "x": 1_675_555_546_102,
                }
            ],
            "sent": 1_675_555_546_102,
        },
        [("btc_mxn", "77777", 77_777, "7190", "0.0035", "buy", 1_675_555_546_102_000)],
    ),
    Outsider(
        "bitflyer",
        """
source = "https://lightning.bitflyer.com/docs"
numbering = "monotonic"
symbol = { path = "$.params.channel", pattern = 'lightning_executions_(.+)' }
sequence = { path = "id", type = "number" }
price = { path = "price", type = "number" }
quantity = { path = "size", type = "number" }
time = { path = "exec_date", unit = "rfc3339" }
side = { path = "side", buy = ["BUY"], sell = ["SELL"], none = [""] }
known = ["buy_child_order_acceptance_id", "sell_child_order_acceptance_id", "$.jsonrpc"]

[[messages]]
when = [
    { path = "method", one_of = ["channelMessage"] },
    { path = "params.channel", matches = 'lightning_executions_.+' },
]
trades = "params.message[]"
""",
        {
            "jsonrpc": "2.0",
            "method": "channelMessage",
            "params": {
                "channel": "lightning_executions_BTC_JPY",
                "message": [
                    {
                        "id": 2_084_881_071,
                        "side": "BUY",
                        "price": 2_509_125.0,
                        "size": 0.005,
                        "exec_date": "2020-12-25T21:36:22.8840579Z",
                        "buy_child_order_acceptance_id": "JRF20201225-213620-004123",
                        "sell_child_order_acceptance_id": "JRF20201225-213620-133314",
                    }
                ],
            },
        },
        [("BTC_JPY", "2084881071", 2_084_881_071, "2509125", "0.005", "buy", 1_608_932_182_884_057)],
    ),
    Outsider(
        "coincheck",
        """
source = "https://coincheck.com/documents/exchange/api#websocket-trades"
numbering = "monotonic"
symbol = { path = "[2]" }
sequence = { path = "[1]", type = "text" }
price = { path = "[3]", type = "text" }
quantity = { path = "[4]", type = "text" }
time = { path = "[0]", unit = "s", type = "text" }
side = { path = "[5]", buy = ["buy"], sell = ["sell"] }
known = ["[6]", "[7]"]

[[messages]]
when = [{ path = "[0][1]", present = true }]
trades = "[]"
""",
        [["1663318663", "2357062", "btc_jpy", "2820896.0", "5.0", "sell", "1193401", "2078767"]],
        [("btc_jpy", "2357062", 2_357_062, "2820896", "5", "sell", 1_663_318_663_000_000)],
    ),
    Outsider(
        "korbit",
        """
source = "https://docs.korbit.co.kr/index_en.html"
numbering = "monotonic"
symbol = { path = "$.symbol" }
sequence = { path = "tradeId", type = "number" }
price = { path = "price", type = "text" }
quantity = { path = "qty", type = "text" }
time = { path = "timestamp", unit = "ms", type = "number" }
side = { path = "isBuyerTaker", buy = [true], sell = [false] }
known = ["$.timestamp"]

[[messages]]
when = [{ path = "type", one_of = ["trade"] }, { path = "snapshot", one_of = [false] }]
trades = "data[]"

[[messages]]
when = [{ path = "type", one_of = ["trade"] }, { path = "snapshot", one_of = [true] }]
trades = "data[]"
repeats = true
""",
        {
            "type": "trade",
            "timestamp": 1_700_000_000_000,
            "symbol": "btc_krw",
            "snapshot": True,
            "data": [
                {"tradeId": 1, "timestamp": 1_699_999_990_000, "price": "100", "qty": "0.5", "isBuyerTaker": True}
            ],
        },
        [("btc_krw", "1", 1, "100", "0.5", "buy", 1_699_999_990_000_000)],
    ),
)

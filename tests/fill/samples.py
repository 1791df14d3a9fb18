"""A documented example of each form, by the form's name, and the trade that it is."""

from typing import Any, Final, NamedTuple

from tests.fill.archive_files import zipped

__all__ = ["SAMPLES", "Sample"]

AT_MS: Final = 1723161255342
AT: Final = AT_MS * 1000


class Sample(NamedTuple):
    """A file or an answer of one trade."""

    name: str
    content: bytes
    trade: dict[str, Any]
    symbol: str | None = None
    """What the command is given, where the content has no symbol."""


def _trade(exchange: str, symbol: str, number: int | None, price: str, quantity: str, **fields: Any) -> dict[str, Any]:
    times = {"side": "sell", "timestamp": AT, "trade_id": None, "first_sequence": None}
    names = {"exchange": exchange, "symbol": symbol, "sequence": number, "price": price, "quantity": quantity}
    return names | times | fields


_AGG: Final = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
_BYBIT: Final = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
    "1723161255.3421,BTCUSDT,Sell,0.002,61837.50,MinusTick,1b9f2c7e-5d0f-5c6b-8d5c-0a7d0b1f4e11,1,0.002,123.6\n"
)
SAMPLES: Final = {
    "binance-spot-trades": Sample(
        "BTCUSDT-trades-2025-08-08.zip",
        zipped("BTCUSDT-trades-2025-08-08.csv", f"3735683259,61837.63000000,0.02000000,1236.7526,{AT},True,True\n"),
        _trade("binance", "BTCUSDT", 3735683259, "61837.63000000", "0.02000000"),
    ),
    "binance-spot-aggtrades": Sample(
        "BTCUSDT-aggTrades-2024-08-08.csv",
        f"{_AGG},is_best_match\n77,61837.63,0.5,101,103,{AT_MS},True,True\n".encode(),
        _trade("binance", "BTCUSDT", 103, "61837.63", "0.5", first_sequence=101, trade_id="77"),
    ),
    "binance-futures-trades": Sample(
        "BTCUSD_PERP-trades-2024-08-08.csv",
        f"id,price,qty,base_qty,time,is_buyer_maker\n849714402,61804.8,4,0.0064,{AT_MS},false\n".encode(),
        _trade("binance-futures", "BTCUSD_PERP", 849714402, "61804.8", "4", side="buy"),
    ),
    "binance-futures-aggtrades": Sample(
        "BTCUSDT-aggTrades-2024-08-08.csv",
        f"{_AGG}\n2300,61800.3,0.006,101,103,{AT_MS},true\n".encode(),
        _trade("binance-futures-aggtrade", "BTCUSDT", 2300, "61800.3", "0.006"),
    ),
    "okx-trades": Sample(
        "BTC-USDT-SWAP-trades-2024-08-09.zip",
        zipped(
            "BTC-USDT-SWAP-trades-2024-08-09.csv",
            "instrument_name,trade_id,side,price,size,created_time,source\n"
            f"BTC-USDT-SWAP,104136693,sell,0.5747,38.0,{AT_MS},0\n",
        ),
        _trade("okx", "BTC-USDT-SWAP", 104136693, "0.5747", "38.0"),
    ),
    "bybit-trades": Sample(
        "BTCUSDT2024-08-08.csv",
        _BYBIT.encode(),
        _trade("bybit", "BTCUSDT", None, "61837.50", "0.002", timestamp=AT + 100)
        | {"trade_id": "1b9f2c7e-5d0f-5c6b-8d5c-0a7d0b1f4e11"},
    ),
    "binance-spot-rest": Sample(
        "answer",
        f'[{{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":{AT_MS},'
        '"isBuyerMaker":true,"isBestMatch":true}]'.encode(),
        _trade("binance", "BNBBTC", 28457, "4.00000100", "12.00000000"),
        "BNBBTC",
    ),
    "binance-futures-rest": Sample(
        "answer",
        f'[{{"id":28457,"price":"4.00000100","qty":"12","quoteQty":"48","time":{AT_MS},"isBuyerMaker":true}}]'.encode(),
        _trade("binance-futures", "BTCUSDT", 28457, "4.00000100", "12"),
        "BTCUSDT",
    ),
    "binance-spot-aggtrades-rest": Sample(
        "answer",
        f'[{{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27783,"T":{AT_MS},"m":true,"M":true}}]'.encode(),
        _trade("binance", "BNBBTC", 27783, "0.01633102", "4.70443515", first_sequence=27781, trade_id="26129"),
        "BNBBTC",
    ),
    "binance-futures-aggtrades-rest": Sample(
        "answer",
        f'[{{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27783,"T":{AT_MS},"m":true}}]'.encode(),
        _trade("binance-futures-aggtrade", "BTCUSDT", 26129, "0.01633102", "4.70443515"),
        "BTCUSDT",
    ),
    "coinbase-rest": Sample(
        "answer",
        b'[{"trade_id":280232,"side":"buy","size":"985","price":"0.00001305","time":"2024-08-08T23:54:15.342Z"}]',
        _trade("coinbase", "SKL-BTC", 280232, "0.00001305", "985"),
        "SKL-BTC",
    ),
    "kraken-rest": Sample(
        "answer",
        b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1723161255.342000911,"s","m","",61044952]],'
        b'"last":"1723161255342000911"}}',
        _trade("kraken", "BTC/USD", 61044952, "30243.40000", "0.34507674"),
        "BTC/USD",
    ),
    "deribit-rest": Sample(
        "answer",
        f'{{"jsonrpc":"2.0","result":{{"trades":[{{"trade_seq":30289432,"trade_id":"48079254","timestamp":{AT_MS},'
        '"price":8950.50,"amount":10.0,"direction":"sell","instrument_name":"BTC-PERPETUAL","tick_direction":0,'
        '"index_price":8955.88}],"has_more":true}}'.encode(),
        _trade("deribit", "BTC-PERPETUAL", 30289432, "8950.50", "10.0", trade_id="48079254"),
    ),
    "okx-rest": Sample(
        "answer",
        f'{{"code":"0","msg":"","data":[{{"instId":"BTC-USDT","side":"sell","sz":"0.00001","source":"0","px":"29963.2",'
        f'"tradeId":"242720720","ts":"{AT_MS}"}}]}}'.encode(),
        _trade("okx", "BTC-USDT", 242720720, "29963.2", "0.00001"),
    ),
    "gate-rest": Sample(
        "answer",
        f'[{{"id":"1232893232","create_time":"1723161255","create_time_ms":"{AT_MS}.123456","currency_pair":"ETH_BTC",'
        '"side":"sell","role":"maker","amount":"0.15","price":"0.03","sequence_id":"588018"}]'.encode(),
        _trade("gate", "ETH_BTC", 588018, "0.03", "0.15", trade_id="1232893232", timestamp=AT + 123),
    ),
    "htx-rest": Sample(
        "answer",
        f'{{"ch":"market.btcusdt.trade.detail","status":"ok","data":[{{"id":1,"ts":{AT_MS},"data":[{{"id":5,'
        f'"ts":{AT_MS},"trade-id":102090736889,"amount":9.2e-07,"price":52648.620,"direction":"sell"}}]}}]}}'.encode(),
        _trade("htx", "btcusdt", 102090736889, "52648.620", "9.2e-07"),
        "btcusdt",
    ),
    "bybit-rest": Sample(
        "answer",
        f'{{"retCode":0,"result":{{"category":"linear","list":[{{"execId":"2100000000007764263","symbol":"BTCUSDT",'
        f'"price":"16618.49","size":"0.00012","side":"Sell","time":"{AT_MS}","isBlockTrade":false}}]}}}}'.encode(),
        _trade("bybit", "BTCUSDT", None, "16618.49", "0.00012", trade_id="2100000000007764263"),
    ),
    "bitmex-rest": Sample(
        "answer",
        b'[{"timestamp":"2024-08-08T23:54:15.342Z","symbol":"XBTUSD","side":"Sell","size":100,"price":61000.5,'
        b'"tickDirection":"MinusTick","trdMatchID":"6c4bff1b-0c1f-4b5e-9fb3-5b9e9c2d7e01","trdType":"Regular"}]',
        _trade("bitmex", "XBTUSD", None, "61000.5", "100", trade_id="6c4bff1b-0c1f-4b5e-9fb3-5b9e9c2d7e01"),
    ),
    "crypto-com-rest": Sample(
        "answer",
        f'{{"code":0,"result":{{"data":[{{"s":"SELL","p":"26386.00","q":"0.00453","tn":{AT_MS}342588,"t":{AT_MS},'
        '"d":"4611686018455979970","i":"BTC_USD"}]}}'.encode(),
        _trade("crypto-com", "BTC_USD", None, "26386.00", "0.00453", trade_id="4611686018455979970"),
    ),
    "bitstamp-rest": Sample(
        "answer",
        b'[{"date":"1723161255","tid":"342712012","amount":"0.01513062","type":"1","price":"212.80"}]',
        _trade("bitstamp", "btcusd", None, "212.80", "0.01513062", trade_id="342712012", timestamp=1723161255_000_000),
        "btcusd",
    ),
}

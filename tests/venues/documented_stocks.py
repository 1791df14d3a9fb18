"""Messages of venues of stocks, in the form of their documentation: trades, and what cancels or corrects them."""

from decimal import Decimal
from typing import Final

from k2.model.correction import Correction, CorrectionKind
from k2.model.trade import NO_SIDE
from tests.venues.documented import Documented, _trade

__all__ = ["SKIPPED_STOCKS", "STOCKS"]


def _correction(
    what: str,
    venue: tuple[str, str],
    ids: tuple[str, str | None],
    amounts: tuple[str | None, str | None, str | None, str | None],
    time: int,
) -> Correction:
    """Return a correction; the amounts are the old price and quantity, then the new ones."""
    values = [None if amount is None else Decimal(amount) for amount in amounts]
    return Correction(CorrectionKind(what), *venue, *ids, *values, None, None, time)


IEX_TRADE: Final = {
    "price": 156.1,
    "size": 100,
    "tradeId": 517_341_294,
    "isISO": False,
    "isOddLot": False,
    "isOutsideRegularHours": False,
    "isSinglePriceCross": False,
    "isTradeThroughExempt": False,
    "timestamp": 1_494_619_192_003,
}


STOCKS: Final = (
    Documented(
        "alpaca",
        [
            {
                "T": "t",
                "i": 96921,
                "S": "AAPL",
                "x": "D",
                "p": 126.55,
                "s": 1,
                "t": "2021-02-22T15:51:44.208Z",
                "c": ["@", "I"],
                "z": "C",
            },
            {
                "T": "c",
                "S": "EEM",
                "x": "M",
                "oi": 52_983_525_033_527,
                "op": 39.1582,
                "os": 440_000,
                "oc": [" ", "7"],
                "ci": 52_983_525_034_326,
                "cp": 39.1809,
                "cs": 440_000,
                "cc": [" ", "7"],
                "z": "B",
                "t": "2023-04-06T14:25:06.542305024Z",
            },
            {"T": "q", "S": "AMD", "bx": "U", "bp": 87.66},
            {
                "T": "x",
                "S": "GOOGL",
                "i": 465,
                "x": "D",
                "p": 105.31,
                "s": 300,
                "a": "C",
                "z": "C",
                "t": "2023-04-06T00:15:42.83540958Z",
            },
        ],
        [
            _trade(("alpaca", "AAPL"), ("2021-02-22:D:96921", None), (126.55, 1), NO_SIDE, 1_614_009_104_208_000),
            _correction(
                "corrected",
                ("alpaca", "EEM"),
                ("2023-04-06:M:52983525033527", "2023-04-06:M:52983525034326"),
                ("39.1582", "440000", "39.1809", "440000"),
                1_680_791_106_542_305,
            )._replace(old_conditions='[" ","7"]', new_conditions='[" ","7"]'),
            # After midnight UTC, and before it in New York.
            _correction(
                "cancelled",
                ("alpaca", "GOOGL"),
                ("2023-04-05:D:465", None),
                ("105.31", "300", None, None),
                1_680_740_142_835_409,
            ),
        ],
    ),
    Documented(
        "iex",
        {"symbol": "SNAP", "messageType": "trades", "data": IEX_TRADE, "seq": 1},
        [_trade(("iex", "SNAP"), ("2017-05-12:517341294", None), (156.1, 100), NO_SIDE, 1_494_619_192_003_000)],
    ),
    Documented(
        "iex",
        {"symbol": "SNAP", "messageType": "tradebreak", "data": IEX_TRADE, "seq": 2},
        [
            _correction(
                "cancelled",
                ("iex", "SNAP"),
                ("2017-05-12:517341294", None),
                ("156.1", "100", None, None),
                1_494_619_192_003_000,
            )
        ],
    ),
    Documented(
        "polygon",
        [
            {
                "ev": "T",
                "sym": "MSFT",
                "x": 4,
                "i": "12345",
                "z": 3,
                "p": 114.125,
                "s": 100,
                "c": [0, 12],
                "t": 1_536_036_818_784,
                "q": 3_681_328,
            },
            {"ev": "T", "sym": "MSFT", "x": 4, "trfi": 201, "i": "9", "p": 1, "s": 2, "t": 1_536_036_818_784, "q": 7},
        ],
        [
            _trade(
                ("polygon", "MSFT"),
                ("2018-09-04:4::12345", 3_681_328),
                (114.125, 100),
                NO_SIDE,
                1_536_036_818_784_000,
            ),
            _trade(("polygon", "MSFT"), ("2018-09-04:4:201:9", 7), (1, 2), NO_SIDE, 1_536_036_818_784_000),
        ],
    ),
)

SKIPPED_STOCKS: Final = (
    ("alpaca", [{"T": "success", "msg": "authenticated"}], "non_market"),
    ("alpaca", [{"T": "subscription", "trades": ["AAPL"], "corrections": ["AAPL"]}], "non_market"),
    ("iex", {"symbol": "SNAP", "messageType": "book", "data": {}}, "other_channel"),
    ("polygon", [{"ev": "status", "status": "auth_success"}], "non_market"),
)

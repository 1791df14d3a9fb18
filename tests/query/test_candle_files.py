"""Candles of venues: the same interval in each form that they publish."""

import json
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from k2.model.errors import SettingsError
from k2.query.candle_files import Candle, parse_candles, read_candles

START_S = 1_723_161_600
PRICES = (Decimal("61837.63"), Decimal("61900.10"), Decimal(61800), Decimal("61850.5"))
COUNTED = Candle(START_S * 10**6, *PRICES, Decimal("12.34567800"), 42)
NOT_COUNTED = Candle(START_S * 10**6, *PRICES, Decimal("12.345678"), None)
BINANCE = '{start},"61837.63","61900.10","61800","61850.5","12.34567800",{start},"763000.1",42,"6.1","377000.2","0"'


@pytest.mark.parametrize(
    ("text", "candle"),
    [
        (BINANCE.format(start=START_S * 10**3).replace('"', ""), COUNTED),
        (BINANCE.format(start=START_S * 10**6), COUNTED),
        (f"[[{BINANCE.format(start=START_S * 10**3)}]]", COUNTED),
        (
            (
                "open_time,open,high,low,close,volume,close_time,quote_volume,count\n"
                f"{START_S * 10**3},61837.63,61900.10,61800,61850.5,12.345678,0,0,42\n"
            ),
            COUNTED,
        ),
        (f"[[{START_S}, 61800, 61900.10, 61837.63, 61850.5, 12.345678]]", NOT_COUNTED),
        (
            json.dumps(
                {"candles": [{"start": str(START_S), "low": "61800", "high": "61900.10", "open": "61837.63"}]}
            ).replace('"open"', '"close": "61850.5", "volume": "12.345678", "open"'),
            NOT_COUNTED,
        ),
        (
            json.dumps(
                {"retCode": 0, "result": {"list": [[str(START_S * 10**3), *map(str, PRICES), "12.345678", "1"]]}}
            ),
            NOT_COUNTED,
        ),
        (
            json.dumps(
                {
                    "code": "0",
                    "data": [
                        [str((START_S + 60) * 10**3), *map(str, PRICES), "9", "9", "9", "0"],
                        [str(START_S * 10**3), *map(str, PRICES), "12.345678", "9", "9", "1"],
                    ],
                }
            ),
            NOT_COUNTED,
        ),
        (
            json.dumps(
                {
                    "error": [],
                    "result": {
                        "XXBTZUSD": [
                            [START_S, *map(str, PRICES), "61840", "12.345678", 42],
                            [START_S + 60, *map(str, PRICES), "61840", "1", 1],
                        ],
                        "last": START_S,
                    },
                }
            ),
            COUNTED,
        ),
        ("Date,Open,High,Low,Close,Volume\n2024-08-09T00:00:00Z,61837.63,61900.1,61800,61850.5,12.345678", NOT_COUNTED),
    ],
    ids=["Binance CSV", "microseconds", "klines", "names", "Coinbase", "Advanced", "Bybit", "OKX", "Kraken", "any CSV"],
)
def test_forms(text: str, candle: Candle) -> None:
    """Digits are kept; a candle that has not ended is left out."""
    assert parse_candles(text) == [candle]


def test_a_zip_has_candles_of_several_files(tmp_path: Path) -> None:
    """In the order of their starts, the newest first or last; a value that a file lacks is not known."""
    path = tmp_path / "candles.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b.csv", "time,volume\n120,2\n60,1\n")
        archive.writestr("a.csv", "time,volume\n180,3\n")
    found = read_candles(path)
    assert [(one.start_us, one.volume) for one in found] == [(60_000_000, 1), (120_000_000, 2), (180_000_000, 3)]
    assert {one.trades for one in found} == {None}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has no candle"),
        ("[]", "it has no candle"),
        ("1,2,3", "3 columns without names"),
        ("price,volume\n1,2", "no column of the start among price, volume"),
        ("time,volume\n60,x", "'x' is not a number"),
        ("time,volume\n60,NaN", "'NaN' is not a number"),
        ("time,volume\n60", "known form"),
        ("time,trades\n60,1.5", "1.5 trades"),
        ('{"error": ["EQuery:Unknown asset pair"]}', "an object with the keys error"),
        ("id,price,qty,time\n1,2,3,60", "a candle without any of open, high, low"),
        ("time,volume\n60,1\n60,2", "two candles that begin at 1970-01-01T00:01:00Z differ"),
        ("[1]", "known form"),
        ("{", "known form"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    """One sentence names the file and what is wrong."""
    path = tmp_path / "candles.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"--against .*candles\.csv") as error:
        read_candles(path)
    assert says in str(error.value)
    with pytest.raises(SettingsError, match=r"none\.csv: No such file or directory; name a file"):
        read_candles(tmp_path / "none.csv")

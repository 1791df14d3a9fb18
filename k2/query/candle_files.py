"""A venue's candles, read from the files that venues publish: archives as CSV or zip, and answers of REST as JSON."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from k2.model.errors import SettingsError
from k2.model.times import time_of
from k2.query.parameters import time_from_text

__all__ = ["Candle", "parse_candles", "read_candles"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "start": ("start", "time", "timestamp", "opentime", "starttime", "t", "date", "datetime"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "basevolume", "v"),
    "trades": ("trades", "count", "numberoftrades", "tradecount", "tradescount", "n"),
}
"""Names of columns, without spaces and underscores and in lower case; the first that a file has is used."""
_BINANCE: Final = ("start", "open", "high", "low", "close", "volume", "", "", "trades")
_COINBASE: Final = ("start", "low", "high", "open", "close", "volume")
_BYBIT: Final = ("start", "open", "high", "low", "close", "volume")
_OKX: Final = (*_BYBIT, "", "", "is_final")
_KRAKEN: Final = ("start", "open", "high", "low", "close", "", "volume", "trades")
Cells = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candle:
    """One interval of a venue; None for what its file does not say."""

    start_us: int
    """Microseconds since the epoch, UTC."""
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None
    trades: int | None


def read_candles(path: Path) -> list[Candle]:
    """Read a file of candles, the oldest first; a zip may have several.

    Raises:
        SettingsError: the file cannot be read, or has no candles in a known form.
    """
    try:
        content = path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts = [archive.read(name) for name in archive.namelist() if not name.endswith("/")]
        else:
            parts = [content]
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"--against {path}: {reason}; name a file of candles") from None
    try:
        candles = _by_start(one for part in parts for one in parse_candles(part.decode("utf-8-sig")))
    except (ArithmeticError, IndexError, TypeError, UnicodeDecodeError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise SettingsError(
            f"--against {path}: not candles in a known form: {reason}; docs/candles.md lists the forms"
        ) from None
    if not candles:
        raise SettingsError(f"--against {path}: it has no candle; name a file of candles")
    return [candles[start] for start in sorted(candles)]


def _by_start(candles: Iterable[Candle]) -> dict[int, Candle]:
    """Return candles by their start.

    Raises:
        ValueError: two of one start say different things, as where the file is of several symbols or intervals.
    """
    found: dict[int, Candle] = {}
    for one in candles:
        if found.setdefault(one.start_us, one) != one:
            raise ValueError(f"two candles that begin at {time_of(one.start_us):%Y-%m-%dT%H:%M:%SZ} differ")
    return found


def parse_candles(text: str) -> list[Candle]:
    """Parse the text of a file, whose form is recognised; a candle that is not final is left out.

    Raises:
        ValueError, TypeError, IndexError: it is not of a known form.
    """
    rows = _json_rows(text) if text.lstrip()[:1] in {"[", "{"} else _csv_rows(text)
    return [_candle(row) for row in rows if str(row.get("is_final", "1")) == "1"]


def _json_rows(text: str) -> Iterator[Cells]:
    document = json.loads(text, parse_float=Decimal)
    names: Sequence[str] | None = None
    if isinstance(document, dict):
        document, names = _rows_of_answer(document)
    for row in document:
        if isinstance(row, dict):
            yield _named(row)
        elif names is not None:
            yield dict(zip(names, row, strict=False))
        else:
            yield dict(zip(_COINBASE if len(row) == len(_COINBASE) else _BINANCE, row, strict=False))


def _rows_of_answer(document: Mapping[str, Any]) -> tuple[Iterable[Any], Sequence[str] | None]:
    """Return the rows of an answer, and the names of their cells by its venue; None if the rows have names."""
    if isinstance(document.get("candles"), list):
        return document["candles"], None
    if isinstance(document.get("data"), list):
        return document["data"], _OKX
    result = document.get("result")
    if isinstance(result, dict) and isinstance(result.get("list"), list):
        return result["list"], _BYBIT
    found = [rows for rows in result.values() if isinstance(rows, list)] if isinstance(result, dict) else []
    if len(found) != 1:
        raise ValueError(f"an object with the keys {', '.join(sorted(document))}")
    # The last one is of the interval that has not ended.
    return found[0][:-1], _KRAKEN


def _csv_rows(text: str) -> Iterator[Cells]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        return
    if _is_number(rows[0][0]):
        if len(rows[0]) < len(_BINANCE):
            raise ValueError(f"{len(rows[0])} columns without names")
        yield from (dict(zip(_BINANCE, row, strict=False)) for row in rows)
        return
    for row in rows[1:]:
        yield _named(dict(zip(rows[0], row, strict=True)))


def _named(row: Cells) -> Cells:
    """Return the cells of a row whose columns have names of their own."""
    plain = {name.replace("_", "").replace(" ", "").lower(): value for name, value in row.items()}
    found = {
        name: next((plain[alias] for alias in aliases if alias in plain), None) for name, aliases in _NAMES.items()
    }
    if found["start"] is None:
        raise ValueError(f"no column of the start among {', '.join(row)}")
    return found


def _candle(row: Cells) -> Candle:
    trades = _decimal(row.get("trades"))
    if trades is not None and trades != int(trades):
        raise ValueError(f"{trades} trades")
    open_, high, low, close, volume = (_decimal(row.get(name)) for name in ("open", "high", "low", "close", "volume"))
    # Without a value there is nothing to compare, so that any trades would agree with it.
    if all(value is None for value in (open_, high, low, close, volume, trades)):
        raise ValueError("a candle without any of open, high, low, close, volume and trades")
    return Candle(_start_us(row["start"]), open_, high, low, close, volume, None if trades is None else int(trades))


def _decimal(value: object) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a number")
    return number


def _start_us(value: object) -> int:
    """Return a time in microseconds: seconds, milli-, micro- or nanoseconds by their size, or RFC 3339.

    >>> [_start_us(value) for value in (1723161600, "1723161600000", 1723161600000000, "2024-08-09")]
    [1723161600000000, 1723161600000000, 1723161600000000, 1723161600000000]
    """
    if isinstance(value, str) and not _is_number(value):
        return (time_from_text(value) - _EPOCH) // _MICROSECOND
    number = _decimal(value)
    if number is None:
        raise ValueError("a candle without a start")
    for limit, factor in ((10**11, 10**6), (10**14, 10**3), (10**17, 1)):
        if abs(number) < limit:
            return int(number * factor)
    return int(number // 1_000)


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False

"""The columns of the answers on trades, as JSON has them."""

from typing import Any, Final

__all__ = ["BARS", "START", "SYMBOLS", "TRADES", "TWAP", "VWAP"]

Columns = dict[str, dict[str, Any]]

_TEXT: Final = {"type": "string"}
_SOME_TEXT: Final = {"type": ["string", "null"]}
_INTEGER: Final = {"type": "integer"}
_SOME_INTEGER: Final = {"type": ["integer", "null"]}
_NUMBER: Final = {"type": ["number", "null"]}
_DECIMAL: Final = {"type": "string", "pattern": r"^-?\d+(\.\d+)?(E[+-]?\d+)?$"}
_TIME: Final = {"type": "string", "format": "date-time"}
_SOME_TIME: Final = {"type": ["string", "null"], "format": "date-time"}

_NAMES: Final[Columns] = {"exchange": _TEXT, "symbol": _TEXT}
SYMBOLS: Final[Columns] = {**_NAMES, "trades": _INTEGER}
TRADES: Final[Columns] = {
    **_NAMES,
    "trade_id": _SOME_TEXT,
    "sequence": _SOME_INTEGER,
    "session": _SOME_INTEGER,
    "price": _DECIMAL,
    "quantity": _DECIMAL,
    "side": _SOME_TEXT,
    "timestamp": _TIME,
    "received": _SOME_TIME,
    "topic": _TEXT,
    "partition": _INTEGER,
    "offset": _INTEGER,
    "index": _INTEGER,
    "kafka_timestamp": _SOME_TIME,
}
START: Final[Columns] = {"start": _TIME}
"""Where they are by intervals."""
VWAP: Final[Columns] = {**_NAMES, "vwap": _NUMBER, "volume": _DECIMAL, "trades": _INTEGER}
TWAP: Final[Columns] = {**_NAMES, "twap": _NUMBER, "trades": _INTEGER}
BARS: Final[Columns] = {
    **_NAMES,
    **START,
    **dict.fromkeys(("open", "high", "low", "close"), _DECIMAL),
    **VWAP,
}

"""JSON schemas of the columns of query results."""

from typing import Any, Final

from k2.model import columns
from k2.model.columns import ColumnType

__all__ = ["BARS", "CORRECTION", "START", "SYMBOLS", "TRADES", "TWAP", "VWAP"]

Columns = dict[str, dict[str, Any]]

_TEXT: Final = {"type": "string"}
_SOME_TEXT: Final = {"type": ["string", "null"]}
_INTEGER: Final = {"type": "integer"}
_SOME_INTEGER: Final = {"type": ["integer", "null"]}
_NUMBER: Final = {"type": ["number", "null"]}
_DECIMAL: Final = {"type": "string", "pattern": r"^-?\d+(\.\d+)?(E[+-]?\d+)?$"}
_TIME: Final = {"type": "string", "format": "date-time"}
_SOME_TIME: Final = {"type": ["string", "null"], "format": "date-time"}

_JSON: Final[dict[ColumnType, tuple[dict[str, Any], dict[str, Any]]]] = {
    ColumnType.STRING: (_SOME_TEXT, _TEXT),
    ColumnType.INT: (_SOME_INTEGER, _INTEGER),
    ColumnType.LONG: (_SOME_INTEGER, _INTEGER),
    ColumnType.DECIMAL: (_DECIMAL, _DECIMAL),
    ColumnType.TIMESTAMP: (_SOME_TIME, _TIME),
}
"""Of a column that may be null, and of one that is required."""

_NAMES: Final[Columns] = {"exchange": _TEXT, "symbol": _TEXT}
SYMBOLS: Final[Columns] = {**_NAMES, "trades": _INTEGER}
TRADES: Final[Columns] = {column.name: _JSON[column.type][column.is_required] for column in columns.TRADES}
CORRECTION: Final[Columns] = {"correction": _SOME_TEXT}
"""Present in corrected trades."""
START: Final[Columns] = {"start": _TIME}
"""Present if the query has an interval."""
VWAP: Final[Columns] = {**_NAMES, "vwap": _NUMBER, "volume": _DECIMAL, "trades": _INTEGER}
TWAP: Final[Columns] = {**_NAMES, "twap": _NUMBER, "trades": _INTEGER}
BARS: Final[Columns] = {
    **_NAMES,
    **START,
    **dict.fromkeys(("open", "high", "low", "close"), _DECIMAL),
    **VWAP,
}

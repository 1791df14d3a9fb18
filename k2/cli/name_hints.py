"""Messages about names of exchanges and symbols that are not stored, with the closest stored ones."""

from k2.cli.table_output import printable
from k2.ops.settings import Settings
from k2.query.completeness import is_stored
from k2.query.names import unknown_names

__all__ = ["did_you_mean", "no_trades_reason", "quote_names"]


def quote_names(exchange: str | None, symbol: str | None) -> str:
    """Return the names that are given, quoted, for a message."""
    return " and ".join(repr(name) for name in (exchange, symbol) if name)


def did_you_mean(settings: Settings, exchange: str | None, symbol: str | None) -> str:
    """Return the end of a message with the stored names closest to those that are not stored; empty without any."""
    unknown = [one for one in unknown_names(settings, exchange, symbol) if one.close]
    if not unknown:
        return ""
    is_both = exchange is not None and symbol is not None
    close = [_join(one.close) + (f" for {one.name!r}" if is_both else "") for one in unknown]
    return f"; did you mean {' and '.join(close)}?"


def no_trades_reason(settings: Settings, exchange: str | None, symbol: str | None) -> str | None:
    """Return why a query by name has no result if no trade of the name is stored; None if one is."""
    if (exchange is None and symbol is None) or is_stored(settings, exchange, symbol):
        return None
    names = quote_names(exchange, symbol)
    return f"no trade of {names} was ever stored{did_you_mean(settings, exchange, symbol)}"


def _join(names: tuple[str, ...]) -> str:
    *others, last = map(printable, names)
    return f"{', '.join(others)} or {last}" if others else last

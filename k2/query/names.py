"""Names of exchanges and symbols that are close to one that is not stored."""

from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from itertools import chain
from typing import Final, NamedTuple

from k2.model.errors import K2Error
from k2.ops.settings import Settings
from k2.query.completeness import is_stored
from k2.query.pool import open_engine
from k2.query.tables import find_job_table

__all__ = ["UnknownName", "close_names", "unknown_names"]

CLOSE_NAMES_MAX: Final = 3
_TABLES: Final = ("sequence_events", "trades")
"""Tables with names, the cheapest first: the ledger has a few rows for each symbol whose numbers are contiguous."""
_NAMES: Final = {
    # Events of connections have the name of the connection as their symbol.
    "sequence_events": """
        SELECT DISTINCT exchange, symbol FROM sequence_events WHERE NOT starts_with(event, 'connection_')
    """,
    "trades": "SELECT DISTINCT exchange, symbol FROM trades",
}


class UnknownName(NamedTuple):
    """A name that is not stored, and the stored ones closest to it."""

    name: str
    close: tuple[str, ...]
    """At most three, the closest first."""


def close_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return at most three names that are close to one, case-insensitively, the closest first.

    >>> close_names("ethusdt", ["BTCUSDT", "ETHUSDC", "ETHUSDT", "SOL-PERP"])
    ('ETHUSDT', 'ETHUSDC', 'BTCUSDT')
    """
    by_folded: dict[str, list[str]] = {}
    for one in sorted({*known}):
        by_folded.setdefault(one.casefold(), []).append(one)
    close = get_close_matches(name.casefold(), by_folded, n=CLOSE_NAMES_MAX)
    return tuple(chain.from_iterable(by_folded[folded] for folded in close))[:CLOSE_NAMES_MAX]


def unknown_names(settings: Settings, exchange: str | None, symbol: str | None) -> list[UnknownName]:
    """Return which of the names are not stored; none if a trade has both.

    A symbol is compared with those of the exchange if that is stored. The names come from the ledger. Those of the
    trades are read only if the ledger has no close name for one that it lacks. A table that does not exist or cannot be
    read has no names.
    """
    with suppress(K2Error):
        if is_stored(settings, exchange, symbol):
            return []
    pairs: set[tuple[str, str]] = set()
    unknown: list[UnknownName] = []
    for table in _TABLES:
        with suppress(K2Error):
            pairs |= _stored_pairs(settings, table)
        unknown = _unknown(pairs, exchange, symbol)
        if all(one.close for one in unknown):
            break
    return unknown


def _unknown(pairs: set[tuple[str, str]], exchange: str | None, symbol: str | None) -> list[UnknownName]:
    exchanges = {pair[0] for pair in pairs}
    symbols = {pair[1] for pair in pairs if exchange not in exchanges or pair[0] == exchange}
    asked = [(exchange, exchanges), (symbol, symbols)]
    return [
        UnknownName(name, close_names(name, known)) for name, known in asked if name is not None and name not in known
    ]


def _stored_pairs(settings: Settings, name: str) -> set[tuple[str, str]]:
    table = find_job_table(settings, name)
    if table is None:
        return set()
    with open_engine(settings) as engine:
        engine.register(name, table)
        return {(row["exchange"], row["symbol"]) for row in engine.query(_NAMES[name])}

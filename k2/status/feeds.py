"""Rules about feeds: trades dated ahead, and symbols that fell silent while others of their exchange go on."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from k2.query.recent_trades import BUCKET_SECONDS, SymbolActivity

__all__ = ["DatedAhead", "SilentSymbols", "dated_ahead", "silent_symbols"]

BUCKETS_MIN: Final = 15
"""A symbol is steady if it traded in nearly each of at least 15 spans of 4 s."""
STEADY_SHARE_MIN: Final = 0.8
SILENT_BUCKETS_MIN: Final = 6
"""A steady symbol without a trade for six spans is silent; by chance that is 1 in 15,000."""
SILENT_SHARE_MIN: Final = 0.2
SILENT_MIN: Final = 2


@dataclass(frozen=True, slots=True)
class DatedAhead:
    """Trades of an exchange that are dated ahead of their Kafka timestamps."""

    exchange: str
    trades: int
    seconds: float
    """By how much at most."""


@dataclass(frozen=True, slots=True)
class SilentSymbols:
    """Steady symbols of an exchange that stopped trading while others go on."""

    exchange: str
    silent: list[str]
    steady: int
    """Number of steady symbols, the silent ones included."""
    since: datetime
    """Venue time since which the last of them is silent."""


def dated_ahead(activity: Iterable[SymbolActivity]) -> list[DatedAhead]:
    """Return the exchanges with trades dated ahead, sorted."""
    return [
        DatedAhead(exchange, sum(one.ahead for one in ones), max(one.ahead_seconds for one in ones))
        for exchange, ones in _by_exchange(one for one in activity if one.ahead).items()
    ]


def silent_symbols(activity: Iterable[SymbolActivity]) -> list[SilentSymbols]:
    """Return the exchanges of which at least two, and a fifth of all, steady symbols are silent.

    All times are venue times, so that it makes no difference how late the rows were read.
    """
    found = (_silent(exchange, ones) for exchange, ones in _by_exchange(activity).items())
    return [one for one in found if one is not None]


def _by_exchange(activity: Iterable[SymbolActivity]) -> Mapping[str, list[SymbolActivity]]:
    found: defaultdict[str, list[SymbolActivity]] = defaultdict(list)
    for one in activity:
        found[one.exchange].append(one)
    return dict(sorted(found.items()))


def _silent(exchange: str, activity: list[SymbolActivity]) -> SilentSymbols | None:
    ends = [one.last for one in activity if one.last is not None]
    if not ends:
        return None
    silent_from = max(ends) - timedelta(seconds=BUCKET_SECONDS * SILENT_BUCKETS_MIN)
    steady = [one for one in activity if _is_steady(one)]
    silent = {one.symbol: one.last for one in steady if one.last is not None and one.last < silent_from}
    if len(silent) < SILENT_MIN or len(silent) < SILENT_SHARE_MIN * len(steady):
        return None
    return SilentSymbols(exchange, sorted(silent), len(steady), max(silent.values()))


def _is_steady(one: SymbolActivity) -> bool:
    if one.first is None or one.last is None or one.buckets < BUCKETS_MIN:
        return False
    spanned = (one.last - one.first).total_seconds() / BUCKET_SECONDS + 1
    return one.buckets >= STEADY_SHARE_MIN * spanned

"""The watch for silence: symbols that trade all day and have fallen silent, as metrics and in the log."""

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.symbol_names import SymbolNames
from k2.model.times import SECOND_US
from k2.ops.metrics import EXCHANGE_SILENT, SILENT_SYMBOLS
from k2.sequencing.silence import ExchangeSilence, SilenceTracker
from k2.venues.decode import Decoded

__all__ = ["SilenceWatch", "unknown_lag"]

ASSESSED_SECONDS: Final = 10.0
LOGGED_SECONDS: Final = 600.0
"""Time between two log lines of an exchange."""
LAG_MESSAGES_MAX: Final = 20_000
"""Unread messages, a poll of one partition, up to which the process is near the head of its topics."""
LIVE_SECONDS: Final = 60
HELD_SECONDS: Final = 1.0
HELD_ROWS_MAX: Final = 20_000
"""Trades are added together, once a second or when they are this many: a small batch costs as much as a large one."""
NAMED_MAX: Final = 5
"""Symbols that a log line names."""
NEAR_SECONDS: Final = 60.0
"""Time for which the process must have been near the head: until then, a partition may lag behind another."""

_LOG: Final = structlog.get_logger()


def unknown_lag() -> float:
    """Return NaN: it is not known how many messages are unread."""
    return math.nan


class SilenceWatch:
    """Learns the pauses of each symbol from its live trades, and says which are silent. Thread-safe.

    Nothing is judged unless the process is near the head of its topics: of a topic that is read from far behind, the
    partitions are at different times. An exchange is judged once it had a trade that was not older than
    `LIVE_SECONDS`, so a recording that is read does not count as silent since it was made.
    """

    def __init__(
        self,
        lag: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the messages that are not read yet from `lag` (NaN: unknown), and the time of day from `clock`."""
        self._lag, self._clock = lag, clock
        self._tracker = SilenceTracker()
        self._lock = threading.Lock()
        self._exchanges: dict[str, int] = {}
        self._live: set[str] = set()
        """Exchanges that had a live trade in this run."""
        self._names: SymbolNames | None = None
        self._held: list[tuple[NDArray[np.int32], NDArray[np.int64]]] = []
        """Symbol ids and Kafka times of trades that the tracker does not have yet."""
        self._held_rows, self._added_at = 0, -math.inf
        self._near_since = math.inf
        self._assessed_at, self._found = -math.inf, dict[int, ExchangeSilence]()
        self._logged_at: dict[str, float] = {}

    def add(self, decoded: Decoded) -> None:
        """Add the live trades of a batch; neither head numbers nor non-market trades are trades here."""
        columns = decoded.trades.columns
        if not len(columns) or not decoded.trades.source.is_live:
            return
        times = decoded.trades.source.kafka_timestamps[columns.messages]
        symbols = columns.symbols
        if len(decoded.heads) or len(decoded.non_market):
            is_trade = np.ones(len(symbols), dtype=np.bool_)
            is_trade[decoded.heads], is_trade[decoded.non_market] = False, False
            symbols, times = symbols[is_trade], times[is_trade]
        if len(times) and times.min() == NULL_TIME:
            symbols, times = symbols[times != NULL_TIME], times[times != NULL_TIME]
        if not len(times):
            return
        with self._lock:
            self._names = columns.names
            self._held.append((symbols, times))
            self._held_rows += len(times)
            now = self._clock()
            if self._held_rows >= HELD_ROWS_MAX or not 0 <= now - self._added_at < HELD_SECONDS:
                self._add_held(now)
                self._assess()

    def _add_held(self, now: float) -> None:
        """Add the trades that are held to the tracker."""
        self._added_at = now
        if not self._held or self._names is None:
            return
        symbols, times = (np.concatenate(part) for part in zip(*self._held, strict=True))
        self._held, self._held_rows = [], 0
        self._make_room(int(symbols.max()), self._names)
        self._tracker.add(symbols, times)
        if now - times[-1] / SECOND_US <= LIVE_SECONDS:
            self._live.add(self._names.name(int(symbols[-1]))[0])

    def _make_room(self, symbol_id: int, names: SymbolNames) -> None:
        new = [names.name(one)[0] for one in range(len(self._tracker), symbol_id + 1)]
        for exchange in new:
            if exchange not in self._exchanges:
                self._begin(exchange)
        if new:
            self._tracker.add_symbols([self._exchanges[exchange] for exchange in new])

    def _begin(self, exchange: str) -> None:
        self._exchanges[exchange] = len(self._exchanges)
        SILENT_SYMBOLS.labels(exchange).set_function(partial(self._silent_symbols, exchange))
        EXCHANGE_SILENT.labels(exchange).set_function(partial(self._exchange_silent, exchange))

    def _silent_symbols(self, exchange: str) -> float:
        found = self._current(exchange)
        return 0 if found is None else len(found.silent)

    def _exchange_silent(self, exchange: str) -> float:
        found = self._current(exchange)
        return 0 if found is None else float(found.is_exchange_silent)

    def _current(self, exchange: str) -> ExchangeSilence | None:
        with self._lock:
            self._add_held(self._clock())
            self._assess()
            return self._found.get(self._exchanges[exchange]) if exchange in self._live else None

    def _assess(self) -> None:
        """Assess all exchanges, at most every `ASSESSED_SECONDS`; it is called at batches and at scrapes."""
        now = self._clock()
        if 0 <= now - self._assessed_at < ASSESSED_SECONDS:
            return
        self._assessed_at = now
        # Also if the lag is NaN, which no number is below.
        self._near_since = min(self._near_since, now) if self._lag() <= LAG_MESSAGES_MAX else math.inf
        is_near = now - self._near_since >= NEAR_SECONDS
        self._found = self._tracker.assess(int(now * SECOND_US), LIVE_SECONDS * SECOND_US) if is_near else {}
        for exchange, index in self._exchanges.items():
            found = self._found.get(index)
            if found is not None and found.silent and exchange in self._live:
                self._log(exchange, found, now)

    def _log(self, exchange: str, found: ExchangeSilence, now: float) -> None:
        if now - self._logged_at.get(exchange, -math.inf) < LOGGED_SECONDS or self._names is None:
            return
        self._logged_at[exchange] = now
        names = [self._names.name(symbol_id)[1] for symbol_id in found.silent[:NAMED_MAX]]
        fields = {"exchange": exchange, "silent": len(found.silent), "steady": found.steady, "symbols": names}
        if found.is_exchange_silent:
            _LOG.warning("exchange_silent", **fields, hint="look whether it is closed, or its feed has ended")
        else:
            _LOG.warning(
                "symbols_silent",
                **fields,
                hint="no number is missing: look whether the venue halted them, or their subscription was lost",
            )

"""Market data of the tables: queries, reports and plots for Python. `k2.open()` opens it."""

import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, Self

from k2.analysis.plotter import Plotter
from k2.analysis.result import Result
from k2.model.errors import K2Error
from k2.ops.settings import Settings, read_settings
from k2.query import query_builders
from k2.query.completeness import CompletenessParameters, Day, Hour, by_day, by_hour
from k2.query.corrections import ReportedCorrection, corrections
from k2.query.engine import QueryError, SqlParameters
from k2.query.gap_causes import explained
from k2.query.gaps import Gap, GapFilter, gaps, largest_gaps
from k2.query.market import Market
from k2.query.output_formats import records_table
from k2.query.parameters import RowsParameters, make_parameters
from k2.query.pool import Pool
from k2.query.query_builders import TradesQuery
from k2.query.reconcile import Reconciliation, reconcile
from k2.status.reader import Status, StatusReader

__all__ = ["ClosedError", "MarketData", "open_market_data"]

Time = str | datetime
"""RFC 3339, a day, or a datetime with a time zone; a text without a zone is UTC."""
Version = str | int | datetime
"""A snapshot id, or a time."""


class ClosedError(K2Error, ValueError):
    """The market data was closed."""


class MarketData:
    """Queries, reports and plots of the job's tables; thread-safe.

    Arguments have the names and forms of the options of the `k2` commands; one that is not given selects all. They are
    checked at once (`QueryError` names an invalid one). The query itself runs when the `Result` is taken as a frame.
    It sees one snapshot of each table: the newest, or that of `as_of`, a snapshot id or a time.
    """

    def __init__(self, settings: Settings) -> None:
        """Open a pool of DuckDB connections with the limits of the settings."""
        self._pool = Pool(settings)
        # Also closes it at the end of the process, or when it is no longer used.
        self._close = weakref.finalize(self, self._pool.close)
        # A log line would stand between the cells of a notebook.
        self._status_reader = StatusReader(settings)
        self.plot: Final = Plotter(self._open_pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._close.alive else ", closed"
        where = f"namespace {self.settings.namespace!r} of catalog {self.settings.catalog!r}"
        return f"<k2 market data: {where}, data folder {str(self.settings.data_dir)!r}{state}>"

    @property
    def settings(self) -> Settings:
        """The settings that locate the tables."""
        return self._pool.settings

    def close(self) -> None:
        """Stop running queries and delete their temporary files; later queries raise `ClosedError`."""
        self._close()

    def trades(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
        as_of: Version | None = None,
        corrected: bool = False,
    ) -> Result:
        """Return trades with all their columns, oldest first; `start` is inclusive, `end` exclusive.

        With `corrected`, without cancelled trades, with corrected values in place, and a column `correction`.
        """
        fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "limit": limit, "as_of": as_of}
        return self._query("trades", corrected=corrected, **fields)

    def latest(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return the latest trade of each symbol, by venue time."""
        return self._query("latest", exchange=exchange, symbol=symbol, start=start, end=end, limit=limit, as_of=as_of)

    def symbols(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return each exchange and symbol, with its number of trades."""
        return self._query("symbols", exchange=exchange, symbol=symbol, start=start, end=end, limit=limit, as_of=as_of)

    def ohlcv(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | timedelta = "1m",
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return bars with open, high, low, close, vwap, volume and number of trades; a bar without trades is left out.

        `interval` is a number and `ms`, `s`, `m`, `h`, `d` or `w`, such as `5m`.
        """
        fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "limit": limit, "as_of": as_of}
        return self._query("ohlcv", interval=interval, **fields)

    def vwap(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | timedelta | None = None,
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return the average price of each symbol weighted by quantity: of all its trades, or for each interval."""
        fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "limit": limit, "as_of": as_of}
        return self._query("vwap", interval=interval, **fields)

    def twap(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | timedelta | None = None,
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return the average price of each symbol weighted by how long it held, up to the next trade or `end`."""
        fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "limit": limit, "as_of": as_of}
        return self._query("twap", interval=interval, **fields)

    def latency(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | timedelta = "1m",
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return the latency of each exchange's feed in milliseconds, for each interval.

        That is the median (`p50`) and 99th percentile of `received`, and of `kafka_timestamp`, minus `timestamp`.
        """
        fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "limit": limit, "as_of": as_of}
        return self._query("latency", interval=interval, **fields)

    def sql(self, query: str, parameters: SqlParameters | None = None, *, as_of: Version | None = None) -> Result:
        """Return the result of one SELECT over `trades` and the other tables of `k2 sql`.

        It runs in the sandbox of `k2 sql`. `parameters` are the values of `$name` (a mapping), or of `?` (a sequence).
        """
        version = _checked(as_of=as_of).as_of
        return Result(
            "sql",
            lambda: Market(self._open_pool()).sql_table(query, version, parameters),
            lambda: Market(self._open_pool()).sql(query, version, parameters),
        )

    def gaps(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        which: Literal["open", "filled", "accepted", "all"] = "open",
        limit: int | None = None,
        as_of: Version | None = None,
    ) -> Result:
        """Return ranges of sequence numbers that are missing, were filled by late trades, were accepted, or all.

        With `limit`, the largest ones. `opened_at` and `filled_at` are times of the job's clock, `timestamp` is the
        venue's. `cause`, `incident` and `fillable_until` are as far as they are known.
        """
        if which not in {*GapFilter}:
            raise QueryError(f"which: {which!r} selects no gaps; use {', '.join(GapFilter)}")
        checked = _checked(exchange=exchange, symbol=symbol, as_of=as_of, limit=limit)
        names = (checked.exchange, checked.symbol, checked.as_of)

        def find() -> list[Gap]:
            pool = self._open_pool()
            found = gaps(pool.settings, *names, GapFilter(which), pool=pool)
            rows = found if checked.limit is None else largest_gaps(found, checked.limit)
            return explained(pool.settings, rows, pool=pool)

        return _report("gaps", Gap, find)

    def completeness(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        by: Literal["day", "hour"] = "day",
        worst: int | None = None,
        in_doubt: bool = False,
        as_of: Version | None = None,
    ) -> Result:
        """Return expected, stored and missing trades of each symbol and day, or hour (UTC).

        With `worst`, only that number of symbols: those with the most missing numbers. With `in_doubt`, only symbols
        whose numbering is in doubt.
        """
        if by not in {"day", "hour"}:
            raise QueryError(f"by: {by!r} is neither day nor hour; use one of them")
        parameters = make_parameters(
            CompletenessParameters,
            exchange=exchange,
            symbol=symbol,
            start=start,
            end=end,
            as_of=as_of,
            worst=worst,
            in_doubt=in_doubt,
        )
        if by == "hour":
            return _report("completeness", Hour, lambda: by_hour(self.settings, parameters, pool=self._open_pool()))
        return _report("completeness", Day, lambda: by_day(self.settings, parameters, pool=self._open_pool()))

    def corrections(
        self,
        *,
        exchange: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
    ) -> Result:
        """Return corrections and cancels of trades; with `limit`, the newest. `names_trade`: the trade is stored."""
        checked = _checked(exchange=exchange, symbol=symbol, start=start, end=end, limit=limit)
        parameters = (checked.exchange, checked.symbol, checked.start, checked.end, checked.limit)

        def find() -> list[ReportedCorrection]:
            return corrections(self.settings, *parameters, pool=self._open_pool())

        return _report("corrections", ReportedCorrection, find)

    def reconcile(self) -> Result:
        """Return the counts of each topic partition; `holds` says whether every received message is accounted for."""
        return _report("reconcile", Reconciliation, lambda: reconcile(self.settings, pool=self._open_pool()))

    def status(self) -> Status:
        """Return the verdict on the capture with its reasons, counts and partitions: the fields of `k2 status --json`.

        A verdict is text such as `complete`. Unread messages are counted if `bootstrap_servers` is
        known. Tables that do not exist or cannot be read are a reason, not an error. A status is at most 2 s old.
        """
        return self._status_reader.read(self._open_pool())

    def _query(self, name: str, **fields: Any) -> Result:
        build: Callable[..., TradesQuery] = getattr(query_builders, name)
        query = build(**fields)
        return Result(
            name,
            lambda: Market(self._open_pool()).table(query),
            lambda: Market(self._open_pool()).rows(query),
        )

    def _open_pool(self) -> Pool:
        if not self._close.alive:
            raise ClosedError("the market data is closed; open it again with k2.open()")
        return self._pool


def open_market_data(**settings: Any) -> MarketData:
    """Open the tables that the settings locate: those given, the others from the environment.

    Raises:
        SettingsError: a setting is invalid; the message names it.
    """
    return MarketData(read_settings(**settings))


def _checked(**fields: object) -> RowsParameters:
    return make_parameters(RowsParameters, **fields)


def _report(name: str, kind: type[Any], find: Callable[[], list[Any]]) -> Result:
    return Result(name, lambda: records_table(kind, find()))

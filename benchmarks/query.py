"""Queries over ten million trades in a hundred commits: `python -m benchmarks.query [--rows N] [--commits N]`.

Each query runs warm, alternating with the alternatives that need no server: PyIceberg's `scan().to_duckdb()` with the
same filters, and DuckDB's `iceberg_scan` of the metadata that the catalog names, if its extension is installed
(packages `duckdb-extensions`, `duckdb-extension-avro` and `duckdb-extension-iceberg`, all of the version of `duckdb`).
All run the same statement, look up the table again for each query, and must return the same result. Printed are the
median time of each, and for each alternative the median of the ratios to k2: of wall time, and of CPU time, which
other programs on the machine affect less.

With `--planning` the time to select the files to read is measured instead, for a table of more and more commits (at
most `--commits`), also for the first query after a commit. `--folder` keeps the table for another run.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from benchmarks.market import BEGIN, EXCHANGES, SYMBOLS, Filling, fill
from k2.ops.settings import Settings, read_settings
from k2.query.manifests import ManifestCache
from k2.query.market import Market, open_market
from k2.query.planning import planned_files
from k2.query.query_builders import TradesQuery, latest, ohlcv, symbols, trades
from k2.query.table_cache import TableCache
from k2.storage.catalog import find_table

__all__ = ["main"]

ONE: Final = {"exchange": EXCHANGES[0], "symbol": SYMBOLS[7]}
HOUR: Final = {"start": BEGIN.replace(hour=10), "end": BEGIN.replace(hour=11)}
DAY: Final = {"start": "2024-08-09", "end": "2024-08-10"}
QUERIES: Final[dict[str, Callable[[], TradesQuery]]] = {
    "one symbol, one hour": lambda: trades(**ONE, **HOUR),  # type: ignore[arg-type]
    "distinct symbols": symbols,
    "a day of 1-minute bars of one symbol": lambda: ohlcv(**ONE, **DAY),  # type: ignore[arg-type]
    "latest trade of each symbol": latest,
}
PLANNED_AT: Final = (1, 10, 100, 300, 1_000, 3_000)
"""Numbers of commits after which planning is measured."""
PLANNED_ROWS: Final = 2
"""Rows per commit: few, so that planning dominates."""
MEMORY: Final = "4GB"
Run = Callable[[], object]


class Cost(NamedTuple):
    """Time of one query."""

    wall_ms: float
    cpu_ms: float


def main() -> None:
    """Fill a table, or use an existing one, and print the medians of each query."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.query", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--commits", type=int, default=None, help="100, or with --planning 1,000")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=["PyIceberg", "iceberg_scan"])
    parser.add_argument("--planning", action="store_true")
    arguments = parser.parse_args()
    with _folder(arguments.folder) as folder:
        settings = read_settings({}, data_dir=folder)
        if arguments.planning:
            _plan_as_it_grows(settings, arguments.commits or 1_000, arguments.runs)
            return
        if find_table(settings, "trades") is None:
            fill(settings, arguments.rows, arguments.commits or 100)
        _compare(settings, arguments.runs, set(arguments.without))


@contextmanager
def _folder(existing: Path | None) -> Iterator[Path]:
    if existing is not None:
        yield existing
        return
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        yield Path(folder)


def _compare(settings: Settings, runs: int, without: set[str]) -> None:
    with open_market(settings) as market, _with_iceberg() as scanning:
        print(f"DuckDB {duckdb.__version__}; iceberg_scan {'is' if scanning else 'is not'} installed")
        for name, build in QUERIES.items():
            query = build()
            runs_by_name: dict[str, Run] = {
                "k2": partial(_run_k2, market, query),
                "PyIceberg": partial(_run_pyiceberg, settings, query),
            }
            if scanning is not None:
                runs_by_name["iceberg_scan"] = partial(_run_iceberg_scan, settings, scanning, query)
            _report(name, _alternate({who: run for who, run in runs_by_name.items() if who not in without}, runs))


def _run_k2(market: Market, query: TradesQuery) -> pa.Table:
    return market.table(query)


def _run_pyiceberg(settings: Settings, query: TradesQuery) -> pa.Table:
    connection = _table(settings).scan(row_filter=query.filters.row_filter).to_duckdb("trades")
    connection.execute(f"SET TimeZone = 'UTC'; SET memory_limit = '{MEMORY}'")
    return connection.execute(query.sql, query.parameters).to_arrow_table()


def _run_iceberg_scan(settings: Settings, connection: duckdb.DuckDBPyConnection, query: TradesQuery) -> pa.Table:
    location = _table(settings).metadata_location
    # A view takes no parameters; a view of a query with parameters would materialize its rows.
    connection.execute(f"CREATE OR REPLACE VIEW trades AS FROM iceberg_scan('{location}')")
    return connection.execute(query.sql, query.parameters).to_arrow_table()


def _table(settings: Settings) -> Table:
    table = find_table(settings, "trades")
    assert table is not None, "the table is filled"
    return table


@contextmanager
def _with_iceberg() -> Iterator[duckdb.DuckDBPyConnection | None]:
    """Yield a connection with the Iceberg extension; None if it is not installed."""
    with duckdb.connect(config={"memory_limit": MEMORY}) as connection:
        with suppress(ImportError):
            extensions = import_module("duckdb_extensions")
            for name in ("avro", "iceberg"):
                extensions.import_extension(name, con=connection)
        try:
            connection.execute("SET TimeZone = 'UTC'; LOAD avro; LOAD iceberg")
        except duckdb.Error:
            yield None
            return
        yield connection


def _alternate(calls: Mapping[str, Run], runs: int) -> dict[str, list[Cost]]:
    """Return the costs of each call in `runs` alternating rounds; a first round warms up and compares the results."""
    results = [call() for call in calls.values()]
    assert all(_is_equal(result, results[0]) for result in results), "the results differ"
    rounds = [{name: _cost(call) for name, call in calls.items()} for _ in range(runs)]
    return {name: [costs[name] for costs in rounds] for name in calls}


def _is_equal(one: object, other: object) -> bool:
    """Compare results; doubles may differ slightly, because their order of summation does."""
    rows, others = (result.to_pylist() for result in (one, other))  # type: ignore[attr-defined]
    return len(rows) == len(others) and all(
        (abs(value - theirs) <= 1e-9 * abs(value)) if isinstance(value, float) else value == theirs
        for row, their_row in zip(rows, others, strict=True)
        for value, theirs in zip(row.values(), their_row.values(), strict=True)
    )


def _report(name: str, costs: Mapping[str, list[Cost]]) -> None:
    ours = costs["k2"]
    parts = [f"k2 {_median(ours)}"]
    for who, theirs in costs.items():
        if who != "k2":
            wall, cpu = (
                statistics.median(their[kind] / our[kind] for their, our in zip(theirs, ours, strict=True))
                for kind in range(2)
            )
            parts.append(f"{who} {_median(theirs)}, {wall:.2f} times the wall time, {cpu:.2f} times the CPU time")
    print(f"{name:40}{'; '.join(parts)}", flush=True)


def _median(costs: list[Cost]) -> str:
    wall_ms, cpu_ms = (statistics.median(column) for column in zip(*costs, strict=True))
    return f"{wall_ms:.1f} ms ({cpu_ms:.1f} CPU)"


def _plan_as_it_grows(settings: Settings, commits_max: int, runs: int) -> None:
    """Print the planning time of a query for an hour of one symbol, as commits are added to the table."""
    where = QUERIES["one symbol, one hour"]().filters.row_filter
    tables, manifests = TableCache(settings), ManifestCache()

    def plan() -> list[str]:
        table = tables.find("trades")
        assert table is not None, "the table is filled"
        return planned_files(manifests, table, table.scan(row_filter=where))

    filling = Filling(settings)
    for commits in (count for count in PLANNED_AT if count <= commits_max):
        while filling.count < commits:
            filling.commit(PLANNED_ROWS, days=1, commits=commits_max)
        plan()
        warm = _median([_cost(plan) for _ in range(runs)])
        theirs = _median([_cost(partial(_plan_by_pyiceberg, settings)) for _ in range(3)])
        fresh = []
        for _ in range(runs):
            filling.commit(PLANNED_ROWS, days=1, commits=commits_max)
            fresh.append(_cost(plan))
        print(
            f"{commits:6} commits: {warm} warm, {_median(fresh)} after a commit, {theirs} by PyIceberg; "
            f"{manifests.held_bytes:,} bytes cached",
            flush=True,
        )
    tables.close()


def _plan_by_pyiceberg(settings: Settings) -> None:
    where = QUERIES["one symbol, one hour"]().filters.row_filter
    list(_table(settings).scan(row_filter=where).plan_files())


def _cost(call: Run) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Cost((time.perf_counter() - wall) * 1_000, (time.process_time() - cpu) * 1_000)


if __name__ == "__main__":
    main()

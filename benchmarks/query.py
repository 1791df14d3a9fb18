"""Queries over ten million trades in a hundred commits: `python -m benchmarks.query [--rows N] [--commits N]`.

Each is asked warm, by turns with the peers that need no server: PyIceberg's own `scan().to_duckdb()` with the same
filters, and DuckDB's `iceberg_scan` of the metadata that the catalog names, where its extension is installed: of the
packages `duckdb-extensions`, `duckdb-extension-avro` and `duckdb-extension-iceberg`, all three and `duckdb` of one
version. All are asked the same statement, look up the table again for each query, and must return the same answer.
Printed is the median of each, and how many times as long as k2 a peer took, the median of the ratios of the turns: by
the clock, and in CPU time, which other programs on the machine disturb less.

With `--planning` it is the time to find which files to read, of a table of more and more commits (`--commits` at the
most), also for the query that comes next after a commit. `--folder` keeps the table for another run.
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
QUESTIONS: Final[dict[str, Callable[[], TradesQuery]]] = {
    "one symbol, one hour": lambda: trades(**ONE, **HOUR),  # type: ignore[arg-type]
    "distinct symbols": symbols,
    "a day of 1-minute bars of one symbol": lambda: ohlcv(**ONE, **DAY),  # type: ignore[arg-type]
    "latest trade of each symbol": latest,
}
PLANNED_AT: Final = (1, 10, 100, 300, 1_000, 3_000)
"""After so many commits."""
PLANNED_ROWS: Final = 2
"""Of each of these commits, so that what takes long is planning."""
MEMORY: Final = "4GB"
Act = Callable[[], object]


class Cost(NamedTuple):
    """What one query took."""

    wall_ms: float
    cpu_ms: float


def main() -> None:
    """Fill a table, or take one, and print the median of each query and of its peers."""
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
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        yield Path(folder)


def _compare(settings: Settings, runs: int, without: set[str]) -> None:
    with open_market(settings) as market, _with_iceberg() as scanning:
        print(f"DuckDB {duckdb.__version__}; iceberg_scan {'is' if scanning else 'is not'} installed")
        for name, made in QUESTIONS.items():
            question = made()
            acts: dict[str, Act] = {
                "k2": partial(_ask, market, question),
                "PyIceberg": partial(_ask_pyiceberg, settings, question),
            }
            if scanning is not None:
                acts["iceberg_scan"] = partial(_ask_iceberg_scan, settings, scanning, question)
            _report(name, _by_turns({who: act for who, act in acts.items() if who not in without}, runs))


def _ask(market: Market, question: TradesQuery) -> pa.Table:
    return market.table(question)


def _ask_pyiceberg(settings: Settings, question: TradesQuery) -> pa.Table:
    connection = _table(settings).scan(row_filter=question.asked.where).to_duckdb("trades")
    connection.execute(f"SET TimeZone = 'UTC'; SET memory_limit = '{MEMORY}'")
    return connection.execute(question.sql, question.parameters).to_arrow_table()


def _ask_iceberg_scan(settings: Settings, connection: duckdb.DuckDBPyConnection, question: TradesQuery) -> pa.Table:
    location = _table(settings).metadata_location
    # A view takes no parameters: of a query with any it would hold the rows.
    connection.execute(f"CREATE OR REPLACE VIEW trades AS FROM iceberg_scan('{location}')")
    return connection.execute(question.sql, question.parameters).to_arrow_table()


def _table(settings: Settings) -> Table:
    table = find_table(settings, "trades")
    assert table is not None, "filled before"
    return table


@contextmanager
def _with_iceberg() -> Iterator[duckdb.DuckDBPyConnection | None]:
    """Yield a connection that has the extension; None where it is not installed."""
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


def _by_turns(acts: Mapping[str, Act], runs: int) -> dict[str, list[Cost]]:
    """Return what each took in each of some turns; one more before warms them, and compares the answers."""
    answers = [act() for act in acts.values()]
    assert all(_is_same(answer, answers[0]) for answer in answers), "of one table all tell the same"
    turns = [{name: _cost(act) for name, act in acts.items()} for _ in range(runs)]
    return {name: [turn[name] for turn in turns] for name in acts}


def _is_same(one: object, other: object) -> bool:
    """Compare answers; doubles are summed in any order."""
    rows, others = (answer.to_pylist() for answer in (one, other))  # type: ignore[attr-defined]
    return len(rows) == len(others) and all(
        (abs(value - theirs) <= 1e-9 * abs(value)) if isinstance(value, float) else value == theirs
        for row, their_row in zip(rows, others, strict=True)
        for value, theirs in zip(row.values(), their_row.values(), strict=True)
    )


def _report(name: str, costs: Mapping[str, list[Cost]]) -> None:
    ours = costs["k2"]
    told = [f"k2 {_median(ours)}"]
    for who, theirs in costs.items():
        if who != "k2":
            wall, cpu = (
                statistics.median(their[kind] / our[kind] for their, our in zip(theirs, ours, strict=True))
                for kind in range(2)
            )
            told.append(f"{who} {_median(theirs)}, {wall:.2f} times as long, {cpu:.2f} in CPU")
    print(f"{name:40}{'; '.join(told)}", flush=True)


def _median(costs: list[Cost]) -> str:
    wall_ms, cpu_ms = (statistics.median(column) for column in zip(*costs, strict=True))
    return f"{wall_ms:.1f} ms ({cpu_ms:.1f} CPU)"


def _plan_as_it_grows(settings: Settings, commits_max: int, runs: int) -> None:
    """Print what planning one symbol's hour takes, of one table as commits are added to it."""
    where, tables, manifests = QUESTIONS["one symbol, one hour"]().asked.where, TableCache(settings), ManifestCache()

    def plan() -> list[str]:
        table = tables.find("trades")
        assert table is not None, "filled before"
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
            f"{manifests.held_bytes:,} bytes remembered",
            flush=True,
        )
    tables.close()


def _plan_by_pyiceberg(settings: Settings) -> None:
    where = QUESTIONS["one symbol, one hour"]().asked.where
    list(_table(settings).scan(row_filter=where).plan_files())


def _cost(act: Act) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return Cost((time.perf_counter() - wall) * 1_000, (time.process_time() - cpu) * 1_000)


if __name__ == "__main__":
    main()

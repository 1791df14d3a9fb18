"""Queries over ten million trades in a hundred commits: `python -m benchmarks.query [--rows N] [--commits N]`.

Each is asked warm, some times, beside the peers that need no server: PyIceberg's own `scan().to_duckdb()` with the same
filters, and DuckDB's `iceberg_scan` where that extension is installed (nothing is installed here). `--folder` keeps the
table for another run.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import duckdb
from pyiceberg.table import Table

from benchmarks.market import BEGIN, EXCHANGES, SYMBOLS, fill
from query.market import open_market
from query.questions import Question, latest, ohlcv, symbols, trades
from runtime.catalog import find_table
from runtime.settings import Settings, read_settings

__all__ = ["main"]

ONE: Final = {"exchange": EXCHANGES[0], "symbol": SYMBOLS[7]}
HOUR: Final = {"start": BEGIN.replace(hour=10), "end": BEGIN.replace(hour=11)}
DAY: Final = {"start": "2024-08-09", "end": "2024-08-10"}
QUESTIONS: Final[dict[str, Callable[[], Question]]] = {
    "one symbol, one hour": lambda: trades(**ONE, **HOUR),  # type: ignore[arg-type]
    "distinct symbols": symbols,
    "a day of 1-minute bars of one symbol": lambda: ohlcv(**ONE, **DAY),  # type: ignore[arg-type]
    "latest trade of each symbol": latest,
}


def main() -> None:
    """Fill a table, or take one, and print the median of each query and of its peers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.query", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with _folder(arguments.folder) as folder:
        settings = read_settings({}, data_dir=folder)
        table = find_table(settings, "trades") or fill(settings, arguments.rows, arguments.commits)
        _compare(settings, table, arguments.runs)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        yield Path(folder)


def _compare(settings: Settings, table: Table, runs: int) -> None:
    print(f"{'':40}{'k2':>10}{'planning':>10}{'PyIceberg':>11}{'iceberg_scan':>14}")
    with open_market(settings) as market:
        for name, question in QUESTIONS.items():
            times = [
                _median_ms(partial(market.table, question()), runs),
                _median_ms(partial(_plan, table, question()), runs),
                _median_ms(partial(_ask_pyiceberg, table, question()), 3),
                _iceberg_scan_ms(table, question(), runs),
            ]
            print(
                f"{name:40}"
                + "".join(f"{text:>{width}}" for text, width in zip(map(_shown, times), (10, 10, 11, 14), strict=True))
            )


def _plan(table: Table, question: Question) -> None:
    list(table.scan(row_filter=question.asked.where).plan_files())


def _ask_pyiceberg(table: Table, question: Question) -> None:
    connection = table.scan(row_filter=question.asked.where).to_duckdb("trades")
    connection.execute(question.sql, question.parameters).to_arrow_table()


def _iceberg_scan_ms(table: Table, question: Question, runs: int) -> float | None:
    with duckdb.connect() as connection:
        try:
            connection.execute("LOAD iceberg")
        except duckdb.Error:
            return None
        # A view takes no parameters: of a query with any it would hold the rows.
        connection.execute(f"CREATE VIEW trades AS FROM iceberg_scan('{table.metadata_location}')")
        return _median_ms(lambda: connection.execute(question.sql, question.parameters).to_arrow_table(), runs)


def _median_ms(act: Callable[[], object], runs: int) -> float:
    act()
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1_000


def _shown(milliseconds: float | None) -> str:
    return "not here" if milliseconds is None else f"{milliseconds:.0f} ms"


if __name__ == "__main__":
    main()

"""CPU time of short `k2` commands: `python -m benchmarks.shell [--runs 5]`.

Each command runs in a process of its own on a table of a few rows, so most of its time is imports. The time is shown as
a ratio to a process that imports only DuckDB and PyIceberg (Arrow files, SQL catalog), which every query needs.
Commands and that process alternate, so that drift of the machine affects both equally.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import append, event, made, numbered

ROOT: Final = Path(__file__).parents[1]
NEEDED: Final = ("-c", "import duckdb, pyiceberg.catalog.sql, pyiceberg.io.pyarrow")
K2: Final = ("-m", "k2.cli")
COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "pass": ("-c", "pass"),
    "k2 --help": (*K2, "--help"),
    "k2 gaps": (*K2, "gaps"),
    "k2 completeness": (*K2, "completeness"),
    "k2 vwap": (*K2, "vwap"),
    "k2 sql": (*K2, "sql", "SELECT count(*) FROM trades"),
}


def cpu_seconds(arguments: Sequence[str], folder: Path) -> float:
    """Run Python with these arguments and return the CPU time of the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "K2_DATA_DIR": str(folder)}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median of each command, and the median of its ratios to the imports that every query needs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    runs = arguments.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(data_dir=folder)
        append(made(settings, TableName.TRADES), [numbered(number, number) for number in (1, 2, 5)])
        append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 3, 4, session=1)])
        for command, words in COMMANDS.items():
            pairs = [(cpu_seconds(words, folder), cpu_seconds(NEEDED, folder)) for _ in range(runs)]
            ratio = statistics.median(own / needed for own, needed in pairs)
            print(f"{command:<16} {statistics.median(own for own, _ in pairs):6.2f} s  {ratio:5.2f} of the imports")


if __name__ == "__main__":
    main()

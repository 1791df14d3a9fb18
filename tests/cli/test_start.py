"""What a query command imports: its own modules, and none of those that take longer to import than most queries."""

import json
import subprocess
import sys
from pathlib import Path

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import append, event, made, numbered

ROOT = Path(__file__).parents[2]
NOT_NEEDED = {"bytewax", "matplotlib", "numba", "pandas", "polars", "pygments", "requests", "rich.traceback"}
WRONG_USAGE = 2
COMMANDS = (
    ["audit"],
    ["completeness"],
    ["dlq", "list"],
    ["dlq", "stats"],
    ["gaps"],
    ["latest"],
    ["ohlcv"],
    ["reconcile"],
    ["sql", "SELECT count(*) FROM trades"],
    ["status"],
    ["symbols"],
    ["trades"],
    ["vwap"],
)
RUN = """
import json, sys
from k2.cli.__main__ import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["k2", *command]
    try:
        main()
    except SystemExit as done:
        print(json.dumps([command, done.code, [*sys.modules]]), file=sys.stderr)
"""


def test_a_query_command_imports_no_compiler_and_no_frames(settings: Settings) -> None:
    """Neither numba nor pandas, and no HTTP client for the local catalog."""
    append(made(settings, TableName.TRADES), [numbered(number, number) for number in (1, 2, 5)])
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 3, 4, session=1)])
    settings.dead_letter_folder.mkdir()
    arguments = [sys.executable, "-c", RUN, json.dumps(COMMANDS)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    outcomes = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    assert [outcome[0] for outcome in outcomes] == [*COMMANDS]
    for command, exit_code, modules in outcomes:
        assert exit_code != WRONG_USAGE, command
        assert not NOT_NEEDED & {*modules}, command

"""Ten typical changes, each made for trial in a copy of the code: which files it touches, and a proof that it works.

`python -m tests.trial_changes` prints the table of `docs/architecture.md`.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Final, NamedTuple

from tests.trial_sources import PAYLOAD, REPORT, REPORT_COMMAND, TRADE, VENUE

__all__ = ["TRIALS", "Trial", "apply", "prove", "table"]

ROOT: Final = Path(__file__).parent.parent
_COPIED: Final = ("demo", "flows", "k2", "operators", "tests")


class Edit(NamedTuple):
    """One change of one file."""

    path: str
    old: str
    """Text that must occur in the file exactly once; empty if the change creates the file."""
    new: str


class Trial(NamedTuple):
    """A change, and a program that fails without it."""

    what: str
    edits: tuple[Edit, ...]
    proof: str
    """Python; it runs in the changed copy, in an empty folder."""

    @property
    def paths(self) -> list[str]:
        """The files that the change touches."""
        return [*dict.fromkeys(edit.path for edit in self.edits)]


TRIALS: Final = (
    Trial(
        "Add a venue",
        (Edit("k2/venues/tables/bourse.toml", "", VENUE),),
        """\
from k2.ops.settings import Settings
from k2.venues import VENUES
[topic] = Settings(topics="trades=bourse").topics
message = (b'{"symbol":"BTC/USD","side":"buy","price":"1.5","qty":"2","trade_id":7,'
           b'"timestamp":"2026-01-02T03:04:05.000006Z"}')
[trade] = VENUES[topic.venue].decode(message)
assert (trade.exchange, trade.symbol, trade.sequence) == ("bourse", "BTC/USD", 7)
""",
    ),
    Trial(
        "Add a metric",
        (
            Edit(
                "k2/ops/metrics.py",
                'TRADES_STORED: Final = Counter("k2_trades_stored"',
                'DATA_FILES: Final = Counter("k2_data_files", "Data files committed to the table.")\n'
                'TRADES_STORED: Final = Counter("k2_trades_stored"',
            ),
            Edit(
                "k2/iceberg/trades_writer.py",
                "        seconds = time.monotonic() - started",
                "        seconds = time.monotonic() - started\n        metrics.DATA_FILES.inc(len(pending.files))",
            ),
            Edit(
                "k2/iceberg/trades_writer.py",
                "from k2.ops.metrics import",
                "from k2.ops import metrics\nfrom k2.ops.metrics import",
            ),
        ),
        TRADE
        + """\
from prometheus_client import generate_latest
assert b"k2_data_files_total 1.0" in generate_latest()
""",
    ),
    Trial(
        "Add a column",
        (
            Edit(
                "k2/model/columns.py",
                '    Column("origin", ColumnType.STRING, is_dictionary=True, is_later=True),',
                '    Column("origin", ColumnType.STRING, is_dictionary=True, is_later=True),\n'
                '    Column("sequence_twice", ColumnType.LONG, is_later=True),',
            ),
            Edit(
                "k2/iceberg/arrow_columns.py",
                '        "kafka_timestamp": _times(sorted_rows.kafka_timestamps),',
                '        "kafka_timestamp": _times(sorted_rows.kafka_timestamps),\n'
                '        "sequence_twice": _plain(2 * sorted_rows.sequences, pa.int64()),',
            ),
        ),
        TRADE
        + """\
assert writer._committer.table.scan().to_arrow()["sequence_twice"].to_pylist() == [14]
""",
    ),
    Trial(
        "Add a reason for a dead letter",
        (
            Edit(
                "k2/model/reasons.py",
                '    TOO_LARGE = "too_large"',
                '    CLOSED = "closed"\n    """The exchange was closed."""\n    TOO_LARGE = "too_large"',
            ),
            Edit(
                "k2/venues/k2.py",
                "    number = None if",
                '    if message.timestamp == "2026-01-01T00:00:00Z":\n'
                '        raise RejectedError(Reason.CLOSED, "timestamp: a holiday")\n'
                "    number = None if",
            ),
            Edit(
                "k2/venues/k2.py",
                "from k2.model.reasons import invalid",
                "from k2.model.reasons import Reason, RejectedError, invalid",
            ),
        ),
        """\
from pathlib import Path
import typer.testing
from k2.cli.main import app
from k2.model.dead_letter import DeadLetter
from k2.venues.decode import decode
from tests.venues.messages import batch_of
batch = batch_of([b'{"timestamp":"2026-01-01T00:00:00Z"}'], "k2")
[(message_idx, error)] = decode(batch).rejected
assert DeadLetter.of(batch, message_idx, error.reason, error.error).reason == "closed"
Path("data/dlq").mkdir(parents=True)
result = typer.testing.CliRunner().invoke(app, ["dlq", "list", "--reason", "closed"])
assert result.exit_code == 0, result.output
""",
    ),
    Trial(
        "Add a report",
        (
            Edit("k2/query/reasons.py", "", REPORT),
            Edit("k2/cli/reasons.py", "", REPORT_COMMAND),
            Edit(
                "k2/cli/main.py",
                '        "gaps": Command(',
                '        "reasons": Command("k2.cli.reasons", "reasons", "Count dead letters by reason."),\n'
                '        "gaps": Command(',
            ),
        ),
        """\
import typer.testing
from k2.cli.main import app
result = typer.testing.CliRunner().invoke(app, ["reasons"])
assert result.exit_code == 0, result.output
assert "reason" in result.output
""",
    ),
    Trial(
        "Add a kind of catalog: the faults of its client",
        (
            Edit(
                "k2/storage/catalog_errors.py",
                "    CommitStateUnknownException,\n    InterfaceError,",
                "    CommitStateUnknownException,\n    EOFError,\n    InterfaceError,",
            ),
        ),
        """\
from k2.ops.retry import retried
from k2.storage.catalog_errors import CATALOG_TRANSIENT
answers = [1, EOFError]
def call():
    answer = answers.pop()
    if answer != 1:
        raise answer
    return answer
assert retried("x", call, also=CATALOG_TRANSIENT, sleep=lambda _: None) == 1
""",
    ),
    Trial(
        "Change the default of the deduplication window",
        (
            Edit("k2/ops/settings.py", "dedup_window_seconds: Count = 86_400", "dedup_window_seconds: Count = 3_600"),
            Edit("README.md", "| `K2_DEDUP_WINDOW_SECONDS` | `86400` |", "| `K2_DEDUP_WINDOW_SECONDS` | `3600` |"),
        ),
        """\
from k2.ops.settings import Settings
assert Settings().dedup_window_seconds == 3_600
""",
    ),
    Trial(
        "Change a retry policy",
        (
            Edit(
                "k2/ops/retry.py",
                "FAULT: Final = RetryPolicy(attempts_max=4,",
                "FAULT: Final = RetryPolicy(attempts_max=6,",
            ),
        ),
        """\
from k2.model.errors import UnreachableError
from k2.ops.retry import retried
waits = []
def call():
    raise ConnectionError("gone")
try:
    retried("x", call, sleep=waits.append)
except UnreachableError as error:
    assert "failed 6 times" in str(error)
assert waits == [2, 4, 8, 16, 30]
""",
    ),
    Trial(
        "Add a payload format",
        (
            Edit("k2/venues/k2_msgpack.py", "", PAYLOAD),
            Edit(
                "k2/venues/__init__.py",
                '        "k2": "k2.venues.k2:K2",',
                '        "k2": "k2.venues.k2:K2",\n        "k2-msgpack": "k2.venues.k2_msgpack:K2_MSGPACK",',
            ),
        ),
        """\
import msgspec
from k2.venues import VENUES
message = {"exchange": "x", "symbol": "S", "sequence": 7, "price": "1", "quantity": "2",
           "timestamp": 1_700_000_000_000_000}
[trade] = VENUES["k2-msgpack"].decode(msgspec.msgpack.encode(message))
assert (trade.symbol, trade.sequence) == ("S", 7)
""",
    ),
    Trial(
        "Raise the number of key groups",
        (Edit("k2/model/key_groups.py", "GROUPS: Final = 16", "GROUPS: Final = 32"),),
        TRADE
        + """\
from k2.model.key_groups import group_of
assert {group_of("x", str(number)) for number in range(1_000)} == set(range(32))
properties = writer._committer.table.properties
assert properties["k2.key_groups"] == "32"
from k2.model.errors import TableError
from k2.storage.table_properties import check_format
try:
    check_format({"k2.key_groups": "16"}, "trades")
except TableError:
    pass
else:
    raise AssertionError("a table of 16 key groups is taken")
""",
    ),
)


def apply(trial: Trial, folder: Path) -> None:
    """Copy the code to an empty folder, and make the change there."""
    for name in _COPIED:
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__"))
    (folder / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    for edit in trial.edits:
        path = folder / edit.path
        text = path.read_text(encoding="utf-8") if edit.old else ""
        assert text.count(edit.old) == 1 or not path.exists(), (
            f"{edit.path} has {text.count(edit.old)} times {edit.old!r}"
        )
        path.write_text(text.replace(edit.old, edit.new) if edit.old else edit.new, encoding="utf-8")


def prove(trial: Trial, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the proof against the code in a folder."""
    empty = folder / "proof"
    empty.mkdir(exist_ok=True)
    # Uncompiled, because compiling would take longer than the proof.
    environment = {"PATH": "", "PYTHONPATH": str(folder), "NUMBA_DISABLE_JIT": "1", "HOME": str(empty)}
    command = [sys.executable, "-c", trial.proof]
    return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)


def table() -> str:
    """Return the table of changes and files, in Markdown."""
    rows = "".join(_row(trial) for trial in TRIALS)
    return f"| Change | Files |\n|---|---|\n{rows}"


def _row(trial: Trial) -> str:
    return f"| {trial.what} | {', '.join(_shown(trial))} |\n"


def _shown(trial: Trial) -> Iterator[str]:
    new = {edit.path for edit in trial.edits if not edit.old}
    for path in trial.paths:
        yield f"`{path}` (new)" if path in new else f"`{path}`"


if __name__ == "__main__":
    sys.stdout.write(table())

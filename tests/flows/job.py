"""The job as its users run it: a process of its own that reads a broker and writes to a table in a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table

from k2.iceberg.table_progress import read_progress
from k2.model.dead_letter import DeadLetter
from k2.ops.failpoints import VARIABLE
from k2.ops.settings import Settings, read_settings
from k2.query.dead_letters import open_dead_letters
from k2.storage.catalog import find_table

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS_MAX: Final = 120


def wait_until(reached: Callable[[], bool], what: str, seconds_max: float = SECONDS_MAX) -> None:
    """Wait until the condition holds; `what` describes the failure if it does not hold in time."""
    deadline = time.monotonic() + seconds_max
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@dataclass
class Job:
    """A job with one namespace and one recovery store; can be run, killed, and run again with other worker counts."""

    bootstrap_servers: str
    folder: Path
    topics: str
    environment: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    """File that gets the output; None for a pipe, which holds 64 KiB: a job that fills it waits to be read."""

    @property
    def variables(self) -> dict[str, str]:
        """The job's own settings."""
        return {
            "K2_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "K2_TOPICS": self.topics,
            "K2_DATA_DIR": str(self.folder / "data"),
            "K2_RUN_TO_END": "true",
            "K2_METRICS_PORT": "0",
            **self.environment,
        }

    @property
    def clean_environment(self) -> dict[str, str]:
        """The variables of this process without those of the job."""
        return {name: value for name, value in os.environ.items() if not name.startswith("K2_")}

    @property
    def settings(self) -> Settings:
        """The same settings, to read the results with."""
        return read_settings(self.variables)

    @property
    def recovery(self) -> Path:
        """The recovery store, created on first use."""
        folder = self.folder / "recovery"
        if not folder.exists():
            folder.mkdir(parents=True)
            subprocess.run([sys.executable, "-m", "bytewax.recovery", str(folder), "2"], check=True, timeout=60)
        return folder

    def start(
        self, *, workers: int = 1, recovery: bool = True, process: int | None = None, addresses: str = ""
    ) -> subprocess.Popen[str]:
        """Start the command that users run."""
        command = [sys.executable, "-m", "bytewax.run", "flows.trades", "-w", str(workers), "-s", "1"]
        if process is not None:
            command += ["-i", str(process), "-a", addresses]
        if recovery:
            store = self.recovery if not process else self.folder / f"recovery-of-{process}"
            store.mkdir(parents=True, exist_ok=True)
            command += ["-r", str(store), "-b", "0"]
        with nullcontext(subprocess.PIPE) if self.log is None else self.log.open("a", encoding="utf-8") as output:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env={**self.clean_environment, **self.variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, **options: Any) -> str:
        """Run to the end of the topics and return the output."""
        code, said = self.outcome(**options)
        assert code == 0, said
        return said

    def outcome(self, **options: Any) -> tuple[int, str]:
        """Run to the end and return the exit code and the output."""
        process = self.start(**options)
        try:
            said, _ = process.communicate(timeout=SECONDS_MAX)
        finally:
            process.kill()
        return process.returncode, said

    def kill_when(self, reached: Callable[[], bool], **options: Any) -> None:
        """Run, and kill with SIGKILL once `reached` holds."""
        process = self.start(**options)
        deadline = time.monotonic() + SECONDS_MAX
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=SECONDS_MAX)

    def k2(self, *arguments: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command with the job's settings, and `--json`; it is killed at a failpoint if one is named."""
        return subprocess.run(
            [sys.executable, "-m", "k2.cli", *arguments, "--json"],
            cwd=ROOT,
            env={**self.clean_environment, **self.variables, VARIABLE: failpoint},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )

    def committed(self) -> int:
        """Return how many trades the table's progress counts as received."""
        progress = read_progress(self.settings)
        return sum(progress.counts(where).received for where in progress.partitions())

    def iceberg(self, name: str = "trades") -> Table:
        """Open a table."""
        table = find_table(self.settings, name)
        assert table is not None, f"there is no table {name}"
        return table

    def table(self, name: str = "trades") -> pa.Table:
        """Return all rows of a table."""
        return self.iceberg(name).scan().to_arrow()

    def snapshots(self, name: str = "trades") -> int:
        """Count the commits of a table."""
        return len(self.iceberg(name).snapshots())

    def files(self, name: str = "trades") -> list[str]:
        """Return the names of the table's data files."""
        return [task.file.file_path for task in self.iceberg(name).scan().plan_files()]

    def letters(self) -> list[DeadLetter]:
        """Return all dead letters; an unreadable line fails the test."""
        unreadable: list[object] = []
        letters = list(open_dead_letters(self.settings, unreadable.append))
        assert not unreadable
        return letters

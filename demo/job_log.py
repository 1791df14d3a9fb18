"""What the log of the job says of its speed."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Speed", "read_speed"]


class Speed(NamedTuple):
    """Speed of the run that committed most, and what all runs spent on starting and on compilation."""

    compile_seconds: float
    """Time to compile the rules; 0 if they were loaded from the cache."""
    start_seconds: list[float]
    """Of each run, from the start of its process until it reads the first partition."""
    messages: int
    """Messages that this run committed."""
    seconds: float
    """Time of this run from its first read to its last commit, without compilation. After a kill, that includes reading
    the state back from the tables."""

    @property
    def messages_per_second(self) -> float | None:
        """The steady rate; None if no run committed anything."""
        return self.messages / self.seconds if self.seconds > 0 else None


class _Run:
    """What the log says of one run."""

    def __init__(self) -> None:
        self.read_at: datetime | None = None
        self.committed_at: datetime | None = None
        self.messages = 0
        self.compile_seconds = 0.0

    def seconds(self) -> float:
        if self.read_at is None or self.committed_at is None:
            return 0.0
        return (self.committed_at - self.read_at).total_seconds() - self.compile_seconds


def read_speed(log: Path, started_at: Sequence[datetime]) -> Speed:
    """Read the speed from the job's log, a JSON object on each line of K2; the runs were started at these times."""
    runs: list[_Run] = []
    for line in _lines(log):
        if line.get("event") == "recovery_store_ready":
            runs.append(_Run())
        if not runs:
            continue
        run = runs[-1]
        match line.get("event"):
            case "reading":
                run.read_at = run.read_at or datetime.fromisoformat(line["timestamp"])
            case "rules_compiled":
                run.compile_seconds += line["seconds"]
            case "committed":
                run.committed_at = datetime.fromisoformat(line["timestamp"])
                run.messages += line["received"]
    longest = max(runs, key=lambda run: run.messages, default=_Run())
    return Speed(
        compile_seconds=sum(run.compile_seconds for run in runs),
        start_seconds=[
            (run.read_at - started).total_seconds()
            for run, started in zip(runs, started_at, strict=False)
            if run.read_at is not None
        ],
        messages=longest.messages,
        seconds=longest.seconds(),
    )


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON lines; others, such as Bytewax's own, are passed over."""
    with log.open(encoding="utf-8", errors="replace") as text:
        for line in text:
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:
                    # The job was killed while it wrote this line.
                    continue

"""What the log of the job says of its speed."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Speed", "read_speed"]


class Speed(NamedTuple):
    """Speed of the last run of the job, and the time that all runs spent on compilation."""

    compile_seconds: float
    """Time to compile the rules; 0 if they were loaded from the cache."""
    messages: int
    """Messages that the last run committed after its first commit."""
    seconds: float
    """Time from the first commit of the last run to its last."""

    @property
    def messages_per_second(self) -> float | None:
        """The steady rate; None if the last run had one commit only."""
        return self.messages / self.seconds if self.seconds else None


def read_speed(log: Path) -> Speed:
    """Read the speed from the job's log, a JSON object on each line of K2."""
    compile_seconds = 0.0
    commits: list[tuple[datetime, int]] = []
    for line in _lines(log):
        match line.get("event"):
            case "recovery_store_ready":
                commits.clear()
            case "rules_compiled":
                compile_seconds += line["seconds"]
            case "committed":
                commits.append((datetime.fromisoformat(line["timestamp"]), line["received"]))
    if not commits:
        return Speed(compile_seconds, 0, 0.0)
    times = [time for time, _ in commits]
    return Speed(compile_seconds, sum(count for _, count in commits[1:]), (times[-1] - times[0]).total_seconds())


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

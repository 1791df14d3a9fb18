"""Figures of the contenders: medians over the turns, start-up subtracted; as a table and as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.peers.contender import Ability

__all__ = [
    "BARE",
    "Comparison",
    "Figures",
    "Run",
    "Turn",
    "abilities_table",
    "figures_of",
    "figures_table",
    "read",
    "write",
]

BARE: Final = "bare"


class Run(msgspec.Struct, frozen=True):
    """One run of a contender on one topic."""

    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    rows: int = 0
    """Rows checked; messages read, if it writes no table."""
    commits: int = 0
    data_files: int = 0
    data_mb: float = 0.0
    written_mb: float = 0.0
    """Millions of bytes of all files that it left: data, metadata, its own state."""
    dead_letters: int | None = None
    faults: list[str] = []
    """How what has landed differs from what the topic holds."""


class Turn(msgspec.Struct, frozen=True):
    """A contender on the small topic, for its start-up, and then on the whole one."""

    small: Run
    whole: Run


class Figures(msgspec.Struct, frozen=True):
    """What a contender takes: medians over its turns."""

    name: str
    title: str
    configured: str
    abilities: list[Ability]
    cpu_us: float
    """CPU microseconds per message, without the start-up."""
    messages_per_second: float | None
    """Without the start-up; None if the topic is too small to tell."""
    start_cpu_seconds: float
    whole_cpu_seconds: float
    peak_mb: float
    turns: list[Turn]
    """The last is what `rows` and the like are shown of; the faults are those of all."""

    @property
    def last(self) -> Run:
        """The last run on the whole topic."""
        return self.turns[-1].whole

    @property
    def faults(self) -> list[str]:
        """Differences found in any run, each once."""
        return list(
            dict.fromkeys(fault for turn in self.turns for run in (turn.small, turn.whole) for fault in run.faults)
        )


class Comparison(msgspec.Struct, frozen=True):
    """All that a session found."""

    messages: int
    small_messages: int
    partitions: int
    runs: int
    broker: str
    cores: list[int]
    """Cores of the contenders."""
    broker_cores: list[int]
    """Cores of the broker and of the harness."""
    malformed: int
    duplicates: int
    contenders: list[Figures]
    left_out: dict[str, str] = {}
    """Name of a contender that could not be run, and why."""

    @property
    def shown_runs(self) -> str:
        """How often each contender ran, in words."""
        return "one run" if self.runs == 1 else f"medians of {self.runs} runs"

    def times_bare(self, figures: Figures) -> float | None:
        """Return the CPU time per message in those of the bare loop, or None if that did not take part."""
        bare = next((one.cpu_us for one in self.contenders if one.name == BARE), None)
        return figures.cpu_us / bare if bare else None


def figures_of(
    name: str,
    title: str,
    configured: str,
    abilities: Sequence[Ability],
    turns: Sequence[Turn],
    messages: Mapping[str, int],
) -> Figures:
    """Return the medians of a contender's turns; `messages` are those of the topics `small` and `whole`.

    What it takes per message is the difference between the topics, over the difference of their messages: what both
    runs contain, the start-up, is in neither.
    """
    more = messages["whole"] - messages["small"]

    def median(topic: str, field: str) -> float:
        return float(statistics.median(getattr(getattr(turn, topic), field) for turn in turns))

    cpu = median("whole", "cpu_seconds") - median("small", "cpu_seconds")
    wall = median("whole", "wall_seconds") - median("small", "wall_seconds")
    return Figures(
        name=name,
        title=title,
        configured=configured,
        abilities=sorted(abilities),
        cpu_us=cpu * 1e6 / more,
        messages_per_second=more / wall if wall > 0 else None,
        start_cpu_seconds=median("small", "cpu_seconds"),
        whole_cpu_seconds=median("whole", "cpu_seconds"),
        peak_mb=median("whole", "peak_mb"),
        turns=list(turns),
    )


def figures_table(comparison: Comparison) -> str:
    """Return the figures as a table in Markdown, in the order of the contenders."""
    head = (
        "| Contender | CPU µs per message | times bare | messages/s | CPU s, whole | CPU s, start-up | peak MB | "
        "data MB | all MB | data files | commits | rows checked |"
    )
    lines = [head, "|---|" + "---:|" * (head.count("|") - 2)]
    for one in comparison.contenders:
        times, last = comparison.times_bare(one), one.last
        rows = f"{last.rows:,}" if not one.faults else "**wrong**: " + "; ".join(one.faults)
        cells = [
            one.title,
            f"{one.cpu_us:.2f}",
            "-" if times is None else f"{times:.1f}",
            "-" if one.messages_per_second is None else f"{one.messages_per_second:,.0f}",
            f"{one.whole_cpu_seconds:.1f}",
            f"{one.start_cpu_seconds:.1f}",
            f"{one.peak_mb:,.0f}",
            f"{last.data_mb:.1f}" if last.commits else "-",
            f"{last.written_mb:.1f}" if last.commits else "-",
            str(last.data_files) if last.commits else "-",
            str(last.commits) if last.commits else "-",
            rows,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def abilities_table(comparison: Comparison) -> str:
    """Return what each contender does, as a table in Markdown."""
    lines = [f"| Contender | {' | '.join(Ability)} | configured |", "|---|" + "---|" * (len(Ability) + 1)]
    for one in comparison.contenders:
        marks = " | ".join("yes" if ability in one.abilities else "no" for ability in Ability)
        lines.append(f"| {one.title} | {marks} | {one.configured} |")
    return "\n".join(lines)


def write(comparison: Comparison, path: Path) -> None:
    """Write all that a session found, as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n")


def read(path: Path) -> Comparison:
    """Read what `write` has written.

    Raises:
        msgspec.DecodeError: the file is not of this form.
    """
    return msgspec.json.decode(path.read_bytes(), type=Comparison)

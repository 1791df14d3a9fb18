"""What a contender is: how it is made ready, how it is run from a topic into a new table, and what it does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

__all__ = ["COMMIT_SECONDS", "TABLE", "Ability", "Contender", "Launch", "Task", "needs_nothing"]

COMMIT_SECONDS: Final = 5
"""Seconds from one commit of a contender to its next: a checkpoint interval, an epoch, a trigger."""
TABLE: Final = "trades"
"""Name of the folder of the table in the warehouse, below that of any namespace."""


class Ability(StrEnum):
    """What a contender does with the trades, besides landing them."""

    SEQUENCE = "sequence tracking"
    DEDUPLICATION = "drops duplicates"
    DEAD_LETTERS = "keeps dead letters"
    EXACTLY_ONCE = "exactly once"
    LEDGER = "ledger of gaps"


@dataclass(frozen=True)
class Task:
    """One run: a topic, and a folder of its own."""

    bootstrap_servers: str
    topic: str
    partitions: int
    folder: Path
    """Empty; all that the contender writes is in it, its state and its logs included."""

    @property
    def warehouse(self) -> Path:
        """Folder of the catalog: a table at `warehouse/**/trades/metadata/*.metadata.json` is found by the harness."""
        return self.folder / "warehouse"


@dataclass(frozen=True)
class Launch:
    """The command of a run; its processes, with those that they start, are what is measured."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the harness's own."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text of files to write into the task's folder first, by name: configurations."""


@dataclass(frozen=True)
class Contender:
    """An engine, or a way to write a consumer, in the form that its own documentation suggests."""

    name: str
    """As `--contenders` takes it: lower case, no spaces."""
    title: str
    """As the table shows it, with its version."""
    prepare: Callable[[], None]
    """Install it below `.cache/peers/NAME`, once; returns at once if it is there.

    Raises:
        tests.maven.NotToBeHadError: a part is not available here; the message says which.
    """
    launch: Callable[[Task], Launch]
    """Return the command; it may make what must be there before, such as a catalog or a topic. It is not measured."""
    configured: str
    """One sentence: how it is configured, and why its own experts would do so."""
    abilities: frozenset[Ability] = frozenset()
    ends_itself: bool = False
    """Whether its process ends by itself at the end of the topic. The harness stops the others, by SIGTERM, once all
    rows are committed, and counts the CPU time up to then."""
    writes_table: bool = True
    """Whether it writes a table; only the bare loop does not."""
    dead_letters: Callable[[Task], int] | None = None
    """Count the dead letters of a run, if the contender keeps any."""


def needs_nothing() -> None:
    """Make ready what runs in the project's own environment."""

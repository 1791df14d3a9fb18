"""Deliberate bugs in what happens to corrections (laws 1 and 2), which the simulator must find."""

from typing import Final

from tests.simulation.mutate import planted

__all__ = ["CORRECTION_MUTANTS"]

_WRITER: Final = "k2.iceberg.corrections_writer:CorrectionsWriter"

CORRECTION_MUTANTS: Final = (
    planted(
        "pending corrections forgotten",
        1,
        "a start does not add the corrections that a crash left pending",
        (f"{_WRITER}.resume", "self._complete(committer.table, pending)", "pass"),
    ),
    planted(
        "corrections of a replay counted again",
        1,
        "a replayed correction is counted though the table's progress has it",
        (
            "k2.iceberg.partition_counts:PartitionCounts.add_corrections",
            "if placed.offset < counts.base:",
            "if placed.offset < 0:",
        ),
    ),
    planted(
        "corrections known to no start",
        2,
        "a copy of a correction is stored again after a start",
        (f"{_WRITER}.resume", "self._seen.add(placed)", "pass"),
    ),
    planted(
        "corrections added by each start",
        2,
        "a start adds pending corrections whether the table has them or not",
        (f"{_WRITER}.resume", "!= pending.commit", "!= ''"),
        (f"{_WRITER}._complete", "if placed.coordinates not in stored", "if placed"),
    ),
)

"""Counts of instructions by stage: their file, and the rules by which new counts are compared with it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "FILE",
    "PAGE",
    "RATIO_MAX",
    "RATIO_MIN",
    "Counts",
    "failures",
    "other_versions",
    "read",
    "table",
    "with_counts",
    "write",
]

FILE: Final = Path(__file__).parent / "instructions.json"
PAGE: Final = FILE.parent.parent / "docs" / "performance.md"
RATIO_MAX: Final = 1.1
"""A stage that takes more than this multiple of its reference has become too expensive."""
RATIO_MIN: Final = 0.9
"""A stage that takes less than this multiple has a reference that would let it become as expensive again, unnoticed."""
_ROW: Final = re.compile(r"^\| `([a-z ]+)` \| [^|\n]*(\|[ 0-9,]*\|[ 0-9,]*\|)$", re.MULTILINE)
_UPDATE: Final = "`make instructions ARGS=--update`"


class Counts(msgspec.Struct, frozen=True):
    """Instructions of the stages, and what they were counted with."""

    versions: Mapping[str, str]
    """Versions of what runs and is counted; with others, the same code takes other instructions."""
    per_message: Mapping[str, float]
    """By stage, instructions per message of its input."""


def read(path: Path = FILE) -> Counts:
    """Read counts from a file."""
    return msgspec.json.decode(path.read_bytes(), type=Counts)


def write(counts: Counts, path: Path = FILE) -> None:
    """Write counts to a file, a line for each stage, so that a change of it shows which stages have moved."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(counts), indent=2) + b"\n")


def other_versions(reference: Counts, counted: Mapping[str, str]) -> list[str]:
    """Return what differs in what two counts were made with, as `numba 0.68.1 instead of 0.68.0`."""
    names = sorted({*reference.versions, *counted})
    pairs = ((name, counted.get(name, "none"), reference.versions.get(name, "none")) for name in names)
    return [f"{name} {here} instead of {there}" for name, here, there in pairs if here != there]


def failures(reference: Mapping[str, float], counted: Mapping[str, float], origin: str) -> Iterator[str]:
    """Yield a sentence for each stage whose count must be explained or kept; none if all are as the reference has them.

    Both are instructions per message by stage. `origin` says where the reference is from.
    """
    for stage, count in counted.items():
        base = reference.get(stage)
        if base is None:
            yield f"{stage} has no count in {origin}; add it with {_UPDATE}"
        elif count > base * RATIO_MAX:
            yield (
                f"{stage} takes {count:,.0f} instructions a message, {count / base - 1:.0%} more than the {base:,.0f} "
                f"of {origin}; make it cheaper, or accept it with {_UPDATE} and say why in the commit"
            )
        elif count < base * RATIO_MIN:
            yield (
                f"{stage} takes {count:,.0f} instructions a message, {1 - count / base:.0%} fewer than the {base:,.0f} "
                f"of {origin}; keep the gain with {_UPDATE}, or the stage may become as expensive again unnoticed"
            )
    for stage in (stage for stage in reference if stage not in counted):
        yield f"{stage} is in {origin} and was not counted; remove it with {_UPDATE}"


def table(reference: Mapping[str, float], counted: Mapping[str, float]) -> str:
    """Return a line for each stage: its instructions per message, and by how much they have moved."""
    return "\n".join(
        f"{stage:<24}{count:>9,.0f}  {_move(reference.get(stage), count)}" for stage, count in counted.items()
    )


def with_counts(page: str, per_message: Mapping[str, float]) -> str:
    """Return a page of the docs with these counts in the rows of stages: those of `mixed`, then those of `faults`."""

    def row(match: re.Match[str]) -> str:
        counts = [per_message.get(f"{name}: {match[1]}") for name in ("mixed", "faults")]
        if counts == [None, None]:
            return match[0]
        return "|".join((match[0][: match.start(2) - match.start()], *(_cell(count) for count in counts), ""))

    return _ROW.sub(row, page)


def _cell(count: float | None) -> str:
    return " " if count is None else f" {count:,.0f} "


def _move(base: float | None, count: float) -> str:
    return "new" if base is None else f"{count / base - 1:+.1%}"

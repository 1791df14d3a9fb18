"""Sums of explained gaps: by incident, and by cause."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from k2.query.gaps import Gap
from k2.sequencing.gap_causes import GapCause

__all__ = ["CauseSum", "Incident", "incidents_of", "sums_by_cause"]


@dataclass(frozen=True, slots=True)
class Incident:
    """Gaps of one cause that were found within a minute."""

    incident: str
    cause: str
    exchanges: str
    """Their names, separated by commas."""
    symbols: int
    gaps: int
    missing: int
    """Number of sequence numbers."""
    first_at: datetime
    """Venue time of the first trade that showed one of the gaps."""
    last_at: datetime
    fillable_until: datetime | None
    """Deadline of the first gap that can no longer be filled; None if none is known."""


@dataclass(frozen=True, slots=True)
class CauseSum:
    """All gaps of one cause."""

    cause: str
    exchanges: str
    """Their names, separated by commas."""
    symbols: int
    gaps: int
    missing: int
    """Number of sequence numbers."""
    fillable_until: datetime | None
    """Deadline of the first gap that can no longer be filled; None if none is known."""


def incidents_of(found: Iterable[Gap]) -> list[Incident]:
    """Return the incidents of explained gaps, the one of the most numbers first."""
    groups: defaultdict[tuple[str, str], list[Gap]] = defaultdict(list)
    for gap in found:
        if gap.incident is not None and gap.cause is not None:
            groups[gap.incident, gap.cause].append(gap)
    rows = []
    for (incident, cause), gaps in groups.items():
        times = [gap.timestamp for gap in gaps if gap.timestamp is not None]
        exchanges, symbols, missing, until = _sums(gaps)
        rows.append(Incident(incident, cause, exchanges, symbols, len(gaps), missing, min(times), max(times), until))
    return sorted(rows, key=lambda row: (-row.missing, row.incident))


def sums_by_cause(found: Iterable[Gap]) -> list[CauseSum]:
    """Return the sums of explained gaps by cause, in the order of the causes."""
    groups: defaultdict[str, list[Gap]] = defaultdict(list)
    for gap in found:
        groups[gap.cause or GapCause.UNKNOWN.value].append(gap)
    rows = []
    for cause in GapCause:
        if gaps := groups.get(cause.value):
            exchanges, symbols, missing, until = _sums(gaps)
            rows.append(CauseSum(cause.value, exchanges, symbols, len(gaps), missing, until))
    return rows


def _sums(gaps: Sequence[Gap]) -> tuple[str, int, int, datetime | None]:
    """Return the exchanges, how many symbols, how many numbers, and the earliest deadline."""
    until = min((gap.fillable_until for gap in gaps if gap.fillable_until is not None), default=None)
    exchanges = ", ".join(sorted({gap.exchange for gap in gaps}))
    symbols = len({(gap.exchange, gap.symbol) for gap in gaps})
    return exchanges, symbols, sum(gap.missing for gap in gaps), until

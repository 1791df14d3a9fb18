"""Comparison of what was injected with what was found."""

from collections import Counter
from typing import Final, NamedTuple

from demo.actual import Actual
from demo.corruption import CORRUPTIONS
from demo.expected import Expected
from demo.faults import (
    DUPLICATE_FAR,
    DUPLICATE_NEAR,
    LATE_LARGE,
    LATE_SMALL,
    LOST_IN_HALF,
    LOST_LARGE,
    LOST_SMALL,
    RESTART,
    SWAPPED,
)

__all__ = ["Check", "compare"]


class Check(NamedTuple):
    """One number that must be found as injected."""

    name: str
    injected: int
    found: int
    made_of: str = ""
    """Counts of the faults that it consists of."""
    same: bool = True
    """Whether the items themselves are equal, if they were compared and not only counted."""

    @property
    def ok(self) -> bool:
        """Whether the number found is as injected."""
        return self.same and self.injected == self.found


_SMALL: Final = {
    LOST_SMALL: "lost",
    LATE_SMALL: "late",
    SWAPPED: "out of order",
    LOST_IN_HALF: "cut in half",
    RESTART: "after a restart",
}
_LARGE: Final = {LOST_LARGE: "lost", LATE_LARGE: "late"}
_DUPLICATES: Final = {DUPLICATE_NEAR: "near", DUPLICATE_FAR: "far"}


def compare(expected: Expected, found: Actual) -> list[Check]:
    """Return a check for each expected number."""
    return [
        *_message_checks(expected, found),
        *_dead_letter_checks(expected, found),
        *_sequence_checks(expected, found),
    ]


def _message_checks(expected: Expected, found: Actual) -> list[Check]:
    kinds = expected.injected
    received = sum(partition.received for partition in found.partitions)
    duplicates = sum(partition.duplicates for partition in found.partitions)
    matching = expected.stored - found.absent
    return [
        Check("messages", expected.published, received),
        Check("trades stored", expected.stored, found.stored),
        Check("trades stored, as published", expected.stored, matching, "every field", not found.foreign),
        Check("duplicates dropped", expected.duplicates, duplicates, _made_of(kinds, _DUPLICATES)),
    ]


def _dead_letter_checks(expected: Expected, found: Actual) -> list[Check]:
    wanted, reasons = Counter(expected.dead_letters), expected.reasons()
    found_reasons: Counter[str] = Counter()
    for dead_letter, count in found.dead_letters.items():
        found_reasons[dead_letter.reason] += count
    checks = [
        Check(
            f"dead letters, {reason}",
            reasons[reason],
            found_reasons[reason],
            _made_of(expected.injected, _faults(reason)),
        )
        for reason in sorted({*reasons, *found_reasons})
    ]
    matching = (wanted & found.dead_letters).total()
    text = "key and value, byte for byte"
    checks.append(Check("dead letters, as published", wanted.total(), matching, text, wanted == found.dead_letters))
    return checks


def _faults(reason: str) -> dict[str, str]:
    """Return the faults that cause dead letters with this reason."""
    faults = {kind: kind for kind, corruption in CORRUPTIONS.items() if corruption.reason == reason}
    return faults | ({LOST_IN_HALF: "cut in half"} if reason == "malformed" else {})


def _sequence_checks(expected: Expected, found: Actual) -> list[Check]:
    kinds = expected.injected
    wanted = expected.missing()
    ranges = len(set(wanted) & set(found.missing))
    numbers = [sum(gap.missing for gap in gaps) for gaps in (wanted, found.missing)]
    return [
        Check("gaps opened, small", expected.gaps_small, found.gaps_small, _made_of(kinds, _SMALL)),
        Check("gaps opened, large", expected.gaps_large, found.gaps_large, _made_of(kinds, _LARGE)),
        Check("numbers filled late", expected.filled, found.filled),
        Check("trades out of order", expected.late, found.late, "late, swapped, stragglers of old sessions"),
        Check("sessions restarted", expected.restarts, found.restarts),
        Check("numbers missing now", numbers[0], numbers[1]),
        Check("gaps open now", len(wanted), ranges, "range by range", wanted == found.missing),
    ]


def _made_of(kinds: Counter[str], names: dict[str, str]) -> str:
    return ", ".join(f"{kinds[kind]:,} {name}" for kind, name in names.items() if kinds[kind])

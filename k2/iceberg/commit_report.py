"""What the log says of each commit: its counts, and a warning when the share of rejected messages rises."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

import structlog

from k2.model.dead_letter import DeadLetter
from k2.model.progress import Counts

__all__ = ["CommitReport", "RejectedShare", "error_pattern"]

SHARE_MIN: Final = 0.01
"""Share of dead letters among the received messages below which nothing is warned of."""
RISE_MIN: Final = 2.0
"""A share is a rise if it is at least this many times the usual one."""
DECAY: Final = 0.9
"""Factor of the usual share at each commit with a smaller one: after 22 commits a tenth is left."""

_VALUE: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d[\d.,:TZ+-]*")
_log = structlog.get_logger()


def error_pattern(error: str) -> str:
    """Return the text of an error with its values replaced by `…`, so that errors of one cause are equal.

    >>> error_pattern("timestamp: looks like nanoseconds: 1723161255342999000; send microseconds")
    'timestamp: looks like nanoseconds: …; send microseconds'
    """
    return _VALUE.sub("…", error)


class RejectedShare:
    """The usual share of dead letters among the received messages, to see it rise.

    A rise is reported once: from then on that share is the usual one, until it falls.
    """

    def __init__(self) -> None:
        self.usual = 0.0

    def rises(self, dead_letters: int, received: int) -> bool:
        """Return whether the share of one commit is a rise, and take it into account."""
        share = dead_letters / received if received else 0.0
        is_rise = share >= max(SHARE_MIN, RISE_MIN * self.usual)
        self.usual = share if is_rise else max(share, DECAY * self.usual)
        return is_rise


class CommitReport:
    """The log lines of one writer's commits."""

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._share = RejectedShare()
        self._reasons: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, DeadLetter] = {}

    def add(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Add dead letters of the running epoch."""
        for dead_letter in dead_letters:
            pattern = error_pattern(dead_letter.error)
            self._reasons[dead_letter.reason.value] += 1
            self._errors[pattern] += 1
            self._examples.setdefault(pattern, dead_letter)

    def log(self, counts: Counts, seconds: float) -> None:
        """Log a commit with the counts of its epoch and its duration, and begin the next epoch."""
        _log.info(
            "committed",
            writer=self._writer,
            received=counts.received,
            rows=counts.stored,
            duplicates=counts.duplicates,
            dead_letters=dict(self._reasons),
            skipped=counts.skipped,
            seconds=round(seconds, 3),
        )
        if self._share.rises(counts.dead_letters, counts.received):
            self._warn(counts)
        self._reasons.clear()
        self._errors.clear()
        self._examples.clear()

    def _warn(self, counts: Counts) -> None:
        """Warn of the rise, with the commonest error and the first message that has it."""
        fields: dict[str, object] = {}
        if self._errors:
            pattern, count = self._errors.most_common(1)[0]
            example = self._examples[pattern]
            fields = {
                "commonest_error": example.error,
                "of_this_error": count,
                "venue": example.venue,
                "example": f"{example.topic}:{example.partition}:{example.offset}",
                "hint": f"k2 dlq show {example.topic} {example.partition} {example.offset}",
            }
        _log.warning(
            "rejected_share_rose",
            writer=self._writer,
            dead_letters=counts.dead_letters,
            received=counts.received,
            **fields,
        )

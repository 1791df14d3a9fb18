"""Findings: what is said of a capture that is not complete, each with its cause and the verdict for it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["SEVERITY", "Cause", "Finding", "Verdict"]


class Verdict(StrEnum):
    """What a status comes to."""

    COMPLETE = "complete"
    """Everything that the topics have is accounted for, and no sequence number is missing."""
    BEHIND = "behind"
    """The job reads, but not as fast as messages come, or one partition does not advance."""
    MISSING = "missing"
    """Sequence numbers, rows or dead letters are not there."""
    REJECTING = "rejecting"
    """Many messages of a topic become dead letters."""
    IN_DOUBT = "in doubt"
    """What is stored may be wrong."""
    STOPPED = "stopped"
    """Messages wait and nothing is committed, or the job cannot go on."""
    UNKNOWN = "unknown"
    """The state cannot be determined."""


class Cause(StrEnum):
    """Cause of a verdict other than complete, the worst first."""

    TABLE_UNREADABLE = "table_unreadable"
    DISK_FULL = "disk_full"
    OFFSET_GONE = "offset_gone"
    JOB_STOPPED = "job_stopped"
    BROKER_UNREACHABLE = "broker_unreachable"
    PARTITION_STUCK = "partition_stuck"
    MESSAGES_REJECTED = "messages_rejected"
    ROWS_LOST = "rows_lost"
    LEDGER_LOST = "ledger_lost"
    DEAD_LETTERS_LOST = "dead_letters_lost"
    NUMBERS_MISSING = "numbers_missing"
    ROWS_ADDED = "rows_added"
    ROWS_UNKNOWN = "rows_unknown"
    CONFLICTS = "conflicts"
    DATED_AHEAD = "dated_ahead"
    SYMBOLS_SILENT = "symbols_silent"
    TRANSACTION_OPEN = "transaction_open"
    JOB_BEHIND = "job_behind"
    NOTHING_STORED = "nothing_stored"
    TOPIC_ABSENT = "topic_absent"
    BROKER_NOT_ASKED = "broker_not_asked"


_VERDICTS: Final = {
    Cause.TABLE_UNREADABLE: Verdict.UNKNOWN,
    Cause.DISK_FULL: Verdict.STOPPED,
    Cause.OFFSET_GONE: Verdict.STOPPED,
    Cause.JOB_STOPPED: Verdict.STOPPED,
    Cause.BROKER_UNREACHABLE: Verdict.UNKNOWN,
    Cause.PARTITION_STUCK: Verdict.BEHIND,
    Cause.MESSAGES_REJECTED: Verdict.REJECTING,
    Cause.ROWS_LOST: Verdict.MISSING,
    Cause.LEDGER_LOST: Verdict.UNKNOWN,
    Cause.DEAD_LETTERS_LOST: Verdict.MISSING,
    Cause.NUMBERS_MISSING: Verdict.MISSING,
    Cause.ROWS_ADDED: Verdict.IN_DOUBT,
    Cause.ROWS_UNKNOWN: Verdict.UNKNOWN,
    Cause.CONFLICTS: Verdict.IN_DOUBT,
    Cause.DATED_AHEAD: Verdict.IN_DOUBT,
    Cause.SYMBOLS_SILENT: Verdict.IN_DOUBT,
    Cause.TRANSACTION_OPEN: Verdict.BEHIND,
    Cause.JOB_BEHIND: Verdict.BEHIND,
    Cause.NOTHING_STORED: Verdict.UNKNOWN,
    Cause.TOPIC_ABSENT: Verdict.UNKNOWN,
    Cause.BROKER_NOT_ASKED: Verdict.UNKNOWN,
}
SEVERITY: Final = {cause: rank for rank, cause in enumerate(Cause)}
"""Rank of each cause; the worst has 0."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why the verdict is not complete."""

    cause: Cause
    verdict: Verdict
    """The verdict for this cause alone."""
    sentence: str
    """What was found."""
    next_step: str
    """What to do, or to look at."""

    @classmethod
    def of(cls, cause: Cause, sentence: str, next_step: str) -> "Finding":
        """Return a finding with the verdict of its cause."""
        return cls(cause, _VERDICTS[cause], sentence, next_step)

"""What the log says of each commit: its counts, and a warning when the share of rejected messages rises."""

from typing import Final

import structlog

from k2.model.progress import Counts
from k2.storage.dead_letters.rejections import Rejections

__all__ = ["CommitReport", "RejectedShare"]

SHARE_MIN: Final = 0.01
"""Share of dead letters among the received messages below which nothing is warned of."""
RISE_MIN: Final = 2.0
"""A share is a rise if it is at least this many times the usual one."""
DECAY: Final = 0.9
"""Factor of the usual share at each commit with a smaller one: after 22 commits a tenth is left."""

_log = structlog.get_logger()


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

    def log(self, counts: Counts, rejections: Rejections, lag: int | None, seconds: float) -> None:
        """Log a commit with the counts of its epoch and its duration.

        `lag` is the number of messages that this process has not read yet; None if it is not known.
        """
        _log.info(
            "committed",
            writer=self._writer,
            received=counts.received,
            rows=counts.stored,
            duplicates=counts.duplicates,
            dead_letters=dict(rejections.reasons),
            skipped=counts.skipped,
            corrections=counts.corrections,
            lag=lag,
            seconds=round(seconds, 3),
        )
        if self._share.rises(counts.dead_letters, counts.received):
            self._warn(counts, rejections)

    def _warn(self, counts: Counts, rejections: Rejections) -> None:
        """Warn of the rise, with the commonest error and the first message that has it."""
        fields: dict[str, object] = {}
        common = rejections.commonest_error()
        if common is not None:
            place = common.example.coordinates
            fields = {
                "commonest_error": common.example.error,
                "of_this_error": common.dead_letters,
                "venue": common.example.venue,
                "example": f"{place.topic}:{place.partition}:{place.offset}",
                "hint": f"k2 dlq show {place.topic} {place.partition} {place.offset}",
            }
        _log.warning(
            "rejected_share_rose",
            writer=self._writer,
            dead_letters=counts.dead_letters,
            received=counts.received,
            **fields,
        )

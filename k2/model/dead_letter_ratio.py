"""Dead-letter ratio: the share of a topic's latest messages that decoding rejected, which stops the job at a limit."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from k2.model.dead_letter import DeadLetter
from k2.model.errors import DeadLetterRatioError
from k2.model.reasons import Reason
from k2.model.rejected_messages import by_reason

__all__ = ["DeadLetterRatio"]

PARTS: Final = 16
"""A window moves on by a part of this size of its smallest: many small batches are kept as few parts."""


@dataclass
class _Part:
    """Counts of some batches that followed one another."""

    messages: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    firsts: dict[Reason, DeadLetter] = field(default_factory=dict)
    """The first dead letter of each reason."""

    def add(self, messages: int, dead_letters: Sequence[DeadLetter]) -> None:
        self.messages += messages
        for reason, group in by_reason(dead_letters).items():
            self.reasons[reason] += group.size
            if reason not in self.firsts:
                self.firsts[reason] = dead_letters[group.first_idx]


class DeadLetterRatio:
    """Watches the latest messages of each topic, at least `messages_min` of them, for too many dead letters.

    A topic is judged on its own, so that healthy ones do not hide a broken one. Only what decoding rejects counts: a
    conflict is one of content with a stored trade, and a venue that does not fit the topic makes none. Only messages of
    the live feed are given: replayed dead letters that fail again say nothing about it. Nothing outlives the process:
    each start judges the messages that it reads itself, so that one with mended settings is not stopped by what was
    rejected before.
    """

    def __init__(self, ratio_max: float, messages_min: int) -> None:
        """Allow a share of `ratio_max`, from 0 to 1; 0 allows any."""
        self._ratio_max, self._messages_min = ratio_max, messages_min
        self._windows: dict[str, deque[_Part]] = {}

    def add(self, topic: str, messages: int, dead_letters: Sequence[DeadLetter]) -> None:
        """Add a batch: the number of its messages, and the dead letters of those that decoding rejected.

        Raises:
            DeadLetterRatioError: the share of the topic's latest messages is above the limit.
        """
        if not self._ratio_max or not messages:
            return
        window = self._windows.setdefault(topic, deque())
        if not window or window[-1].messages * PARTS >= self._messages_min:
            window.append(_Part())
        window[-1].add(messages, dead_letters)
        total = sum(part.messages for part in window)
        while total - window[0].messages >= self._messages_min:
            total -= window.popleft().messages
        rejected = sum(part.reasons.total() for part in window)
        if total >= self._messages_min and rejected > self._ratio_max * total:
            raise _error(window, total, rejected)


def _error(window: Iterable[_Part], messages: int, rejected: int) -> DeadLetterRatioError:
    reasons = sum((part.reasons for part in window), Counter[Reason]())
    ((reason, count),) = reasons.most_common(1)
    first = next(part.firsts[reason] for part in window if reason in part.firsts)
    place = f"{first.topic}:{first.partition}:{first.offset}"
    return DeadLetterRatioError(
        f"topic {first.topic!r}: {100 * rejected / messages:.1f} % of the last {messages:,} messages are dead letters "
        f"by venue {first.venue!r}, {count:,} of them {reason}, the first at {place}: {first.error}; this epoch is not "
        "committed: fix the topic's venue in K2_TOPICS, or set K2_DLQ_RATIO_MAX=0 to dead-letter them"
    )

"""Messages that are skipped, as columns: neither trades nor errors, each with the reason by which it is counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from k2.model.reasons import SkippedError
from k2.venues.table import SkipReason

__all__ = ["SkippedMessages", "reason_number"]

_REASONS: Final[tuple[str, ...]] = (*get_args(SkipReason), "no_trades", "non_market")
"""The reasons of compiled decoders, by their number less one: 0 stands for a message that is not skipped."""


def reason_number(reason: str) -> int:
    """Return the number, from 1, that compiled decoders have for a reason."""
    return _REASONS.index(reason) + 1


@dataclass(frozen=True, slots=True)
class SkippedMessages:
    """The n skipped messages of a batch. Iteration yields (index of the message, error with its reason)."""

    messages: NDArray[np.int64]
    """int64[n], ascending: indices in the batch."""
    reasons: NDArray[np.int64]
    """int64[n], indices into `names`."""
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, compiled: NDArray[np.int32], by_reference: Sequence[tuple[int, SkippedError]] = ()
    ) -> "SkippedMessages":
        """Return what both decoders skipped.

        Args:
            compiled: int32[n, 2], ascending: index of the message, and number of its reason.
            by_reference: (index of the message, error), ascending.
        """
        messages, reasons = compiled[:, 0].astype(np.int64), compiled[:, 1].astype(np.int64) - 1
        if not by_reference:
            return cls(messages, reasons, _REASONS)
        names = tuple(dict.fromkeys([*_REASONS, *(error.why for _, error in by_reference)]))
        others = np.array([(message, names.index(error.why)) for message, error in by_reference], dtype=np.int64)
        messages, reasons = np.concatenate([messages, others[:, 0]]), np.concatenate([reasons, others[:, 1]])
        order = np.argsort(messages, kind="stable")
        return cls(messages[order], reasons[order], names)

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[tuple[int, SkippedError]]:
        for message, reason in zip(self.messages.tolist(), self.reasons.tolist(), strict=True):
            yield message, SkippedError(self.names[reason])

    def counts(self) -> dict[str, int]:
        """Return the number of messages by reason, for the reasons that occur."""
        counts = np.bincount(self.reasons, minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}

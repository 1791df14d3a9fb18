"""What the dead letters of an epoch have in common: counts by reason and error, with an example of each."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from k2.model.dead_letter import DeadLetter
from k2.model.errors import error_pattern
from k2.model.rejected_messages import by_error, by_reason

__all__ = ["CommonError", "Rejections"]


_pattern: Final = lru_cache(4_096)(error_pattern)
"""In a storm the same errors come again and again."""


class CommonError(NamedTuple):
    """Dead letters whose errors differ only in their values."""

    dead_letters: int
    example: DeadLetter
    """The first of them."""


class Rejections:
    """Counts of dead letters."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, DeadLetter] = {}

    def add(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Count dead letters."""
        for reason, group in by_reason(dead_letters).items():
            self.reasons[reason.value] += group.size
        for error, group in by_error(dead_letters).items():
            pattern = _pattern(error)
            self._errors[pattern] += group.size
            if pattern not in self._examples:
                self._examples[pattern] = dead_letters[group.first_idx]

    def commonest_error(self) -> CommonError | None:
        """Return the commonest error; None if there is no dead letter."""
        for pattern, count in self._errors.most_common(1):
            return CommonError(count, self._examples[pattern])
        return None

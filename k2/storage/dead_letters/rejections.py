"""What the dead letters of an epoch have in common: counts by reason and error, with an example of each."""

from collections import Counter
from typing import NamedTuple

from k2.model.dead_letter import DeadLetter
from k2.model.errors import error_pattern

__all__ = ["CommonError", "Rejections"]


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

    def add(self, dead_letter: DeadLetter) -> None:
        """Count a dead letter."""
        pattern = error_pattern(dead_letter.error)
        self.reasons[dead_letter.reason.value] += 1
        self._errors[pattern] += 1
        self._examples.setdefault(pattern, dead_letter)

    def commonest_error(self) -> CommonError | None:
        """Return the commonest error; None if there is no dead letter."""
        for pattern, count in self._errors.most_common(1):
            return CommonError(count, self._examples[pattern])
        return None

"""What became of each row: one byte a row, so that verdicts travel as a column."""

from typing import Final

__all__ = ["CONFLICT", "DUPLICATE", "SKIPPED", "STORED"]

STORED: Final = 0
"""The row is a trade to keep."""
DUPLICATE: Final = 1
"""The trade is stored already, and dropped here."""
CONFLICT: Final = 2
"""The same number or id as a stored trade with other content: a dead letter."""
SKIPPED: Final = 3
"""No market trade by the venue's rule, though it bears one of its numbers: seen by the tracker, and not stored."""

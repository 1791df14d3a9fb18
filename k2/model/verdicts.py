"""Verdicts of the rules: one byte per row, so that they form a column."""

from typing import Final

__all__ = ["CONFLICT", "DUPLICATE", "HEAD", "SKIPPED", "STORED"]

STORED: Final = 0
"""The row is a trade to store."""
DUPLICATE: Final = 1
"""The trade is stored already. The row is dropped."""
CONFLICT: Final = 2
"""The sequence number or trade id of a stored trade with other content. The row becomes a dead letter."""
SKIPPED: Final = 3
"""A non-market trade: the tracker sees its sequence number, and the row is not stored."""
HEAD: Final = 4
"""A message that names the number of a trade without being it: the tracker compares it, and nothing is stored."""

"""Open gaps by exchange, counted as they change."""

from collections.abc import Iterable, Mapping

from k2.model.sequence_events import EventKind
from k2.sequencing.placement import Event
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracked import OpenGaps

__all__ = ["GapCounts"]


class GapCounts:
    """What is missing now in all sessions of a key group's symbols, announced numbers included."""

    def __init__(self) -> None:
        self._gaps: dict[str, OpenGaps] = {}

    def by_exchange(self) -> dict[str, OpenGaps]:
        """Return what is missing; zeros for an exchange without gaps."""
        return dict(self._gaps)

    def add_exchanges(self, exchanges: Iterable[str]) -> None:
        """Add exchanges, some of which may be known."""
        for exchange in exchanges:
            self._gaps.setdefault(exchange, OpenGaps(0, 0))

    def add(self, changes: Mapping[str, OpenGaps]) -> None:
        """Add changes of known exchanges."""
        for exchange, more in changes.items():
            ranges, numbers = self._gaps[exchange]
            self._gaps[exchange] = OpenGaps(ranges + more.ranges, numbers + more.numbers)

    def add_symbol(self, exchange: str, sequence: SymbolSequence) -> None:
        """Add all gaps of a symbol."""
        self.add({exchange: OpenGaps(sequence.gap_count, sequence.missing_count)})

    def add_events(self, exchange: str, events: Iterable[Event], range_change: int) -> None:
        """Add what events have opened and filled; `range_change` is the change of the number of missing ranges."""
        signs = {EventKind.GAP_OPENED: 1, EventKind.GAP_FILLED: -1}
        numbers = sum(signs.get(kind, 0) * (last - first + 1) for kind, _, first, last in events)
        self.add({exchange: OpenGaps(range_change, numbers)})

"""What a venue makes of a capture: trades, skipped messages, dead letters, and how the numbers grow."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from k2.model.correction import Correction
from k2.model.errors import error_pattern
from k2.model.reasons import HEAD_NUMBER, Reason, RejectedError, SkippedError
from k2.model.trade import Trade
from k2.venues.rows import MESSAGE_BYTES_MAX
from k2.venues.venue import Venue

__all__ = ["CaptureReport", "DeadLetterKind", "DriftKind", "NumberSteps", "report_on"]

FIRST_TRADES: Final = 10


@dataclass(slots=True)
class DeadLetterKind:
    """Dead letters whose errors differ only in their values."""

    reason: str
    count: int
    line: int
    """The line of the first, from 1."""
    error: str
    """The error of the first."""


@dataclass(slots=True)
class DriftKind:
    """Messages that differ from the table in the same way."""

    change: str
    path: str
    count: int
    line: int
    """The line of the first, from 1."""
    value: str
    """The value of the first."""


@dataclass(slots=True)
class NumberSteps:
    """How the sequence numbers of the symbols follow one another."""

    symbols: int = 0
    steps: int = 0
    """Numbers that come after another one of their symbol."""
    contiguous: int = 0
    """Steps to the next number."""
    ahead: int = 0
    """Steps that leave numbers out."""
    missing: int = 0
    """Numbers left out in those steps; some may come later."""
    repeated: int = 0
    """Steps to the same number."""
    back: int = 0
    """Steps to a lower number."""


@dataclass(slots=True)
class CaptureReport:
    """Each message is in exactly one of the counts of messages, except one that has only corrections."""

    messages: int = 0
    with_trades: int = 0
    trades: int = 0
    non_market: int = 0
    """Trades that use a sequence number, but are not of the market; they are not stored."""
    corrections: int = 0
    """Corrections and cancels of trades."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Messages by reason."""
    dead_letters: list[DeadLetterKind] = field(default_factory=list)
    """In the order of their first lines."""
    unkeyed: int = 0
    """Messages with trades in which no Kafka key is found."""
    drift: list[DriftKind] = field(default_factory=list)
    """What the table does not know of messages with trades, in the order of their first lines."""
    unused_keys: list[str] = field(default_factory=list)
    """Paths of keys that the table neither names nor lists, ascending."""
    numbers: NumberSteps = field(default_factory=NumberSteps)
    first_trades: list[Trade] = field(default_factory=list)


def report_on(venue: Venue, lines: Iterable[tuple[int, bytes]]) -> CaptureReport:
    """Decode (line number, message) pairs with the reference decoder of a venue, and report what they are.

    The times of a capture are in the past, so none is compared with that of Kafka.
    """
    report, last = CaptureReport(), dict[tuple[str, str], int]()
    kinds: dict[tuple[Reason, str], DeadLetterKind] = {}
    skipped, drift, unused = Counter[str](), dict[object, DriftKind](), set[str]()
    for number, value in lines:
        report.messages += 1
        try:
            entries = _decode(venue, value)
        except SkippedError as error:
            skipped[error.why] += 1
        except RejectedError as error:
            kind = kinds.setdefault(
                (error.reason, error_pattern(error.error)), DeadLetterKind(error.reason, 0, number, error.error)
            )
            kind.count += 1
        else:
            if all(isinstance(one, Trade) and one.is_head for one in entries):
                skipped[HEAD_NUMBER] += 1
                continue
            report.with_trades += any(not isinstance(one, Correction) for one in entries)
            report.unkeyed += not _has_key(venue, value)
            _compare(venue, number, value, drift, unused)
            _add(report, entries, last)
    report.skipped, report.dead_letters = dict(skipped.most_common()), [*kinds.values()]
    report.drift, report.unused_keys = [*drift.values()], sorted(unused)
    report.numbers.symbols = len(last)
    return report


def _compare(venue: Venue, line: int, value: bytes, drift: dict[object, DriftKind], unused: set[str]) -> None:
    if venue.drift is None:
        return
    unused.update(venue.drift.unused_keys(value))
    for one in venue.drift.drift(value):
        kind = drift.setdefault(one.identity, DriftKind(one.change, one.path, 0, line, one.value))
        kind.count += 1


def _decode(venue: Venue, value: bytes) -> Sequence[Trade | Correction]:
    if len(value) > MESSAGE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"value: {len(value)} bytes, more than {MESSAGE_BYTES_MAX}")
    return venue.decode(value)


def _has_key(venue: Venue, value: bytes) -> bool:
    try:
        venue.key(value)
    except (RejectedError, SkippedError):
        return False
    return True


def _add(report: CaptureReport, entries: Sequence[Trade | Correction], last: dict[tuple[str, str], int]) -> None:
    for trade in entries:
        if isinstance(trade, Correction):
            report.corrections += 1
            continue
        report.trades += trade.is_market
        report.non_market += not trade.is_market
        if len(report.first_trades) < FIRST_TRADES:
            report.first_trades.append(trade)
        if trade.sequence is None:
            continue
        name = trade.exchange, trade.symbol
        first = trade.sequence if trade.first_sequence is None else trade.first_sequence
        if name in last:
            _count_step(report.numbers, first - last[name])
        last[name] = max(trade.sequence, last.get(name, trade.sequence))


def _count_step(numbers: NumberSteps, step: int) -> None:
    numbers.steps += 1
    numbers.contiguous += step == 1
    numbers.repeated += step == 0
    numbers.back += step < 0
    if step > 1:
        numbers.ahead += 1
        numbers.missing += step - 1

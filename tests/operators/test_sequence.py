"""The sequence operator: verdicts, events and metrics of what the tracker finds."""

from typing import Any

from bytewax.dataflow import Stream

from k2.model.sequence_events import EventKind
from k2.model.state_source import NO_STATE_SOURCE
from k2.model.symbols import Symbols
from k2.model.verdicts import DUPLICATE, STORED
from k2.ops.metrics import GAPS_DETECTED, GAPS_FILLED, OPEN_GAPS
from operators.sequence import sequence
from tests.model.trade_slices import Row, slice_of
from tests.operators.running import run

EXCHANGE = "operators"


def sequenced(*numbers: list[int]) -> list[list[Any]]:
    """Return the items of both streams for slices with some numbers, each at the number's time."""

    def connect(trades: Stream[Any]) -> list[Stream[Any]]:
        streams = sequence("sequence", trades, 3, 86_400, NO_STATE_SOURCE, Symbols())
        return [streams.trades, streams.events]

    offset, items = 0, []
    for some in numbers:
        rows = [Row(number, number, exchange=EXCHANGE) for number in some]
        items.append(("00", slice_of(rows, first_offset=offset)))
        offset += len(rows)
    return run(connect, items)


def test_gaps_become_events_and_metrics() -> None:
    """A gap is opened, then filled by the late trade; a trade that comes twice is a duplicate."""
    before = (
        [GAPS_DETECTED.labels(EXCHANGE, size)._value.get() for size in ("large", "small")],
        GAPS_FILLED.labels(EXCHANGE)._value.get(),
    )
    trades, events = sequenced([1, 2, 6, 8], [7, 8])
    verdicts = [verdict for _, piece in trades for verdict in piece.verdicts.tolist()]
    assert verdicts == [STORED, STORED, STORED, STORED, STORED, DUPLICATE]
    found = [(one.event, one.first_sequence, one.last_sequence) for some in events for one in some]
    assert found == [
        (EventKind.SESSION_STARTED, 1, 1),
        (EventKind.GAP_OPENED, 3, 5),
        (EventKind.GAP_OPENED, 7, 7),
        (EventKind.GAP_FILLED, 7, 7),
    ]
    after = (
        [GAPS_DETECTED.labels(EXCHANGE, size)._value.get() for size in ("large", "small")],
        GAPS_FILLED.labels(EXCHANGE)._value.get(),
    )
    assert after == ([count + 1 for count in before[0]], before[1] + 1)
    assert OPEN_GAPS.labels(EXCHANGE)._value.get() == 1


def test_a_slice_without_events_sends_none() -> None:
    """The ledger's writer is not woken for nothing."""
    _, events = sequenced([1, 2], [3, 4])
    assert len(events) == 1

"""The connections operator: what reaches which key group, and when missing numbers are reported."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from k2.model.batch import MessageBatch
from k2.model.connections import ConnectionKey, GroupConnections, Seen
from k2.model.key_groups import GROUPS, group_key, group_of
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind
from k2.model.state_source import Positions, Ranges
from k2.ops.metrics import CONNECTION_GAPS
from k2.sequencing.connections import SETTLE_SECONDS
from operators.connections import TICK_SECONDS, _ConnectionLogic, _Found, _slices, connections
from tests.operators.running import run
from tests.sequencing.connection_feed import connection_slice
from tests.venues.messages import batch_of


class Tables:
    """Tables with one connection, whose gap 3-4 is in the ledger; 4 was read since."""

    key = ConnectionKey("venue", "topic", "a", 1)

    def seen(self, group: int) -> Iterable[Seen]:
        """Return the connection in its group."""
        tracker_state = connection_slice([1, 2, 4, 5]).numbers
        ranges = tracker_state.reshape(-1, 2)
        return [Seen(self.key, ranges, 0, 7, 7_000)] if group == self.key.group else []

    def committed(self, group: int) -> Positions:
        """Return that of one partition."""
        return {TopicPartition("topic", 0): 8}

    def missing(self) -> Mapping[ConnectionKey, Ranges]:
        """Return what the ledger has."""
        return {self.key: ((3, 4),)}


def message(name: str, number: int) -> bytes:
    """Return a message of dYdX without a trade."""
    return f'{{"type":"connected","connection_id":"{name}","message_id":{number}}}'.encode()


def test_a_connection_reaches_its_key_group() -> None:
    """With a state after each batch, and all missing numbers at the end of the input."""
    batch = batch_of([message("a", 1), message("b", 5), message("a", 3)], venue="dydx")

    def connect(messages):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        streams = connections("connections", messages, Tables())
        return [streams.states, streams.events]

    before = CONNECTION_GAPS.labels("dydx")._value.get()
    states, [events] = run(connect, [batch, batch_of([b"{}"])])
    newest: dict[str, GroupConnections] = dict(states)
    groups = {group_of("dydx", name): name for name in "ab"}
    assert {*newest} == {group_key(group) for group in groups}
    for group, name in groups.items():
        assert newest[group_key(group)].topics == {"trades"}
        assert name in {one.key.name for one in newest[group_key(group)].connections}
    assert [(one.event, one.symbol, one.first_sequence, one.last_sequence, one.offset) for one in events] == [
        (EventKind.CONNECTION_GAP, "a", 2, 2, 102)
    ]
    assert CONNECTION_GAPS.labels("dydx")._value.get() - before == 1


def test_the_first_batch_reaches_every_key_group() -> None:
    """If the topic is read for its numbers; else nothing is done."""
    one = TopicPartition("trades", 0)
    assert [key for key, _ in _slices(MessageBatch.first(one, "dydx", 7))] == [group_key(one) for one in range(GROUPS)]
    assert [*_slices(MessageBatch.first(one, "k2", 7))] == [*_slices(batch_of([message("a", 1)]))] == []


def found(items: tuple[Iterable[_Found], bool]) -> list[tuple[EventKind, int, int, bool]]:
    """Return the events of what a call emits."""
    return [
        (event.event, event.first_sequence, event.last_sequence, event.is_owed)
        for one in items[0]
        for event in one.events
    ]


@pytest.mark.parametrize("state", [None, {}])
def test_missing_numbers_are_reported_after_a_while(state: dict[str, object] | None) -> None:
    """The first batch emits what the ledger lacks, whatever the recovery store has; a report follows once it is due."""
    now = 100.0
    logic = _ConnectionLogic(Tables(), lambda: now, state)
    assert logic.notify_at() is None
    group = Tables.key.group
    assert found(logic.on_batch([(group, connection_slice([9], 7))])) == [(EventKind.CONNECTION_GAP_FILLED, 4, 4, True)]
    assert logic.notify_at() is None
    assert found(logic.on_batch([(group, connection_slice([9], 8))])) == []
    tick = logic.notify_at()
    assert tick is not None
    assert tick - datetime.now(UTC) <= timedelta(seconds=TICK_SECONDS)
    # A process that stood still has heard from no partition.
    now += 10 * SETTLE_SECONDS
    assert found(logic.on_notify()) == found(logic.on_batch([(group, connection_slice([10], 9))])) == []
    for _ in range(int(SETTLE_SECONDS) - 2):
        now += TICK_SECONDS
        assert found(logic.on_notify()) == []
    now += TICK_SECONDS
    assert found(logic.on_notify()) == [(EventKind.CONNECTION_GAP, 6, 8, False)]
    assert logic.notify_at() is None
    assert found(logic.on_eof()) == []
    assert logic.snapshot() == {}

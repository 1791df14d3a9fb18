"""The route operators: which writer gets what."""

from dataclasses import replace

import numpy as np
import pytest

from k2.model.connections import GroupConnections
from k2.model.consumed import Consumed
from k2.model.dead_letter import DeadLetter
from k2.model.key_groups import GROUPS, group_key
from k2.model.reasons import Reason
from operators.route import to_only_writer, to_writers
from tests.model.trade_slices import Row, slice_of
from tests.operators.running import run
from tests.venues.messages import batch_of

SLICES = [replace(slice_of([Row()]), group=group) for group in range(GROUPS)]
LETTER = DeadLetter.of(batch_of([b"no json"]), 0, Reason.MALFORMED, "x")


@pytest.mark.parametrize("writers", [1, 3, 16])
def test_a_key_group_has_one_writer(writers: int) -> None:
    """The writer depends on the group alone, so it stays the same for any number of workers."""
    items = [(group_key(piece.group), piece) for piece in SLICES]
    [found] = run(lambda trades, consumed: [to_writers("route", trades, consumed, writers)], items, [])
    assert [(key, piece.group) for key, piece in found] == [(str(group % writers), group) for group in range(GROUPS)]


@pytest.mark.parametrize(("writers", "partition"), [(1, 0), (3, 0), (3, 5)])
def test_each_writer_gets_every_range_and_one_the_messages_without_a_trade(writers: int, partition: int) -> None:
    """So every writer's progress moves, and dead letters and skipped messages are counted once."""
    consumed = Consumed("trades", partition, 7, 9, (LETTER,), np.array([8], dtype=np.int64), messages=2)
    [found] = run(lambda trades, ranges: [to_writers("route", trades, ranges, writers)], [], [consumed])
    assert sorted((key, one.first_offset, one.next_offset) for key, one in found) == [
        (str(writer), 7, 9) for writer in range(writers)
    ]
    counted = {key: (one.dead_letters, one.skipped.tolist(), one.messages) for key, one in found}
    assert counted.pop(str(partition % writers)) == ((LETTER,), [8], 2)
    assert all(one == ((), [], 0) for one in counted.values())


def test_connections_have_the_writer_of_their_key_group() -> None:
    """It commits them with the offsets up to which it has seen their messages."""
    items = [(group_key(group), GroupConnections(group, frozenset(), ())) for group in range(GROUPS)]
    [found] = run(lambda *streams: [to_writers("route", *streams[:2], 3, streams[2])], [], [], items)
    assert [(key, one.group) for key, one in found] == [(str(group % 3), group) for group in range(GROUPS)]


def test_a_sink_with_one_writer_gets_everything() -> None:
    """All items are keyed by that writer."""
    assert run(lambda items: [to_only_writer("route", items)], ["a", "b"]) == [[("0", "a"), ("0", "b")]]
    [found] = run(lambda *streams: [to_only_writer("route", *streams, None)], ["a", "b"], ["c"])
    assert sorted(found) == [("0", "a"), ("0", "b"), ("0", "c")]

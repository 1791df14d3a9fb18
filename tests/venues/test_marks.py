"""Messages that are not of the live feed: their headers name a venue and a trade."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import MessageBatch
from k2.model.origin import MessageMarks
from k2.model.reasons import Reason
from k2.venues import VENUES
from k2.venues.decode import decode
from tests.venues.messages import BINANCE_MESSAGE, K2_MESSAGE, batch_of

FILL = b'{"exchange":"okx","symbol":"BTC-USDT","sequence":9,"price":"1","quantity":"2","timestamp":1700000000000000}'
SEVERAL = (
    b'{"table":"trade","action":"insert","data":['
    b'{"timestamp":"2024-08-08T23:54:15.400Z","symbol":"XBT","side":"Buy","size":1,"price":5,"trdMatchID":"a"},'
    b'{"timestamp":"2024-08-08T23:54:15.400Z","symbol":"XBT","side":"Buy","size":2,"price":5,"trdMatchID":"b"},'
    b'{"timestamp":"2024-08-08T23:54:15.400Z","symbol":"XBT","side":"Buy","size":3,"price":5,"trdMatchID":"c"}]}'
)

marks = st.one_of(
    st.none(), st.builds(MessageMarks, st.just("person ann"), st.sampled_from([None, "k2", "k2-fill", "no venue"]))
)


def _marked(values: list[bytes | None], by_message: dict[int, MessageMarks], venue: str = "k2") -> MessageBatch:
    batch = batch_of(values, venue)
    batch.marks.update(by_message)  # type: ignore[attr-defined]
    return batch


@given(st.lists(marks, min_size=1, max_size=12))
def test_runs_cover_the_batch_and_each_is_of_one_kind(of_messages: list[MessageMarks | None]) -> None:
    """Offsets follow each other without a hole, and a run has either live messages or those that name one venue."""
    by_message = {idx: one for idx, one in enumerate(of_messages) if one is not None}
    batch = _marked([K2_MESSAGE] * len(of_messages), by_message)
    runs = batch.runs(VENUES)
    assert [run.first_offset for run in runs] == [batch.first_offset, *(run.next_offset for run in runs[:-1])]
    assert runs[-1].next_offset == batch.next_offset
    assert [offset for run in runs for offset in run.offsets.tolist()] == batch.offsets.tolist()
    assert [run.marks.get(idx) for run in runs for idx in range(len(run))] == of_messages
    for run in runs:
        named = {None if one is None else (one.venue,) for one in map(run.marks.get, range(len(run)))}
        assert len(named) == 1
        assert run.venue == ("k2-fill" if named == {("k2-fill",)} else "k2")


def test_a_message_is_decoded_by_the_venue_that_it_names() -> None:
    """A fill in a topic of another venue."""
    batch = _marked(
        [BINANCE_MESSAGE, FILL, BINANCE_MESSAGE], {1: MessageMarks("person ann", "k2-fill")}, "binance-spot"
    )
    runs = [decode(run) for run in batch.runs(VENUES)]
    assert [(run.rejected, len(run.trades.columns)) for run in runs] == [([], 1)] * 3
    assert [run.trades.columns.name(0)[0] for run in runs] == ["binance", "okx", "binance"]
    assert [run.trades.source.is_live for run in runs] == [True, False, True]


def test_a_message_that_names_an_unknown_venue_is_a_dead_letter() -> None:
    """Its neighbours are decoded."""
    batch = _marked([K2_MESSAGE, K2_MESSAGE], {1: MessageMarks(None, "k3")})
    first, second = (decode(run) for run in batch.runs(VENUES))
    assert (len(first.trades.columns), first.rejected) == (1, [])
    ((message_idx, error),) = second.rejected
    assert (message_idx, error.reason, len(second.trades.columns)) == (0, Reason.UNSUPPORTED, 0)
    assert "header k2-venue" in error.error
    assert "k3" in error.error


@pytest.mark.parametrize(("index", "sizes"), [(None, [1, 2, 3]), (0, [1]), (2, [3])])
def test_only_the_trade_of_the_index_is_taken(index: int | None, sizes: list[int]) -> None:
    """The others of the message are not received; other messages of the batch are not affected."""
    batch = _marked([SEVERAL, SEVERAL], {0: MessageMarks("x", None, index), 1: MessageMarks("x")}, "bitmex")
    columns = decode(batch).trades.columns
    words = [int(low) // 10**18 for low, _ in columns.quantities]
    assert words == [*sizes, 1, 2, 3]
    assert columns.indexes.tolist() == [*(size - 1 for size in sizes), 0, 1, 2]


@pytest.mark.parametrize("index", [3, -1])
def test_a_message_without_a_trade_of_the_index_is_a_dead_letter(index: int) -> None:
    """Nothing is passed over in silence."""
    decoded = decode(_marked([SEVERAL, SEVERAL], {0: MessageMarks("x", None, index), 1: MessageMarks("x")}, "bitmex"))
    assert [(idx, error.reason) for idx, error in decoded.rejected] == [(0, Reason.INVALID)]
    assert decoded.trades.columns.messages.tolist() == [1, 1, 1]


def test_selected_messages_keep_their_marks() -> None:
    """As batches are split by key group, and sent to other processes."""
    batch = _marked([K2_MESSAGE] * 4, {1: MessageMarks("a"), 3: MessageMarks("b")})
    assert batch.take(np.array([0, 3], dtype=np.int32)).marks == {1: MessageMarks("b")}

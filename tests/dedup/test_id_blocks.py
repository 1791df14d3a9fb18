"""Id blocks: their bytes, how few there are, and that a deduplicator restored from them judges as the one before."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.dedup.deduplicator import GroupDeduplicator
from k2.dedup.id_blocks import BLOCKS_MERGED, MERGED_IDS_MAX, BlockIds, _count_merged, decode_block, encode_block
from k2.dedup.id_log import Entries
from k2.dedup.window import CONFIRMATIONS
from k2.model.packed import digest
from k2.model.progress import TopicPartition
from k2.model.state_source import SealedIds
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from tests.model.trade_slices import Row, slice_of

WINDOW = 100


def at(time: int, trade_id: str, price: int = 1) -> Row:
    """Return a trade without a number."""
    return Row(None, 0, "x", "a", trade_id, time, price)


def judged(deduplicator: GroupDeduplicator, rows: Sequence[Row], partition: int = 0) -> list[int]:
    """Return the verdicts on rows."""
    verdicts: list[int] = deduplicator.deduplicate(slice_of(rows, partition=partition)).verdicts.tolist()
    return verdicts


class Store:
    """What checkpoints have written: the bytes of blocks by digest."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        self.ids = 0

    def take(self, deduplicator: GroupDeduplicator) -> SealedIds:
        """Seal the ids held, and write the new block."""
        sealed, data = deduplicator.seal()
        if data is not None:
            self.written[sealed.blocks[-1].digest] = data
            self.ids += sealed.blocks[-1].count
        return sealed

    def restored(self, sealed: SealedIds, state: dict[str, object] | None, window: int = WINDOW) -> GroupDeduplicator:
        """Return a deduplicator with the ids of a checkpoint."""
        deduplicator = GroupDeduplicator(window, state)
        deduplicator.restore_blocks([(block, self.written[block.digest]) for block in sealed.blocks])
        return deduplicator


PARTS = st.lists(
    st.builds(
        lambda partition, rows: BlockIds(
            TopicPartition("trades", partition),
            [("a", f"S{row[0] % 3}") for row in rows],
            Entries(
                np.array([row[0] for row in rows], dtype=np.int64),
                np.array([row[1] for row in rows], dtype=np.int64),
                np.array([row[2] for row in rows], dtype=np.uint32),
                np.array([row[3] for row in rows], dtype=np.int64),
            ),
        ),
        st.integers(0, 5),
        st.lists(
            st.tuples(
                st.integers(-(2**63), 2**63 - 1),
                st.integers(-(2**63), 2**63 - 1),
                st.integers(0, 2**32 - 1),
                st.integers(0, 2**61),
            ),
            max_size=5,
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(PARTS)
def test_a_block_has_a_binary_form(parts: list[BlockIds]) -> None:
    """Ids, times, topic partitions and symbols are those that were encoded."""
    data = encode_block(parts)
    for one, back in zip(parts, decode_block(data), strict=True):
        assert back.topic_partition == one.topic_partition
        assert list(back.symbols) == list(one.symbols)
        assert [column.tolist() for column in back.entries] == [column.tolist() for column in one.entries]


@pytest.mark.parametrize("data", [b"", b"x" * 100])
def test_other_bytes_are_refused(data: bytes) -> None:
    """They are not a block."""
    with pytest.raises(ValueError, match=r"^not a block of ids: "):
        decode_block(data)


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=400))
def test_blocks_are_few_and_ids_are_written_a_few_times(news: list[int]) -> None:
    """Each level has fewer than `BLOCKS_MERGED` blocks, and an id is written once for each level at most."""
    counts, written = list[int](), 0
    for new in news:
        taken = _count_merged(counts, new)
        counts[len(counts) - taken :] = [new + sum(counts[len(counts) - taken :])]
        written += counts[-1]
    levels = MERGED_IDS_MAX.bit_length() // 3 + 1
    assert sum(counts) == sum(news)
    assert len([one for one in counts if one < MERGED_IDS_MAX]) <= BLOCKS_MERGED * levels
    assert written <= levels * sum(news)


@pytest.mark.parametrize(
    ("counts", "new", "taken"),
    [
        ([], 5, 0),
        ([1] * 6, 1, 0),
        ([1] * 7, 1, 7),
        ([9, *[1] * 7], 1, 7),
        ([*[9] * 7, *[1] * 7], 1, 14),
        ([1] * 7, 500, 7),
        ([500, *[1] * 7], 2, 7),
        ([1] * 7, MERGED_IDS_MAX, 0),
        ([*[1] * 3, MERGED_IDS_MAX, *[1] * 6], 1, 0),
    ],
)
def test_which_blocks_a_new_one_takes_in(counts: list[int], new: int, taken: int) -> None:
    """The newest ones that are not larger in magnitude, if there are enough of them."""
    assert _count_merged(counts, new) == taken


def test_only_new_ids_are_written() -> None:
    """A second checkpoint refers to the block of the first; without new ids it adds none."""
    deduplicator, store = GroupDeduplicator(WINDOW), Store()
    judged(deduplicator, [at(1_000, str(number)) for number in range(50)])
    first = store.take(deduplicator)
    judged(deduplicator, [at(1_001, str(number)) for number in range(45, 55)])
    second = store.take(deduplicator)
    assert [one.count for one in second.blocks] == [50, 5]
    assert second.blocks[0] == first.blocks[0]
    assert deduplicator.seal() == (second, None)
    assert store.written.keys() == {one.digest for one in second.blocks}
    assert all(digest(store.written[one.digest]) == one.digest for one in second.blocks)


def test_expired_blocks_are_left_out() -> None:
    """Once all of its ids have expired; until then a block has some that a start leaves out."""
    deduplicator, store = GroupDeduplicator(WINDOW), Store()
    for start in (1_000, 1_100):
        judged(deduplicator, [at(start, f"{start}-{number}") for number in range(CONFIRMATIONS)])
        store.take(deduplicator)
    for time in range(1_200, 1_311, 10):
        judged(deduplicator, [at(time, f"n{time}")])
    sealed = store.take(deduplicator)
    assert [one.count for one in sealed.blocks] == [12]
    assert len(store.restored(sealed, deduplicator.snapshot())) == len(deduplicator)


def test_a_restored_group_knows_its_ids() -> None:
    """Duplicates, conflicts and other trades are judged as before, in other partitions as well."""
    deduplicator, store = GroupDeduplicator(WINDOW), Store()
    judged(deduplicator, [at(1_000, "0")])
    judged(deduplicator, [at(1_010, "1")], partition=1)
    sealed = store.take(deduplicator)
    judged(deduplicator, [at(1_020, "2")])
    after = store.restored(sealed, deduplicator.snapshot())
    rows = [at(1_030, "0"), at(1_030, "1", price=2), at(1_030, "2"), at(1_101, "0")]
    assert judged(after, rows, partition=2) == [DUPLICATE, CONFLICT, STORED, STORED]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60),
            st.integers(0, WINDOW),
            st.integers(0, 9),
            st.integers(1, 2),
            st.integers(0, 2),
            st.sampled_from(["", "", "checkpoint", "restart"]),
        ),
        max_size=60,
    )
)
def test_restarts_from_checkpoints_change_no_verdict(
    steps: list[tuple[int, int, int, int, int, str]],
) -> None:
    """A group restored from a checkpoint, the clocks of then, and the ids since, judges as one that never ended."""
    plain, deduplicator, store = GroupDeduplicator(WINDOW), GroupDeduplicator(WINDOW), Store()
    sealed, state = store.take(deduplicator), deduplicator.snapshot()
    since: list[tuple[Row, int]] = []
    clock = 1_000
    for forward, back, number, price, partition, event in steps:
        clock += forward
        row = at(clock - back, str(number), price)
        (verdict,) = judged(plain, [row], partition)
        assert judged(deduplicator, [row], partition) == [verdict]
        if verdict == STORED:
            since.append((row, partition))
        if event == "checkpoint":
            sealed, state, since = store.take(deduplicator), deduplicator.snapshot(), []
        elif event == "restart":
            deduplicator = store.restored(sealed, state)
            for stored, of in since:
                judged(deduplicator, [stored], of)

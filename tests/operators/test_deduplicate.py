"""The deduplication step: its metric, its state, and when it reads the ids in the table."""

from collections.abc import Iterable

from k2.dedup.trade_id_hash import KEY_BYTES, TradeIdHasher
from k2.dedup.window import CONFIRMATIONS
from k2.model.state_source import NO_STATE_SOURCE, StoredIds
from k2.model.symbols import Symbols
from k2.model.verdicts import DUPLICATE
from k2.ops.metrics import DEDUP_IDS
from operators.deduplicate import _DeduplicateLogic
from tests.model.trade_slices import Row, slice_of, stored_ids

WINDOW = 100


def rows_at(time: int, count: int) -> list[Row]:
    """Return trades of different ids."""
    return [Row(trade_id=f"{time}-{number}", kafka_timestamp=time) for number in range(count)]


def ids_metric() -> float:
    """Return the metric's value."""
    return DEDUP_IDS._value.get()


def test_metric_counts_the_ids_held() -> None:
    """`k2_dedup_ids` rises by the ids of each key group, and falls as ids expire."""
    before = ids_metric()
    logics = [
        _DeduplicateLogic(WINDOW, NO_STATE_SOURCE, TradeIdHasher(Symbols(), bytes(KEY_BYTES)), None) for _ in range(2)
    ]
    for logic in logics:
        logic.on_batch([slice_of(rows_at(1_000, CONFIRMATIONS + 20))])
    assert ids_metric() - before == 2 * (CONFIRMATIONS + 20)
    logics[0].on_batch([slice_of([*rows_at(1_000, 3), *rows_at(1_100, 1)])])
    assert ids_metric() - before == 2 * (CONFIRMATIONS + 20) + 1
    logics[0].on_batch([slice_of([*rows_at(1_200, 1), *rows_at(1_210, 1)])])
    assert ids_metric() - before == CONFIRMATIONS + 20 + 3


class Table:
    """A state source that contains one trade and records its calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, bool]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(NO_STATE_SOURCE, name)

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[StoredIds]:
        """Return the trade."""
        self.asked.append((group, window_us, is_resumed))
        return [stored_ids([Row(trade_id="stored", kafka_timestamp=1_000)], reached=1_000)]


def test_ids_in_the_table_are_read_once_before_the_first_row() -> None:
    """At every start, resumed or not, the table's ids are read once, and count as stored and as held."""
    before, state = ids_metric(), None
    for is_resumed in (False, True):
        table = Table()
        logic = _DeduplicateLogic(WINDOW, table, TradeIdHasher(Symbols(), bytes(KEY_BYTES)), state)  # type: ignore[arg-type]
        for _ in range(2):
            (piece,), _ = logic.on_batch([slice_of([Row(trade_id="stored", kafka_timestamp=1_050)])])
            assert piece.verdicts.tolist() == [DUPLICATE]
        assert table.asked == [(0, WINDOW, is_resumed)]
        state = logic.snapshot()
    assert ids_metric() - before == 2

"""Streams of rows for tests: anything that a feed may send, with varied content, ids and times."""

from collections import defaultdict
from typing import Final

from hypothesis import strategies as st

from k2.model.batch import NULL_TIME
from tests.model.trade_slices import Row

__all__ = ["HOUR", "NAMES", "anything", "bounded", "crowded", "long_ago", "markets", "stormy", "streams", "timed"]

MIN, MAX = -(2**63), 2**63 - 1
HOUR: Final = 3_600_000_000
NAMES: Final = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])
_SEQUENCES: Final = st.one_of(
    st.none(), st.integers(0, 12), st.integers(0, 12), st.sampled_from([MIN, MIN + 1, -1, MAX - 1, MAX])
)
_TIMES: Final = st.one_of(st.integers(0, 8), st.sampled_from([4_999_999, 5_000_000, 5_000_008, 11_000_000]))
_CLOCKS: Final = st.sampled_from(["none", "near", "near", "far"])
_IDS: Final = st.sampled_from([None, None, "{}", "id {}", "other {}"])


def timed(at: int, clock: str) -> dict[str, int]:
    """Return the two times of a row that is ordered by `at`; its Kafka time is absent, near, or an hour behind."""
    if clock == "none":
        return {"timestamp": at, "kafka_timestamp": NULL_TIME}
    return {"timestamp": at + HOUR * (clock == "far"), "kafka_timestamp": at + 3 * (clock == "near")}


@st.composite
def anything(draw: st.DrawFn) -> list[Row]:
    """Generate rows of any number, time, price and id."""
    rows = draw(st.lists(st.tuples(_SEQUENCES, _TIMES, NAMES, st.integers(1, 2), _CLOCKS, _IDS), max_size=40))
    return [
        Row(
            sequence,
            symbol=symbol,
            exchange=exchange,
            price=price,
            trade_id=None if trade_id is None else trade_id.format(sequence),
            **timed(at, clock),
        )
        for sequence, at, (exchange, symbol), price, clock, trade_id in rows
    ]


@st.composite
def markets(draw: st.DrawFn) -> list[Row]:
    """Generate rows that mostly continue, with gaps, copies, corrections, stragglers and restarts."""
    step = st.tuples(NAMES, st.integers(0, 15), st.integers(0, 3), _CLOCKS, st.sampled_from([1, 1, 1, 2_000_000]))
    rows, now = list[Row](), 0
    numbers, prices = defaultdict[tuple[str, str], int](int), defaultdict[tuple[str, str], int](lambda: 1)
    is_named = draw(st.booleans())
    for name, action, amount, clock, unit in draw(st.lists(step, max_size=60)):
        now += amount * unit
        numbers[name] += 1
        if action == 0:
            numbers[name] += amount
        elif action == 1:
            numbers[name] = amount
            prices[name] += 1
        number, at, price = numbers[name], now, prices[name]
        if action in {2, 3}:
            number, at = number - amount, at - action * amount
        elif action == 4:
            price = max(price - amount, 1)
        elif action == 5:
            number, price = number - amount, 7
        trade_id = f"{price}-{number}" if is_named else str(number)
        rows.append(Row(number, symbol=name[1], exchange=name[0], price=price, trade_id=trade_id, **timed(at, clock)))
        if action in {6, 7} and len(rows) > 5 * amount:
            old = rows[-1 - 5 * amount]
            rows.append(old if action == 6 else old._replace(**timed(now, clock)))
    return rows


@st.composite
def crowded(draw: st.DrawFn) -> list[Row]:
    """Generate rows of one symbol with so few numbers, times and prices that all of them coincide."""
    trades = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 2)), max_size=25))
    return [Row(sequence, at, price=price) for sequence, at, price in trades]


@st.composite
def long_ago(draw: st.DrawFn) -> list[Row]:
    """Generate many rows in order, perhaps a restart, then some rows again with this content or another."""
    count = draw(st.integers(200, 600))
    restarted = draw(st.integers(0, 300))
    again = draw(
        st.lists(st.tuples(st.integers(1, count), st.integers(1, 3), st.sampled_from([0, 1, 2_000])), max_size=20)
    )
    return [
        *(Row(number, number) for number in range(1, count + 1)),
        *(Row(number, count + number, price=2) for number in range(1, restarted + 1)),
        *(Row(number, number + later, price=price) for number, price, later in again),
        *(Row(number, count + number, price=2) for number in range(restarted + 1, restarted + 20)),
    ]


@st.composite
def stormy(draw: st.DrawFn) -> list[Row]:
    """Generate rows of which many are lost, late or copies, after an earlier session or none."""
    count, reach, lost = draw(st.integers(1, 250)), draw(st.sampled_from([1, 3, 40, 100])), draw(st.integers(0, 80))
    random = draw(st.randoms(use_true_random=False))
    before = draw(st.sampled_from([0, 0, 5, 100, 400]))
    rows = [Row(number, number) for number in range(1, before + 1)]
    arrivals = sorted((number + random.randrange(reach), number) for number in range(1, count + 1))
    for at, number in arrivals:
        if random.randrange(100) >= lost:
            rows.append(Row(number, before + 1 + random.choice([at, number]), price=2))
        if rows and not random.randrange(6):
            rows.append(random.choice(rows))
    return rows


def bounded() -> st.SearchStrategy[list[Row]]:
    """Generate rows whose numbers are near each other, so that missing ones can be counted one by one."""
    return st.one_of(markets(), crowded(), long_ago(), stormy())


def streams() -> st.SearchStrategy[list[Row]]:
    """Generate rows of any of these kinds."""
    return st.one_of(anything(), bounded())

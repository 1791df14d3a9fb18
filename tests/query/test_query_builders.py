"""The query builders: their results equal a few lines of plain Python over the same trades."""

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryError, QueryMemoryError, QueryTimeoutError
from k2.query.market import Market, open_market
from k2.query.parameters import RowsFields
from k2.query.pool import Pool, open_engine
from k2.query.query_builders import TradesQuery, latest, ohlcv, symbols, trades, twap, vwap
from k2.query.tables import NoTableError
from tests.query.tables import EPOCH, append, made, trade

Row = dict[str, Any]
QUESTIONS: dict[str, Callable[..., TradesQuery]] = {
    "symbols": symbols,
    "trades": trades,
    "latest": latest,
    "ohlcv": ohlcv,
    "vwap": vwap,
    "twap": twap,
    "vwap by bars": partial(vwap, interval="1h"),
    "twap by bars": partial(twap, interval="1h"),
}
HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE trades; --",
    '" OR ""="',
    "x' UNION SELECT * FROM read_csv('/etc/passwd') --",
    "$exchange",
    "%",
    "_TC",
    "BTC\x00USD",
    "${jndi:ldap}",
    "🚀",
    "\\'; SELECT 1",
    "NULL",
]


def traded(second: float, price: str, quantity: str = "1", symbol: str = "BTC", exchange: str = "x") -> Row:
    """Return a trade at a second; its number and offset are those of the millisecond."""
    number = int(second * 1_000)
    timestamp = EPOCH + timedelta(seconds=second)
    return trade(number, exchange, symbol, timestamp=timestamp, price=Decimal(price), quantity=Decimal(quantity))


ROWS = [
    traded(0, "10", "1"),
    traded(59.999, "12.5", "3"),
    traded(60, "11", "2"),
    traded(150, "9", "4"),
    traded(30, "7", "5", "ETH"),
    traded(10, "1", "1", "BTC", "y"),
]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Yield a market with the few trades above, in two commits."""
    options = Settings(data_dir=tmp_path_factory.mktemp("market"))
    table = made(options, TableName.TRADES)
    append(table, ROWS[:2])
    append(table, ROWS[2:])
    with open_market(options) as opened:
        yield opened


def at(second: float) -> datetime:
    """Return the time of a second."""
    return EPOCH + timedelta(seconds=second)


def rows_of(market: Market, question: TradesQuery) -> list[Row]:
    """Return the rows of a result."""
    rows: list[Row] = market.table(question).to_pylist()
    return rows


def test_symbols(market: Market) -> None:
    """Each exchange and symbol once, with its count."""
    found = [(row["exchange"], row["symbol"], row["trades"]) for row in rows_of(market, symbols())]
    assert found == [("x", "BTC", 4), ("x", "ETH", 1), ("y", "BTC", 1)]


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({}, [0, 10_000, 30_000, 59_999, 60_000, 150_000]),
        ({"exchange": "x", "symbol": "BTC"}, [0, 59_999, 60_000, 150_000]),
        ({"start": at(10), "end": at(60)}, [10_000, 30_000, 59_999]),
        ({"start": "2024-08-09T00:01:00Z"}, [60_000, 150_000]),
        ({"start": "2024-08-09", "end": "2024-08-10", "limit": 2}, [0, 10_000]),
        ({"end": "2024-08-09"}, []),
        ({"symbol": "btc"}, []),
    ],
)
def test_trades(market: Market, fields: RowsFields, numbers: list[int]) -> None:
    """The requested ones, from the start (inclusive) to the end (exclusive), oldest first, all columns as stored."""
    found = rows_of(market, trades(**fields))
    assert [row["sequence"] for row in found] == numbers
    assert all(row in ROWS for row in found)


def test_latest(market: Market) -> None:
    """One of each symbol, the last by venue time."""
    assert [row["sequence"] for row in rows_of(market, latest())] == [150_000, 30_000, 10_000]
    assert [row["sequence"] for row in rows_of(market, latest(end=at(60), symbol="BTC"))] == [59_999, 10_000]


def test_ohlcv(market: Market) -> None:
    """A bar covers trades from its start (inclusive) to the next (exclusive); prices and volume are exact."""
    (first, second, third) = rows_of(market, ohlcv(exchange="x", symbol="BTC"))
    prices = ("open", "high", "low", "close")
    assert [first[name] for name in prices] == [Decimal(text) for text in ("10", "12.5", "10", "12.5")]
    assert [second[name] for name in prices] == [Decimal(11)] * 4
    assert [row["start"] for row in (first, second, third)] == [at(0), at(60), at(120)]
    assert [(row["volume"], row["trades"]) for row in (first, second, third)] == [(4, 2), (2, 1), (4, 1)]
    assert first["vwap"] == pytest.approx((10 + 3 * 12.5) / 4)
    (whole,) = rows_of(market, ohlcv(exchange="x", symbol="BTC", interval="1w"))
    assert whole["start"] == datetime.fromisoformat("2024-08-05T00:00:00Z"), "a week begins on Monday"


def test_average_prices(market: Market) -> None:
    """By quantity: sum of price times quantity over sum of quantities; by time: how long each price was valid."""
    (row,) = rows_of(market, vwap(exchange="x", symbol="BTC"))
    assert row["vwap"] == pytest.approx((10 + 37.5 + 22 + 36) / 10)
    assert (row["volume"], row["trades"]) == (10, 4)
    (row,) = rows_of(market, twap(exchange="x", symbol="BTC"))
    assert row["twap"] == pytest.approx((10 * 59.999 + 12.5 * 0.001 + 11 * 90) / 150)
    (row,) = rows_of(market, twap(exchange="x", symbol="BTC", end=at(200)))
    assert row["twap"] == pytest.approx((10 * 59.999 + 12.5 * 0.001 + 11 * 90 + 9 * 50) / 200)
    (row,) = rows_of(market, twap(exchange="x", symbol="ETH"))
    assert row["twap"] == 7, "of a single trade it is its price"


def test_a_price_over_billions_of_bars_meets_the_limits(tmp_path: Path) -> None:
    """Bars are generated lazily, so that the time limit ends them, and no list of all is built."""
    limited = Settings(data_dir=tmp_path, query_timeout_seconds=0.5)
    append(made(limited, TableName.TRADES), [trade(1)])
    with open_market(limited) as market, pytest.raises((QueryTimeoutError, QueryMemoryError)):
        market.table(twap(interval="1ms", end=EPOCH + timedelta(days=365)))


def test_a_price_continues_into_the_next_bars(market: Market) -> None:
    """Also over a bar without a trade of its own."""
    found = rows_of(market, twap(exchange="x", symbol="BTC", interval="30s", end=at(180)))
    assert [(row["start"], row["trades"]) for row in found] == [
        (at(0), 1),
        (at(30), 1),
        (at(60), 1),
        (at(90), 0),
        (at(120), 0),
        (at(150), 1),
    ]
    values = [row["twap"] for row in found]
    assert values == pytest.approx([10, (10 * 29.999 + 12.5 * 0.001) / 30, 11, 11, 11, 9])


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("field", ["exchange", "symbol"])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_is_taken_literally(market: Market, kind: str, field: str, text: str) -> None:
    """It is searched for literally, and not found."""
    assert rows_of(market, QUESTIONS[kind](**{field: text})) == []


@given(
    st.sampled_from(list(QUESTIONS)),
    st.sampled_from(["exchange", "symbol"]),
    st.text(st.characters(codec="utf-8"), max_size=30),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_matches_only_equal_names(market: Market, kind: str, field: str, text: str) -> None:
    """Any text is either an invalid name, or selects exactly the rows with that name."""
    try:
        question = QUESTIONS[kind](**{field: text})
    except QueryError:
        assert not text, "any other is a name"
    else:
        assert {row[field] for row in rows_of(market, question)} <= {text}


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("start", text) for text in ["", "yesterday", "1", "2024-13-01", "2024-08-09' OR 1=1", "\udcff"]),
        *(("as_of", text) for text in ["", "now", "0", "9" * 30, "-1", "1; SELECT 1"]),
        *(("limit", number) for number in [0, -1, 10**12, "many"]),
        *(("exchange", text) for text in ["", "\udcff", "x" * 2_000]),
    ],
)
def test_invalid_parameters_are_named(kind: str, field: str, value: object) -> None:
    """A wrong field is rejected by its name before anything is read."""
    with pytest.raises(QueryError, match=f"^{field}: "):
        QUESTIONS[kind](**{field: value})


@pytest.mark.parametrize("interval", ["", "1", "m", "0m", "-1m", "1 minute", "1mo", "1m; SELECT 1", "99999999w"])
def test_an_invalid_interval_is_named(interval: str) -> None:
    """Before anything is read."""
    for question in (ohlcv, vwap, twap):
        with pytest.raises(QueryError, match=r"^interval: "):
            question(interval=interval)


def test_an_empty_span_is_rejected() -> None:
    """A span whose end is not after its start is an error."""
    with pytest.raises(QueryError, match="start is not before end"):
        trades(start="2024-08-09", end="2024-08-09")


def test_an_earlier_time_or_snapshot(tmp_path: Path) -> None:
    """By id or by time: the rows of then, none before the first snapshot; an expired snapshot is an error."""
    options = Settings(data_dir=tmp_path)
    table = made(options, TableName.TRADES)
    append(table, ROWS[:2])
    first = table.current_snapshot()
    assert first is not None
    append(table, ROWS[2:])
    then = datetime.fromtimestamp(first.timestamp_ms / 1_000, EPOCH.tzinfo)
    with open_market(options) as market:
        counts = [
            market.table(trades(as_of=as_of)).num_rows
            for as_of in (first.snapshot_id, str(first.snapshot_id), then, "2020-01-01", None)
        ]
        assert counts == [2, 2, 2, 0, 6]
        with pytest.raises(QueryError, match=r"^as_of: table market_data\.trades has no snapshot 17"):
            market.table(trades(as_of=17))
        table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
        with pytest.raises(QueryError, match="has no snapshot as old as"):
            market.table(trades(as_of="2020-01-01"))


def test_forms_of_a_result(market: Market) -> None:
    """As Arrow or polars, as streamed rows, or as a relation for further queries: the same."""
    whole = market.table(trades())
    assert market.polars(trades()).to_arrow().to_pylist() == whole.to_pylist()
    with market.rows(trades()) as rows:
        assert [row for batch in rows.batches for row in batch.to_pylist()] == whole.to_pylist()
    with market.relation(trades()) as relation:
        assert relation.filter("symbol = 'ETH'").aggregate("count(*) AS n").fetchall() == [(1,)]


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    """Once the job has created it, the same market returns rows."""
    options = Settings(data_dir=tmp_path)
    with open_market(options) as market:
        with pytest.raises(NoTableError, match="K2_DATA_DIR"):
            market.table(symbols())
        append(made(options, TableName.TRADES), ROWS)
        assert market.table(symbols()).num_rows == 3


def test_files_deleted_meanwhile_are_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compaction between planning and reading is not an error: the result is that of the new files."""
    options = Settings(data_dir=tmp_path)
    table = made(options, TableName.TRADES)
    append(table, ROWS)
    planned = list(tmp_path.rglob("*.parquet"))
    with Pool(options) as pool:
        market = Market(pool)
        _then(monkeypatch, lambda: (table.overwrite(table.scan().to_arrow()), [file.unlink() for file in planned]))
        assert market.table(trades()).num_rows == len(ROWS)


ODD_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "exchange": st.sampled_from("xy"),
            "symbol": st.sampled_from(["BTC", "ETH"]),
            "timestamp": st.sampled_from([at(0), at(59.999999), at(60), at(61)]),
            "session": st.sampled_from([None, 0, 1]),
            "sequence": st.sampled_from([None, -1, 1, 2]),
            "topic": st.sampled_from("tu"),
            "partition": st.integers(0, 1),
            "price": st.decimals("0.000000000000000001", "99999999999999999999", places=18),
            "quantity": st.decimals("0", "99999999999", places=18),
        }
    ),
    min_size=1,
    max_size=12,
)


def order_key(row: Row) -> tuple[Any, ...]:
    """Return a sort key that orders the trades of a symbol."""
    numbers = (row["session"] or 0, row["sequence"] or 0)
    return (row["timestamp"], *numbers, row["topic"], row["partition"], row["offset"], row["index"])


@pytest.fixture(scope="module")
def schema(market: Market) -> pa.Schema:
    """Return the columns of trades."""
    return market.table(trades(limit=1)).schema


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Yield an engine without tables."""
    with open_engine(Settings()) as opened:
        yield opened


@given(ODD_ROWS)
@settings(max_examples=30)
def test_ties_and_nulls(engine: Engine, schema: pa.Schema, drawn: list[Row]) -> None:
    """Among trades of one time the first and last are by number, then by Kafka's; averages are the nearest doubles."""
    rows = [trade(number) | row for number, row in enumerate(drawn)]
    engine.clear()
    engine.register_arrow("trades", pa.Table.from_pylist(rows, schema=schema))
    by_symbol = grouped(rows, lambda row: (row["exchange"], row["symbol"]))
    last = [max(found, key=order_key) for _, found in by_symbol]
    assert engine.query(latest().sql) == last
    assert engine.query(latest(limit=1).sql, {"limit": 1}) == last[:1]
    bars = grouped(
        rows, lambda row: (row["exchange"], row["symbol"], row["timestamp"].replace(second=0, microsecond=0))
    )
    found = engine.query(ohlcv().sql, ohlcv().parameters)
    assert [(row["exchange"], row["symbol"], row["start"]) for row in found] == [key for key, _ in bars]
    for row, (_, of_bar) in zip(found, bars, strict=True):
        prices = [one["price"] for one in sorted(of_bar, key=order_key)]
        assert [row[name] for name in ("open", "high", "low", "close")] == [
            prices[0],
            max(prices),
            min(prices),
            prices[-1],
        ]
        weights = sum(Fraction(one["quantity"]) for one in of_bar)
        assert Fraction(row["volume"]) == weights
        turnover = sum(Fraction(one["price"]) * Fraction(one["quantity"]) for one in of_bar)
        assert row["vwap"] == (pytest.approx(float(turnover / weights), rel=1e-14) if weights else None)


def grouped(rows: list[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """Return the rows of each key, in the order of the keys."""
    return [(one, [row for row in rows if key(row) == one]) for one in sorted({*map(key, rows)})]


@given(st.lists(st.decimals(-(10**20) + 1, 10**20 - 1, places=18), min_size=1, max_size=50))
@settings(max_examples=30)
def test_a_price_is_the_nearest_double(engine: Engine, schema: pa.Schema, prices: list[Decimal]) -> None:
    """Over the whole of decimal(38, 18), within one unit of the last bit."""
    engine.clear()
    rows = [trade(number, symbol=f"{number:02}") | {"price": price} for number, price in enumerate(prices)]
    engine.register_arrow("trades", pa.Table.from_pylist(rows, schema=schema))
    question = twap()
    for row, price in zip(engine.query(question.sql, question.parameters), prices, strict=True):
        assert abs(row["twap"] - float(price)) <= math.ulp(float(price))


def _then(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Run something once, after the next view is created."""
    import k2.query.market as module  # noqa: PLC0415

    show, acts = module.register_table, [act]

    def shown(*arguments: Any) -> None:
        show(*arguments)
        if acts:
            acts.pop()()

    monkeypatch.setattr(module, "register_table", shown)

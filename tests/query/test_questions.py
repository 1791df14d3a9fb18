"""The questions: what they answer is what a few lines of plain Python say of the same trades."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.iceberg.tables import TableName
from query.asked import Some
from query.engine import QueryError
from query.market import Market, open_market
from query.pool import Pool
from query.questions import Question, latest, ohlcv, symbols, trades, twap, vwap
from query.tables import NoTableError
from runtime.settings import Settings
from tests.query.tables import EPOCH, append, made, trade

Row = dict[str, Any]
QUESTIONS: dict[str, Callable[..., Question]] = {
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
    """Make a trade at a second; its number and offset are that of the millisecond."""
    number = int(second * 1_000)
    times = {"timestamp": EPOCH + timedelta(seconds=second)}
    return trade(number, exchange, symbol) | {"price": Decimal(price), "quantity": Decimal(quantity)} | times


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
    """Give a market with the few trades above, in two commits."""
    options = Settings(data_dir=tmp_path_factory.mktemp("market"))
    table = made(options, TableName.TRADES)
    append(table, ROWS[:2])
    append(table, ROWS[2:])
    with open_market(options) as opened:
        yield opened


def at(second: float) -> datetime:
    """Give the time of a second."""
    return EPOCH + timedelta(seconds=second)


def asked(market: Market, question: Question) -> list[Row]:
    """Give the answer's rows."""
    rows: list[Row] = market.table(question).to_pylist()
    return rows


def test_symbols(market: Market) -> None:
    """Each exchange and symbol once, with its count."""
    found = [(row["exchange"], row["symbol"], row["trades"]) for row in asked(market, symbols())]
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
def test_trades(market: Market, fields: Some, numbers: list[int]) -> None:
    """Those asked for, from the start on and before the end, the oldest first, with all columns as stored."""
    found = asked(market, trades(**fields))
    assert [row["sequence"] for row in found] == numbers
    assert all(row in ROWS for row in found)


def test_latest(market: Market) -> None:
    """One of each symbol, the last by venue time."""
    assert [row["sequence"] for row in asked(market, latest())] == [150_000, 30_000, 10_000]
    assert [row["sequence"] for row in asked(market, latest(end=at(60), symbol="BTC"))] == [59_999, 10_000]


def test_ohlcv(market: Market) -> None:
    """A bar is of the trades from its start on and before the next; prices and volume are exact."""
    (first, second, third) = asked(market, ohlcv(exchange="x", symbol="BTC"))
    prices = ("open", "high", "low", "close")
    assert [first[name] for name in prices] == [Decimal(text) for text in ("10", "12.5", "10", "12.5")]
    assert [second[name] for name in prices] == [Decimal(11)] * 4
    assert [row["start"] for row in (first, second, third)] == [at(0), at(60), at(120)]
    assert [(row["volume"], row["trades"]) for row in (first, second, third)] == [(4, 2), (2, 1), (4, 1)]
    assert first["vwap"] == pytest.approx((10 + 3 * 12.5) / 4)
    (whole,) = asked(market, ohlcv(exchange="x", symbol="BTC", interval="1w"))
    assert whole["start"] == datetime.fromisoformat("2024-08-05T00:00:00Z"), "a week begins on Monday"


def test_average_prices(market: Market) -> None:
    """By quantity: the sum of price times quantity over that of quantities; by time: how long each price held."""
    (row,) = asked(market, vwap(exchange="x", symbol="BTC"))
    assert row["vwap"] == pytest.approx((10 + 37.5 + 22 + 36) / 10)
    assert (row["volume"], row["trades"]) == (10, 4)
    (row,) = asked(market, twap(exchange="x", symbol="BTC"))
    assert row["twap"] == pytest.approx((10 * 59.999 + 12.5 * 0.001 + 11 * 90) / 150)
    (row,) = asked(market, twap(exchange="x", symbol="BTC", end=at(200)))
    assert row["twap"] == pytest.approx((10 * 59.999 + 12.5 * 0.001 + 11 * 90 + 9 * 50) / 200)
    (row,) = asked(market, twap(exchange="x", symbol="ETH"))
    assert row["twap"] == 7, "of a single trade it is its price"


def test_a_price_holds_into_the_next_bars(market: Market) -> None:
    """Also over a bar without a trade of its own."""
    found = asked(market, twap(exchange="x", symbol="BTC", interval="30s", end=at(180)))
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
def test_a_hostile_name_is_a_name(market: Market, kind: str, field: str, text: str) -> None:
    """It is looked for as it is, and found nowhere."""
    assert asked(market, QUESTIONS[kind](**{field: text})) == []


@given(
    st.sampled_from(list(QUESTIONS)),
    st.sampled_from(["exchange", "symbol"]),
    st.text(st.characters(codec="utf-8"), max_size=30),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_finds_what_it_equals(market: Market, kind: str, field: str, text: str) -> None:
    """Whatever is asked for: either it is no name, or the rows are those that bear it."""
    try:
        question = QUESTIONS[kind](**{field: text})
    except QueryError:
        assert not text, "any other is a name"
    else:
        assert {row[field] for row in asked(market, question)} <= {text}


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
def test_what_cannot_be_meant_is_named(kind: str, field: str, value: object) -> None:
    """A field that is wrong is refused by its name, before anything is read."""
    with pytest.raises(QueryError, match=f"^{field}: "):
        QUESTIONS[kind](**{field: value})


@pytest.mark.parametrize("interval", ["", "1", "m", "0m", "-1m", "1 minute", "1mo", "1m; SELECT 1", "99999999w"])
def test_what_is_no_interval_is_named(interval: str) -> None:
    """As above."""
    for question in (ohlcv, vwap, twap):
        with pytest.raises(QueryError, match=r"^interval: "):
            question(interval=interval)


def test_nothing_between_start_and_end_is_told() -> None:
    """Nor is a span that is none."""
    with pytest.raises(QueryError, match="start is not before end"):
        trades(start="2024-08-09", end="2024-08-09")


def test_an_earlier_time_or_snapshot(tmp_path: Path) -> None:
    """By id or by time: what was there then; before the first snapshot nothing was; what is not kept is told."""
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
        with pytest.raises(QueryError, match=r"^as_of: table market_data\.trades keeps no snapshot 17"):
            market.table(trades(as_of=17))
        table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
        with pytest.raises(QueryError, match="keeps no snapshot as old as"):
            market.table(trades(as_of="2020-01-01"))


def test_forms_of_an_answer(market: Market) -> None:
    """Whole as Arrow or polars, as rows that come, or as a relation to ask more of: the same."""
    whole = market.table(trades())
    assert market.polars(trades()).to_arrow().to_pylist() == whole.to_pylist()
    with market.rows(trades()) as rows:
        assert [row for batch in rows.batches for row in batch.to_pylist()] == whole.to_pylist()
    with market.relation(trades()) as relation:
        assert relation.filter("symbol = 'ETH'").aggregate("count(*) AS n").fetchall() == [(1,)]


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    """And once the job has made it, the same market answers."""
    options = Settings(data_dir=tmp_path)
    with open_market(options) as market:
        with pytest.raises(NoTableError, match="K2_DATA_DIR"):
            market.table(symbols())
        append(made(options, TableName.TRADES), ROWS)
        assert market.table(symbols()).num_rows == 3


def test_files_that_go_meanwhile_are_planned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compaction between planning and reading is no error: the answer is of the table that came of it."""
    options = Settings(data_dir=tmp_path)
    table = made(options, TableName.TRADES)
    append(table, ROWS)
    planned = list(tmp_path.rglob("*.parquet"))
    with Pool(options) as pool:
        market = Market(pool)
        _then(monkeypatch, lambda: (table.overwrite(table.scan().to_arrow()), [file.unlink() for file in planned]))
        assert market.table(trades()).num_rows == len(ROWS)


def _then(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, after the next view is made."""
    import query.market as module  # noqa: PLC0415

    show, acts = module.show_table, [act]

    def shown(*arguments: Any) -> None:
        show(*arguments)
        if acts:
            acts.pop()()

    monkeypatch.setattr(module, "show_table", shown)

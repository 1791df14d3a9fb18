"""Free SQL: it can query the tables and do nothing else."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import QueryError, QueryTimeoutError
from k2.query.market import Market, open_market
from tests.model.dead_letters import dead_letter
from tests.query.tables import EPOCH, append, event, made, progress, set_progress, trade, write_letters

ONLY_SELECT = "only SELECT"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tables of two trades and one event, and a dead letter."""
    folder = tmp_path_factory.mktemp("sandbox")
    options = Settings(data_dir=folder)
    table = made(options, TableName.TRADES)
    append(table, [trade(1), trade(2, symbol="ETHUSDT")])
    append(made(options, TableName.SEQUENCE_EVENTS), [event("gap_opened", 3, 4)])
    set_progress(table, progress(offset=3, received=3, stored=2, dead_letters=1))
    write_letters(options, [dead_letter(0)])
    return folder


@pytest.fixture(scope="module")
def market(folder: Path) -> Iterator[Market]:
    """Yield a market on these tables."""
    with open_market(Settings(data_dir=folder, query_timeout_seconds=10)) as opened:
        yield opened


def answered(market: Market, sql: str, as_of: int | datetime | None = None) -> list[dict[str, Any]]:
    """Return the rows of a statement."""
    with market.sql(sql, as_of) as rows:
        return [row for batch in rows.batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT count(*) AS n FROM trades", [{"n": 2}]),
        ("FROM trades SELECT symbol ORDER BY symbol DESC LIMIT 1;", [{"symbol": "ETHUSDT"}]),
        ("WITH a AS (SELECT * FROM trades) SELECT count(*) AS n FROM a JOIN A AS b USING (symbol)", [{"n": 2}]),
        ("SELECT sum(missing)::BIGINT AS n FROM sequence_events", [{"n": 2}]),
        ("SELECT t.symbol FROM TRADES t, sequence_events e WHERE t.exchange = e.exchange ORDER BY ALL LIMIT 1", None),
        ('SELECT reason, "offset" FROM dead_letters', [{"reason": "malformed", "offset": 0}]),
        ("SELECT unnest([1, 2]) AS n", [{"n": 1}, {"n": 2}]),
        ("SELECT range AS n FROM range(2) UNION ALL SELECT 7 ORDER BY n", [{"n": 0}, {"n": 1}, {"n": 7}]),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT max(n) AS n FROM r",
            [{"n": 3}],
        ),
        ("SELECT column_name FROM (DESCRIBE trades) LIMIT 1", [{"column_name": "exchange"}]),
        (
            "WITH a AS (SELECT 1 AS n), b AS (FROM a) SELECT (WITH c AS (FROM B) SELECT C.n FROM C, a AS d) AS n",
            None,
        ),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION (WITH s AS (FROM r) SELECT n + 1 FROM s WHERE n < 2)) FROM r", None),
        (
            "WITH a AS (SELECT 1) FROM a UNION ALL (WITH b AS (FROM a) FROM b)",
            None,
        ),
        ('WITH "a.b" AS (SELECT 1 AS n) SELECT n FROM trades JOIN "A.B" ON EXISTS (FROM "a.b") LIMIT 1', [{"n": 1}]),
        ("SELECT 'DROP TABLE trades; --' AS text", [{"text": "DROP TABLE trades; --"}]),
        ("SELECT " + "(" * 300 + "1" + ")" * 300 + " AS n", [{"n": 1}]),
    ],
)
def test_a_select_is_answered(market: Market, sql: str, answer: list[dict[str, Any]] | None) -> None:
    """In DuckDB's SQL, with the tables by their names."""
    found = answered(market, sql)
    assert answer is None or found == answer


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("COPY trades TO '/tmp/x.csv'", ONLY_SELECT),
        ("COPY (SELECT 1) TO '{file}'", ONLY_SELECT),
        ("ATTACH '/tmp/x.db'", ONLY_SELECT),
        ("INSTALL httpfs", ONLY_SELECT),
        ("LOAD httpfs", ONLY_SELECT),
        ("SET memory_limit = '1TB'", ONLY_SELECT),
        ("RESET memory_limit", ONLY_SELECT),
        ("PRAGMA version", ONLY_SELECT),
        ("CALL pragma_version()", ONLY_SELECT),
        ("CREATE TABLE x AS SELECT 1", ONLY_SELECT),
        ("CREATE MACRO f(x) AS x", ONLY_SELECT),
        ("INSERT INTO trades SELECT * FROM trades", ONLY_SELECT),
        ("DELETE FROM trades", ONLY_SELECT),
        ("DROP VIEW trades", ONLY_SELECT),
        ("EXPORT DATABASE '/tmp/x'", ONLY_SELECT),
        ("EXPLAIN ANALYZE SELECT 1", ONLY_SELECT),
        ("PREPARE p AS SELECT 1", ONLY_SELECT),
        ("USE main", ONLY_SELECT),
        ("CHECKPOINT", ONLY_SELECT),
        ("SELECT 1; SELECT 2", "SQL: 2 statements; send one at a time"),
        ("SELECT 1; DROP VIEW trades", ONLY_SELECT),
        ("", "SQL: 0 statements"),
        ("-- nothing", "SQL: 0 statements"),
        ("SELECT * FROM read_csv('/etc/passwd')", r"read_csv\(\) is not allowed"),
        ("SELECT * FROM READ_PARQUET('{file}')", r"read_parquet\(\) is not allowed"),
        ("SELECT * FROM trades WHERE symbol IN (SELECT content FROM read_text('/etc/passwd'))", r"read_text\(\)"),
        ("WITH x AS (SELECT * FROM glob('/*')) SELECT 1", r"glob\(\) is not allowed"),
        ("SELECT * FROM '/etc/passwd'", "unknown table '/etc/passwd'"),
        ('SELECT * FROM "{file}"', "unknown table"),
        ("SELECT * FROM other.main.trades", "unknown table 'other.main.trades'"),
        ("SELECT * FROM connection_1.trades", "unknown table"),
        ("SELECT * FROM information_schema.tables", "unknown table"),
        ('FROM (WITH "{file}" AS (SELECT 1) FROM "{file}") AS a, "{file}" AS b', "unknown table"),
        ('(WITH "{file}" AS (SELECT 1) SELECT 1) UNION ALL SELECT 1 FROM "{file}"', "unknown table"),
        ('WITH a AS (FROM "{file}"), "{file}" AS (SELECT 1) FROM a', "unknown table"),
        ('WITH "{file}" AS (FROM "{file}") FROM "{file}"', "unknown table"),
        ("WITH RECURSIVE x AS (FROM x) SELECT * FROM x", "unknown table 'x'"),
        (
            'WITH RECURSIVE "{file}" AS (SELECT "offset" FROM "{file}" UNION SELECT 1 FROM "{file}") FROM "{file}"',
            "unknown table",
        ),
        ('WITH "pg_catalog.pg_settings" AS (SELECT 1) FROM pg_catalog.pg_settings', "unknown table"),
        ('WITH "duc\u212adb_views" AS (SELECT 1) FROM duckdb_views', "unknown table 'duckdb_views'"),
        ("SELECT * FROM (SHOW ALL TABLES)", "SHOW is not allowed"),
        ("SHOW TABLES", "SHOW is not allowed"),
        ("SELECT * FROM duckdb_settings()", r"duckdb_settings\(\) is not allowed"),
        ("SELECT * FROM query('SELECT 1')", r"query\(\) is not allowed"),
        ("SELECT * FROM query_table('trades')", r"query_table\(\) is not allowed"),
        ("SELECT * FROM parquet_metadata('{file}')", r"parquet_metadata\(\) is not allowed"),
        ("SELECT getenv('HOME')", r"getenv\(\) is not allowed"),
        ("SELECT current_setting('temp_directory')", r"current_setting\(\) is not allowed"),
        ("SELECT main.current_setting('temp_directory')", r"current_setting\(\) is not allowed"),
        ("SELECT json_serialize_sql('SELECT 1')", r"json_serialize_sql\(\) is not allowed"),
        ("FROM connection_1.ohlcv('1h')", r"ohlcv\(\) is not allowed"),
        ("FROM main.ohlcv('1h')", r"ohlcv\(\) is not allowed"),
        ("FROM ohlcv((SELECT content FROM read_text('/etc/passwd')))", r"read_text\(\) is not allowed"),
        ("FROM ohlcv(current_setting('temp_directory'))", r"current_setting\(\) is not allowed"),
        ('WITH ohlcv AS (SELECT 1) FROM ohlcv, "{file}"', "unknown table"),
        ("WITH trades AS (FROM '{file}') FROM ohlcv('1h')", "unknown table"),
        ("FROM main.trades_derived", "unknown table 'main.trades_derived'"),
        ("SELECT vwap(vwap(price, quantity), quantity) FROM trades", r"vwap\(\) in the arguments of vwap\(\)"),
        ("SELECT vwap(1, (SELECT main.VWAP(2, 3))) FROM trades", r"vwap\(\) in the arguments of vwap\(\)"),
        ("SELECT vwap(price, quantity) OVER () FROM trades", r"vwap\(\) is a macro and takes no OVER"),
        ("CREATE OR REPLACE MACRO vwap(p, q) AS 1", ONLY_SELECT),
        ("DROP MACRO vwap", ONLY_SELECT),
        ("SELECT nothing FROM trades", "nothing"),
        ("SELECT * FROM trades WHERE symbol = $symbol", "SQL: "),
        ("SELECT 'x'::INTEGER", "SQL: Conversion Error"),
        ("SELECT FROM WHERE", "SQL: "),
        ("SELECT 1e400 FROM trades", "a number is too large"),
        (
            "SHOW DATABASES",
            "one of the tables commits, corrected_trades, corrections, dead_letters, quality, sequence_events",
        ),
        ("SELECT '\udcff'", "SQL: invalid UTF-8"),
        ("SELECT '" + "x" * 300_000 + "'", "SQL: statement too long: 300,009 bytes"),
    ],
)
def test_other_statements_are_rejected(market: Market, folder: Path, sql: str, why: str) -> None:
    """The error names what is forbidden, and nothing in the tables' folder changes."""
    (file,) = (folder / "warehouse/market_data/trades").rglob("*.parquet")
    before = file.read_bytes()
    with pytest.raises(QueryError, match=why):
        answered(market, sql.replace("{file}", str(file)))
    assert file.read_bytes() == before
    assert answered(market, "SELECT count(*) AS n FROM trades") == [{"n": 2}]


def is_taken(market: Market, sql: str) -> bool:
    """Return whether a statement is answered; every exception but a rejection propagates."""
    try:
        answered(market, sql)
    except QueryError:
        return False
    return True


@given(st.text(max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_answered_or_rejected(market: Market, text: str) -> None:
    """A text that is not a SELECT is rejected without another effect, and the next one is answered."""
    is_taken(market, f"SELECT {text}")
    is_taken(market, text)
    assert is_taken(market, "SELECT 1")


def test_a_deeply_nested_statement_does_not_crash(market: Market) -> None:
    """It is answered or rejected."""
    is_taken(market, "(" * 5_000 + "SELECT 1" + ")" * 5_000)
    is_taken(market, "SELECT " + "NOT " * 5_000 + "true")
    assert is_taken(market, "SELECT 1")


def test_the_time_limit_applies_to_free_sql(folder: Path) -> None:
    """As to every query."""
    with open_market(Settings(data_dir=folder, query_timeout_seconds=0.3)) as market, pytest.raises(QueryTimeoutError):
        answered(market, "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7")


def test_all_tables_are_as_of_one_time(tmp_path: Path) -> None:
    """As of a snapshot of the trades, the ledger and the dead letters are those of its time."""
    options = Settings(data_dir=tmp_path)
    table, ledger = made(options, TableName.TRADES), made(options, TableName.SEQUENCE_EVENTS)
    append(ledger, [event("gap_opened", 3, 4)])
    append(table, [trade(1)])
    first = table.current_snapshot()
    assert first is not None
    append(table, [trade(2)])
    append(ledger, [event("gap_filled", 3, 3)])
    counts = "SELECT (SELECT count(*) FROM trades) AS t, (SELECT count(*) FROM sequence_events) AS e"
    with open_market(options) as market:
        assert answered(market, counts) == [{"t": 2, "e": 2}]
        assert answered(market, counts, first.snapshot_id) == [{"t": 1, "e": 1}]
        assert answered(market, counts, EPOCH) == [{"t": 0, "e": 0}]
        with pytest.raises(QueryError, match="has no snapshot 17"):
            answered(market, counts, 17)

"""Planning: it skips what PyIceberg skips, reads each manifest once, and its cache has a bound."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    IsNull,
    LessThan,
    LessThanOrEqual,
    Not,
    NotEqualTo,
    NotNull,
    Or,
    StartsWith,
)
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.manifests import ManifestCache, lower
from k2.query.planning import planned_files
from tests.query.tables import EPOCH, append, made, trade

LONG = "a symbol of more letters than a bound has: "
SYMBOLS = ["BTC", "ETH", "ÉTH", "🚀", f"{LONG}a", f"{LONG}b", ""]
COMPARED: dict[str, list[Any]] = {
    "exchange": ["binance", "kraken", "z"],
    "symbol": SYMBOLS,
    "timestamp": [(EPOCH + timedelta(hours=hour)).isoformat() for hour in (-1, 0, 5, 12, 24, 30, 49)],
    "sequence": [-1, 0, 3, 10, 2**62],
    "session": [0, 1, 2],
    "side": ["buy", "sell"],
    "price": ["2.500000000000000000", "3.000000000000000000"],
}


def with_few_files(folder: Path) -> Table:
    """Create a table with files over some days, exchanges and symbols, of two partition specs."""
    table = made(Settings(data_dir=folder), TableName.TRADES)
    for number in range(8):
        if number == 6:
            with table.update_spec() as update:
                update.add_identity("symbol")
        rows = [trade(number * 10 + place, ["binance", "kraken"][place % 2]) for place in range(4)]
        append(
            table,
            [
                row
                | {"symbol": SYMBOLS[(number + place) % 6], "timestamp": EPOCH + timedelta(hours=number * 7 + place)}
                | {"sequence": None if number == 3 else row["sequence"], "side": None if number == 2 else "buy"}
                | {"session": number // 3}
                for place, row in enumerate(rows)
            ],
        )
    return table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Return a table with few files."""
    return with_few_files(tmp_path_factory.mktemp("planning"))


def leaves(kinds: list[Any]) -> st.SearchStrategy[BooleanExpression]:
    """Generate a comparison of a column with one of some values, by the given kinds of comparison."""
    return st.one_of(
        st.builds(lambda kind, value, name=name: kind(name, value), st.sampled_from(kinds), st.sampled_from(values))
        for name, values in COMPARED.items()
        if name != "price"
    )


def trees(leaf: st.SearchStrategy[BooleanExpression]) -> st.SearchStrategy[BooleanExpression]:
    """Generate a combination of such comparisons."""
    return st.recursive(leaf, lambda part: st.builds(And, part, part) | st.builds(Or, part, part), max_leaves=6)


ORDERS: list[Any] = [EqualTo, GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual]
OF_VALUES = st.one_of(
    st.builds(In, st.just(name), st.lists(st.sampled_from(values), min_size=1, max_size=3))
    for name, values in COMPARED.items()
    if name != "price"
)
OF_NULLS = st.builds(lambda kind, name: kind(name), st.sampled_from([IsNull, NotNull]), st.sampled_from([*COMPARED]))
KNOWN: st.SearchStrategy[BooleanExpression] = leaves(ORDERS) | OF_VALUES | OF_NULLS
ORDERED = trees(KNOWN | st.sampled_from([AlwaysTrue(), AlwaysFalse()]))
ODD: st.SearchStrategy[BooleanExpression] = st.one_of(
    leaves([NotEqualTo, lambda name, value: Not(EqualTo(name, value))]),
    st.sampled_from([*COMPARED["price"]]).map(lambda value: GreaterThan("price", value)),  # type: ignore[call-arg]
    st.sampled_from(SYMBOLS).map(lambda text: StartsWith("symbol", text[:2] or "B")),  # type: ignore[call-arg]
)


def by_pyiceberg(table: Table, where: BooleanExpression) -> set[str]:
    """Return the files that PyIceberg plans."""
    return {task.file.file_path for task in table.scan(row_filter=where).plan_files()}


def by_us(table: Table, where: BooleanExpression, manifests: ManifestCache | None = None) -> list[str]:
    """Return the files that our planning selects."""
    return planned_files(manifests or ManifestCache(), table, table.scan(row_filter=where))


@given(ORDERED)
@effort(max_examples=50)
def test_the_files_are_those_that_pyiceberg_plans(table: Table, where: BooleanExpression) -> None:
    """By partitions of either spec and by statistics, with nulls, truncated bounds and non-ASCII text."""
    planned = by_us(table, where, _KEPT)
    assert len({*planned}) == len(planned)
    assert {*planned} == by_pyiceberg(table, where)


@given(trees(ODD | KNOWN))
@effort(max_examples=50)
def test_no_file_that_pyiceberg_plans_is_skipped(table: Table, where: BooleanExpression) -> None:
    """For any filter: a condition that our planning does not understand skips nothing."""
    assert {*by_us(table, where, _KEPT)} >= by_pyiceberg(table, where)


_KEPT = ManifestCache()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Return a table of three files with a row each."""
    table = made(Settings(data_dir=tmp_path_factory.mktemp("three")), TableName.TRADES)
    append(table, [trade(0, "binance", "BTC") | {"side": None}])
    append(table, [trade(5, "kraken", "ETH")])
    append(table, [trade(100_000, "kraken", f"{LONG}a")])
    return table


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (AlwaysTrue(), 3),
        (AlwaysFalse(), 0),
        (EqualTo("exchange", "kraken"), 2),  # type: ignore[call-arg,arg-type]
        (EqualTo("exchange", "z"), 0),  # type: ignore[call-arg,arg-type]
        (GreaterThanOrEqual("timestamp", "2024-08-10T00:00:00+00:00"), 1),  # type: ignore[call-arg,arg-type]
        (LessThan("timestamp", EPOCH.isoformat()), 0),  # type: ignore[call-arg,arg-type]
        (GreaterThan("sequence", 5), 1),  # type: ignore[call-arg,arg-type]
        (LessThanOrEqual("sequence", 5), 2),  # type: ignore[call-arg,arg-type]
        (EqualTo("side", "buy"), 2),  # type: ignore[call-arg,arg-type]
        (EqualTo("symbol", "BTC"), 1),  # type: ignore[call-arg,arg-type]
        (EqualTo("symbol", f"{LONG}b"), 1),  # type: ignore[call-arg,arg-type]
        (Or(EqualTo("symbol", "BTC"), EqualTo("symbol", "ETH")), 2),  # type: ignore[call-arg,arg-type]
        (In("symbol", ["BTC", "ETH"]), 2),  # type: ignore[call-arg,arg-type]
        (In("exchange", ["binance", "z"]), 1),  # type: ignore[call-arg,arg-type]
        (IsNull("side"), 1),  # type: ignore[arg-type,call-arg]
        (NotNull("side"), 2),  # type: ignore[arg-type,call-arg]
        (Or(IsNull("kafka_timestamp"), EqualTo("symbol", "ETH")), 1),  # type: ignore[call-arg,arg-type]
    ],
)
def test_files_that_are_skipped(three: Table, where: BooleanExpression, count: int) -> None:
    """By partition, by bounds, and if a column is null in every row; not by the rest of a truncated bound."""
    assert len(by_us(three, where)) == count


def test_an_earlier_snapshot_is_planned_as_it_was(three: Table) -> None:
    """Each snapshot has its own files, whatever is cached of the others."""
    kept, ids = ManifestCache(), [snapshot.snapshot_id for snapshot in three.snapshots()]
    for _ in range(2):
        assert [len(planned_files(kept, three, three.scan(snapshot_id=one))) for one in ids] == [1, 2, 3]


def test_each_manifest_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is planned; after a commit only that commit's manifests are read, however many exist."""
    table, manifests, opened = with_few_files(tmp_path), ManifestCache(), 0
    fetch = ManifestFile.fetch_manifest_entry

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        return fetch(*arguments, **options)

    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", counted)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    count = len(snapshot.manifests(table.io))
    assert count > 1
    first = by_us(table, AlwaysTrue(), manifests)
    assert by_us(table, LessThan("sequence", 10), manifests) != first  # type: ignore[call-arg,arg-type]
    assert by_us(table, AlwaysTrue(), manifests) == first
    assert opened == count
    append(table, [trade(1_000)])
    opened = 0
    assert len(by_us(table, AlwaysTrue(), manifests)) == len(first) + 1
    assert opened == 1


def test_the_manifest_cache_is_bounded(table: Table) -> None:
    """If there is no room for all manifests they are read again, and the files are the same."""
    kept = ManifestCache()
    everything = by_us(table, AlwaysTrue(), kept)
    tight = ManifestCache(bytes_max=kept.held_bytes - 1)
    for _ in range(3):
        assert by_us(table, AlwaysTrue(), tight) == everything
        assert 0 < tight.held_bytes < kept.held_bytes


def test_many_threads_plan_at_once(table: Table) -> None:
    """With one cache that has room for some of the manifests: each thread gets its own result."""
    tight = ManifestCache(bytes_max=6_000)
    asked = [EqualTo("symbol", SYMBOLS[number % 6]) for number in range(60)]  # type: ignore[call-arg,arg-type]
    expected = {where: by_pyiceberg(table, where) for where in asked[:6]}
    with ThreadPoolExecutor(50) as threads:
        planned = threads.map(lambda where: {*by_us(table, where, tight)}, asked)
        assert all(found == expected[where] for found, where in zip(planned, asked, strict=True))


def test_an_unreadable_bound_skips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one from a writer that truncates within a character."""
    table = made(Settings(data_dir=tmp_path), TableName.TRADES)
    append(table, [trade(1)])
    field_id = table.schema().find_field("symbol").field_id
    monkeypatch.setattr(DataFile, "lower_bounds", property(lambda _: {field_id: b"\xc3"}))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    (files,) = ManifestCache().files(table, snapshot)
    bounds = files.column(lower(field_id))
    assert bounds is not None
    assert bounds.to_pylist() == [None]
    assert len(by_us(table, EqualTo("symbol", "BTCUSDT"))) == 1  # type: ignore[call-arg,arg-type]

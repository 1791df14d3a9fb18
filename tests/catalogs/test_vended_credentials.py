"""A catalog that vends storage keys which expire: writers and readers that live for longer."""

import itertools
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.rest import RestCatalog

from k2.iceberg import data_files
from k2.iceberg.ledger_writer import LedgerWriter
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.model.committed_offsets import CommittedOffsets
from k2.model.errors import UnreachableError
from k2.model.key_groups import GROUPS
from k2.model.progress import Progress
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.ops.retry import RetryPolicy
from k2.ops.settings import Settings, read_settings
from k2.query.market import open_market
from k2.query.pool import Pool
from k2.query.query_builders import symbols
from k2.restore.tables import TableStateSource
from k2.storage.catalog import find_table, open_catalog
from tests.catalogs.vending import Vending, vending
from tests.iceberg.running import assert_in_once, table_of
from tests.iceberg.trades_table import read_to, row_at, writer_of
from tests.model.trade_slices import slice_of
from tests.s3 import S3

LIFETIME_SECONDS: Final = 5.0
LIFETIMES: Final = 3.2
ROWS: Final = 4
NOTED: Final = 3
COUNT: Final = "SELECT count(price) AS n FROM trades"


@pytest.fixture
def store(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vending]:
    """Yield a catalog that vends keys, and their store; the notes of three commits are moved to the commit log."""
    monkeypatch.setattr("k2.iceberg.commit_notes.COMMIT_NOTES_MAX", NOTED)
    with vending(s3, tmp_path) as state:
        yield state


Configure = Callable[..., Settings]


@pytest.fixture
def configure(store: Vending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Return a function that configures the catalog, and returns settings with a namespace."""

    def with_namespace(namespace: str = "market_data") -> Settings:
        for name, value in store.variables().items():
            monkeypatch.setenv(name, value)
        return read_settings({"K2_DATA_DIR": str(tmp_path / "data"), "K2_NAMESPACE": namespace})

    return with_namespace


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing before a retry or a renewal."""
    monkeypatch.setattr(RetryPolicy, "wait_seconds", lambda *_: 0)
    monkeypatch.setattr("k2.storage.vended_credentials.PAUSE_SECONDS", 0)


@pytest.fixture
def unrenewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open catalogs as PyIceberg does."""
    monkeypatch.setattr("k2.storage.rest_catalog.RenewingRestCatalog", RestCatalog)


class Job:
    """The writers of the job: of trades with the commit log, and of the ledger."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.commits = 0
        self.events = 0
        self._trades = writer_of(settings)
        ledger = TableHandle(settings, TableName.SEQUENCE_EVENTS, None)
        self._ledger = LedgerWriter(ledger, {}, CommittedOffsets(Progress(), 1))

    def write_trades(self) -> None:
        """Commit four trades."""
        first, stop = self.commits * ROWS, (self.commits + 1) * ROWS
        self._trades.write_batch([slice_of([row_at(offset) for offset in range(first, stop)]), read_to(stop)])
        self._trades.snapshot()
        self.commits += 1

    def write_event(self) -> None:
        """Commit one event."""
        event = SequenceEvent("kraken", "X", 1, EventKind.GAP_OPENED, 1, 2, 3, "trades", 0, self.events)
        self._ledger.write_batch([[event]])
        self._ledger.snapshot()
        self.events += 1


WRITES: Final = [Job.write_trades, Job.write_event]


def rows_of(settings: Settings, which: TableName) -> int:
    """Return how many rows a table has."""
    table = find_table(settings, which)
    return 0 if table is None else table.scan().to_arrow().num_rows


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew keys at half of their lifetime: a busy machine may hold up a request for the second that a fifth is."""
    monkeypatch.setattr("k2.storage.vended_credentials._MARGIN_PARTS", 2)


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("in_storage_credentials", [False, True], ids=["config", "storage-credentials"])
def test_writers_outlive_their_keys(store: Vending, configure: Configure, in_storage_credentials: bool) -> None:  # noqa: FBT001
    """Over three lifetimes of the keys no request to the store is refused, and each row is stored once."""
    store.lifetime_seconds, store.in_storage_credentials = LIFETIME_SECONDS, in_storage_credentials
    job = Job(configure())
    start = time.monotonic()
    while (seconds := time.monotonic() - start) < LIFETIMES * LIFETIME_SECONDS:
        job.write_trades()
        # Events are rare: the keys of the ledger expire between two of them.
        if seconds > 1.2 * LIFETIME_SECONDS * job.events:
            job.write_event()
        time.sleep(0.5)
    assert store.refused == []
    assert_in_once(job.settings, job.commits * ROWS, job.commits)
    assert rows_of(job.settings, TableName.SEQUENCE_EVENTS) == job.events >= LIFETIMES - 1
    # The notes of the newest commits are in the trades table until the next move.
    assert job.commits - rows_of(job.settings, TableName.COMMITS) <= NOTED


@pytest.mark.usefixtures("early")
def test_readers_outlive_their_keys(store: Vending, configure: Configure) -> None:
    """A scan of PyIceberg's, a table that DuckDB reads, and a pool, all taken before: none is ever refused."""
    store.lifetime_seconds = LIFETIME_SECONDS
    settings = configure()
    Job(settings).write_trades()
    table = table_of(settings)
    with Pool(settings) as pool, pool.engine() as engine, open_market(settings) as market:
        engine.register("trades", table)
        end = time.monotonic() + LIFETIMES * LIFETIME_SECONDS
        for round_number in itertools.count():
            assert engine.query(COUNT) == [{"n": ROWS}]
            # With pauses that are longer than a lifetime, and shorter ones.
            if round_number % 10 == 0:
                assert table.scan().to_arrow().num_rows == ROWS
                assert market.table(symbols()).num_rows == 1
            if time.monotonic() > end:
                break
            time.sleep(0.7)
    assert store.refused == []


def held_scan(settings: Settings) -> Callable[[], object]:
    """Return what reads a table of PyIceberg's that was loaded before."""
    return table_of(settings).scan().to_arrow


def held_state_source(settings: Settings) -> Callable[[], object]:
    """Return what reads the sessions and ids for the state of a start."""
    source = TableStateSource(settings)
    return lambda: [
        ([*source.sessions(group)], [*source.ids(group, 10**9, is_resumed=False)]) for group in range(GROUPS)
    ]


def query_with_refused_keys(store: Vending, settings: Settings) -> list[dict[str, Any]]:
    """Return the result of a query whose keys are refused once it is planned."""
    with Pool(settings) as pool, pool.engine() as engine:
        engine.register("trades", table_of(settings))
        store.revoke()
        return engine.query(COUNT)


READERS: Final = [held_scan, held_state_source]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("refusal", [HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN])
@pytest.mark.parametrize("write", WRITES)
def test_a_writer_with_refused_keys_renews_them(
    store: Vending, configure: Configure, refusal: HTTPStatus, write: Callable[[Job], None]
) -> None:
    """Keys that expire before the catalog stated it, or of which it stated nothing: one refusal, and no lost commit."""
    store.refusal, store.states_expiry = refusal, refusal is HTTPStatus.FORBIDDEN
    job = Job(configure())
    write(job)
    store.revoke()
    write(job)
    assert len(store.refused) == 1
    assert rows_of(job.settings, TableName.TRADES) == job.commits * ROWS


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("read", READERS)
def test_a_reader_with_refused_keys_renews_them(
    store: Vending, configure: Configure, read: Callable[[Settings], Callable[[], object]]
) -> None:
    """The tables that it had taken before are read."""
    settings = configure()
    Job(settings).write_trades()
    act = read(settings)
    store.revoke()
    act()
    assert len(store.refused) == 1


@pytest.mark.usefixtures("hurried")
def test_a_query_with_refused_keys_renews_them(store: Vending, configure: Configure) -> None:
    """Between planning and reading."""
    settings = configure()
    Job(settings).write_trades()
    assert query_with_refused_keys(store, settings) == [{"n": ROWS}]
    assert len(store.refused) == 1


@pytest.mark.usefixtures("hurried")
def test_a_file_whose_keys_expire_during_its_upload_is_written_again(
    store: Vending, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is refused at its end; the retry of the file has new keys."""
    job = Job(configure())
    real = data_files._writer

    def late(*arguments: Any) -> pq.ParquetWriter:
        monkeypatch.setattr(data_files, "_writer", real)
        store.revoke()
        return real(*arguments)

    monkeypatch.setattr(data_files, "_writer", late)
    job.write_trades()
    assert store.refused
    assert_in_once(job.settings, ROWS, commits=1)


@pytest.mark.usefixtures("hurried")
def test_a_catalog_that_is_away_stops_a_writer_only_without_keys(store: Vending, configure: Configure) -> None:
    """The refusal of the store is the error, and the next epoch's attempt stores the rows once."""
    job = Job(configure())
    job.write_trades()
    store.catalog_is_away = True
    store.revoke()
    with pytest.raises(UnreachableError, match=r"writing a data file failed 4 times, .*AWS Error"):
        job.write_event()
    store.catalog_is_away = False
    job.write_event()
    assert rows_of(job.settings, TableName.SEQUENCE_EVENTS) == 2


@pytest.mark.usefixtures("hurried", "unrenewed")
@pytest.mark.parametrize("write", WRITES)
def test_without_renewal_a_writer_fails(store: Vending, configure: Configure, write: Callable[[Job], None]) -> None:
    """What PyIceberg itself does: the tests above would notice."""
    job = Job(configure())
    write(job)
    store.revoke()
    with pytest.raises(UnreachableError, match="writing a data file failed 4 times"):
        write(job)


@pytest.mark.usefixtures("hurried", "unrenewed")
@pytest.mark.parametrize("read", READERS)
def test_without_renewal_a_reader_fails(
    store: Vending, configure: Configure, read: Callable[[Settings], Callable[[], object]]
) -> None:
    """As above, for tables that a reader had taken before."""
    settings = configure()
    Job(settings).write_trades()
    act = read(settings)
    store.revoke()
    with pytest.raises(OSError, match="AWS Error"):
        act()


@pytest.mark.usefixtures("hurried", "unrenewed")
def test_without_renewal_a_query_fails(store: Vending, configure: Configure) -> None:
    """As above, for a table that DuckDB reads."""
    settings = configure()
    Job(settings).write_trades()
    with pytest.raises(UnreachableError, match="AWS Error"):
        query_with_refused_keys(store, settings)


@pytest.mark.parametrize("lifetime_seconds", [0, 3600], ids=["none", "an hour"])
def test_renewal_adds_no_request(
    store: Vending, configure: Configure, lifetime_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests to the catalog are those of PyIceberg's own, if nothing is vended, or nothing expires."""
    store.lifetime_seconds = lifetime_seconds
    requests = []
    for namespace in ("renewed", "unrenewed"):
        if namespace == "unrenewed":
            monkeypatch.setattr("k2.storage.rest_catalog.RenewingRestCatalog", RestCatalog)
        settings = configure(namespace)
        store.requests.clear()
        job = Job(settings)
        for _ in range(NOTED):
            job.write_trades()
            job.write_event()
        with open_market(settings) as market:
            assert market.table(symbols()).num_rows == 1
        held_state_source(settings)()
        requests.append([one.replace(f"/{namespace}", "/namespace") for one in store.requests])
    assert requests[0] == requests[1]
    assert len(requests[0]) > 10


@pytest.mark.parametrize("kind", [None, "rest", "REST"])
def test_a_rest_catalog_renews_however_it_is_named(
    configure: Configure, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the scheme of its address, or by its type; a class of the user's own is left as it is."""
    settings = configure()
    if kind is not None:
        monkeypatch.setenv("PYICEBERG_CATALOG__K2__TYPE", kind)
    assert type(open_catalog(settings)).__name__ == "RenewingRestCatalog"
    if kind is None:
        monkeypatch.setenv("PYICEBERG_CATALOG__K2__PY_CATALOG_IMPL", "pyiceberg.catalog.rest.RestCatalog")
        assert type(open_catalog(settings)) is RestCatalog

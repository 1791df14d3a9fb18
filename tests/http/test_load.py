"""Under load: a FIFO concurrency limit, and no query that continues after its client has left."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from http.client import IncompleteRead
from typing import Any

import pytest

from k2.http import metrics_response
from k2.http.concurrency_limit import FifoSemaphore
from k2.ops.metrics import QUERIES
from k2.ops.settings import Settings
from k2.query.engine import QueryCancelledError
from k2.query.pool import CancellableSession, Pool, QueryBusyError
from k2.status.reader import StatusReader

ENDLESS = "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"
LONG = "SELECT range, repeat('x', 1000) AS text FROM range(1000000)"


def test_the_concurrency_limit_is_fifo() -> None:
    """The first to arrive runs first; one that waits too long, or arrives when the queue is full, is rejected."""

    async def take(semaphore: FifoSemaphore, name: int, begun: list[int]) -> None:
        await semaphore.acquire()
        begun.append(name)
        await asyncio.sleep(0.001)
        semaphore.release()

    async def all_of_them() -> list[int]:
        semaphore, begun = FifoSemaphore(1, 10), [-1]
        await asyncio.gather(*(take(semaphore, name, begun) for name in range(50)))
        await semaphore.acquire()
        late = FifoSemaphore(1, 0.01)
        await late.acquire()
        with pytest.raises(QueryBusyError):
            await late.acquire()
        late.release()
        await late.acquire()
        return begun

    assert asyncio.run(all_of_them()) == [*range(-1, 50)]


def test_queries_beyond_the_limit_wait_or_get_retry_after(serve: Callable[..., Any]) -> None:
    """Queries beyond the limit wait in order; one that waits too long gets a Retry-After."""
    client = serve(query_connections=1, query_timeout_seconds=1.5)
    replies: list[Any] = []
    threads = []
    for _ in range(4):
        threads.append(threading.Thread(target=lambda: replies.append(client.sql(ENDLESS))))
        threads[-1].start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    statuses = [reply.status for reply in replies]
    assert statuses.count(504) >= 1
    assert statuses.count(503) >= 1
    assert {*statuses} == {503, 504}
    assert all(reply.headers["Retry-After"] for reply in replies if reply.status == 503)
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]


def test_queries_are_counted_by_result(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while no connection is free; the scrape then has the counts, and no verdict, and is counted as busy."""
    # The scrape gives up before the first query ends.
    monkeypatch.setattr(metrics_response, "VERDICT_SECONDS_MAX", 0.2)
    client = serve(query_connections=1, query_timeout_seconds=1.5)
    before = _query_counts()
    threads = [threading.Thread(target=client.sql, args=(ENDLESS,)) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    scrape = client.get("/metrics")
    for thread in threads:
        thread.join()
    client.sql("SELECT no_column")
    client.sql("SELECT 1 AS one")
    deadline = time.monotonic() + 10
    while sum(_query_counts().values()) < sum(before.values()) + 7 and time.monotonic() < deadline:
        time.sleep(0.01)  # a query is counted after its response has ended
    counts = {result: count - before[result] for result, count in _query_counts().items()}
    assert scrape.status == 200
    assert b"k2_queries_total{" in scrape.body
    assert b"k2_verdict" not in scrape.body
    assert counts["timeout"] + counts["busy"] == 5
    assert counts["timeout"] >= 1
    assert counts["busy"] >= 1
    assert counts["invalid"] == 1
    assert counts["ok"] == 1


@pytest.mark.parametrize(("is_free", "result"), [(True, "timeout"), (False, "busy")])
def test_a_scrape_without_a_verdict_is_not_ok(
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    is_free: bool,  # noqa: FBT001  a case
    result: str,
) -> None:
    """It took too long, or found no connection free within the time that Prometheus waits."""
    monkeypatch.setattr(metrics_response, "VERDICT_SECONDS_MAX", 0.5)
    monkeypatch.setattr(StatusReader, "read", lambda *_: time.sleep(1.5))
    client = serve(query_connections=1, query_timeout_seconds=8)
    thread = threading.Thread(target=client.sql, args=(ENDLESS,))
    if not is_free:
        thread.start()
        time.sleep(0.3)
    before = _query_counts()
    scrape = client.get("/metrics")
    deadline = time.monotonic() + 10
    while _query_counts() == before and time.monotonic() < deadline:
        time.sleep(0.01)
    counts = {result: count - before[result] for result, count in _query_counts().items() if count != before[result]}
    assert (scrape.status, counts) == (200, {result: 1})
    assert b"k2_verdict" not in scrape.body
    if not is_free:
        thread.join()


def _query_counts() -> dict[str, float]:
    samples = [sample for metric in QUERIES.collect() for sample in metric.samples if sample.name == "k2_queries_total"]
    return {sample.labels["result"]: sample.value for sample in samples}


def test_memory_is_bounded(serve: Callable[..., Any]) -> None:
    """A query that exceeds the memory limit fails with an error, and the next one succeeds."""
    client = serve(query_memory_limit="50MB")
    assert client.sql("SELECT list(range) AS l FROM range(100000000)").status == 507
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]


@pytest.mark.parametrize("sql", [ENDLESS, LONG], ids=["before its answer", "amid its answer"])
def test_a_disconnected_client_frees_the_connection(serve: Callable[..., Any], sql: str) -> None:
    """If a client closes its connection its query stops, and the next one is answered at once."""
    client = serve(query_connections=1)
    connection = client.connect()
    connection.request("POST", "/v1/sql", f'{{"sql": "{sql}", "limit": 1000000}}', {"Content-Type": "application/json"})
    time.sleep(0.3)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    begun = time.monotonic()
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]
    assert time.monotonic() - begun < 20


def test_a_client_that_disconnects_while_waiting_leaves_the_queue(serve: Callable[..., Any]) -> None:
    """A client that leaves while it waits takes no place in the queue."""
    client = serve(query_connections=1)
    gone = [client.connect() for _ in range(3)]
    for connection in gone:
        connection.request("POST", "/v1/sql", f'{{"sql": "{ENDLESS}"}}', {"Content-Type": "application/json"})
    time.sleep(0.3)
    for connection in gone:
        connection.close()
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]


def test_a_response_that_is_not_read_is_cut_off(serve: Callable[..., Any]) -> None:
    """A client that does not read holds no connection beyond the time limit; its response is cut off."""
    client = serve(query_connections=1, query_timeout_seconds=1)
    connection = client.connect()
    connection.request(
        "POST", "/v1/sql", f'{{"sql": "{LONG}", "limit": 1000000}}', {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.status == 200
    time.sleep(1.5)
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]
    with pytest.raises(IncompleteRead):
        answer.read()
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT CASE WHEN range = 400000 THEN error('late') ELSE range END AS n FROM range(500000)",
        "SELECT CAST(CASE WHEN range < 400000 THEN '1' ELSE 'x' END AS INTEGER) AS n FROM range(500000)",
    ],
    ids=["an error", "a cast"],
)
def test_a_fault_during_the_response_is_visible(client: Any, sql: str) -> None:
    """If the query fails after rows were sent, the response does not end like a complete one."""
    with pytest.raises(IncompleteRead):
        client.sql(sql, limit=1_000_000)


def test_a_cancelled_session_runs_no_query(market: Settings) -> None:
    """A cancelled session runs no more queries, and stops no later user of the connection."""
    with Pool(market, connections=1) as pool:
        session = CancellableSession(pool)
        with session.engine() as engine:
            session.cancel()
            with pytest.raises(QueryCancelledError):
                engine.query("SELECT 1")
        with pytest.raises(QueryCancelledError), session.engine():
            pytest.fail("lent to one who left")
        with pytest.raises(QueryCancelledError):
            next(session.each([1]))
        with CancellableSession(pool).engine() as engine:
            session.cancel()
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]

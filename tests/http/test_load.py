"""Under load: so many at a time in the order in which they came, and nobody asks on for one who is gone."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from http.client import IncompleteRead
from typing import Any

import pytest

from k2.http.concurrency_limit import FifoSemaphore
from k2.ops.settings import Settings
from k2.query.engine import QueryCancelledError
from k2.query.pool import Caller, Pool, QueryBusyError

ENDLESS = "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"
LONG = "SELECT range, repeat('x', 1000) AS text FROM range(1000000)"


def test_turns_are_taken_in_order() -> None:
    """Who came first has the first turn; who waits too long, or comes when too many wait, is sent away."""

    async def take(turns: FifoSemaphore, name: int, begun: list[int]) -> None:
        await turns.take()
        begun.append(name)
        await asyncio.sleep(0.001)
        turns.give_back()

    async def all_of_them() -> list[int]:
        turns, begun = FifoSemaphore(1, 10), [-1]
        await asyncio.gather(*(take(turns, name, begun) for name in range(50)))
        await turns.take()
        late = FifoSemaphore(1, 0.01)
        await late.take()
        with pytest.raises(QueryBusyError):
            await late.take()
        late.give_back()
        await late.take()
        return begun

    assert asyncio.run(all_of_them()) == [*range(-1, 50)]


def test_too_many_are_told_to_wait(serve: Callable[..., Any]) -> None:
    """The queries beyond those at a time wait, each in its turn; one that waits too long is told when to come again."""
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


def test_memory_is_bounded(serve: Callable[..., Any]) -> None:
    """A query that needs more memory than there is says so, and the next one is answered."""
    client = serve(query_memory_limit="50MB")
    assert client.sql("SELECT list(range) AS l FROM range(100000000)").status == 507
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]


@pytest.mark.parametrize("sql", [ENDLESS, LONG], ids=["before its answer", "amid its answer"])
def test_who_goes_away_frees_the_connection(serve: Callable[..., Any], sql: str) -> None:
    """A client that closes its connection has its query stopped, and the next one is answered at once."""
    client = serve(query_connections=1)
    connection = client.connect()
    connection.request("POST", "/v1/sql", f'{{"sql": "{sql}", "limit": 1000000}}', {"Content-Type": "application/json"})
    time.sleep(0.3)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    begun = time.monotonic()
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]
    assert time.monotonic() - begun < 20


def test_who_waits_and_goes_away_takes_no_turn(serve: Callable[..., Any]) -> None:
    """One who leaves while waiting for a turn leaves the queue as well."""
    client = serve(query_connections=1)
    gone = [client.connect() for _ in range(3)]
    for connection in gone:
        connection.request("POST", "/v1/sql", f'{{"sql": "{ENDLESS}"}}', {"Content-Type": "application/json"})
    time.sleep(0.3)
    for connection in gone:
        connection.close()
    assert client.sql("SELECT 1 AS one").json == [{"one": 1}]


def test_an_answer_that_is_not_read_ends(serve: Callable[..., Any]) -> None:
    """A client that does not read holds no connection beyond the time limit, and is told by a missing end."""
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
def test_a_fault_amid_the_answer_shows(client: Any, sql: str) -> None:
    """Where the query fails once rows are out, the answer has no end that could be taken for a whole one."""
    with pytest.raises(IncompleteRead):
        client.sql(sql, limit=1_000_000)


def test_a_caller_who_left_asks_no_more(market: Settings) -> None:
    """Who left asks nothing any more, and stops nobody else who has the connection after."""
    with Pool(market, connections=1) as pool:
        caller = Caller(pool)
        with caller.engine() as engine:
            caller.leave()
            with pytest.raises(QueryCancelledError):
                engine.query("SELECT 1")
        with pytest.raises(QueryCancelledError), caller.engine():
            pytest.fail("lent to one who left")
        with pytest.raises(QueryCancelledError):
            next(caller.each([1]))
        with Caller(pool).engine() as engine:
            caller.leave()
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]

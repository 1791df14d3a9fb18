"""What the tests of the API share: a small market, and a real server for it."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from k2.http.server import listen, server_of
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.pool import Pool
from tests.model.dead_letters import dead_letter
from tests.query.tables import append, event, made, progress, set_progress, trade, write_letters

ODD = "a'; DROP TABLE trades; --"
SYMBOLS = ("BTCUSDT", ODD, "é%_\\")


@dataclass(frozen=True)
class Reply:
    """A server's response."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """An HTTP client that opens a connection for each request."""

    host: str
    port: int

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def ask(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send one request and read its response."""
        with closing(self.connect()) as connection:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())

    def get(self, path: str, accept: str | None = None, **parameters: str) -> Reply:
        """Request a route with parameters."""
        headers = {} if accept is None else {"Accept": accept}
        return self.ask("GET", f"{path}?{urlencode(parameters)}", headers=headers)

    def sql(self, sql: str, accept: str = "application/json", **more: object) -> Reply:
        """Run a SELECT through the API."""
        headers = {"Content-Type": "application/json", "Accept": accept}
        return self.ask("POST", "/v1/sql", json.dumps({"sql": sql, **more}), headers)


@contextmanager
def serving(settings: Settings, port: int = 0) -> Iterator[Client]:
    """Serve the API in a thread on loopback, on a free port unless one is given."""
    with listen(settings, "127.0.0.1", port) as listener, Pool(settings) as pool:
        server = server_of(pool)
        thread = threading.Thread(target=server.run, args=([listener],))
        host, port = listener.getsockname()
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Client(host, port)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return settings whose tables contain trades of three symbols, a gap, a dead letter and progress."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("api") / "data")
    trades = made(settings, TableName.TRADES)
    append(trades, [trade(100 * at + one, symbol=name) for at, name in enumerate(SYMBOLS) for one in range(4)])
    opened = [event("gap_opened", 5, 7), event("gap_opened", 9, 9, symbol=ODD), event("gap_filled", 6, 6)]
    append(made(settings, TableName.SEQUENCE_EVENTS), opened)
    set_progress(trades, progress(offset=204, received=13, stored=12, dead_letters=1))
    write_letters(settings, [dead_letter(204)])
    return settings


@pytest.fixture(scope="session")
def client(market: Settings) -> Iterator[Client]:
    """Yield a client of a server for that market, without keys."""
    with serving(market) as found:
        yield found


@pytest.fixture
def serve(market: Settings) -> Iterator[Callable[..., Client]]:
    """Yield a function that serves the same market under the test's own settings."""
    with ExitStack() as opened:
        yield lambda **values: opened.enter_context(serving(market.model_copy(update=values)))


@pytest.fixture
def serve_at() -> Iterator[Callable[[Settings], Client]]:
    """Yield a function that serves the tables of given settings."""
    with ExitStack() as opened:
        yield lambda settings: opened.enter_context(serving(settings))


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Client]:
    """Yield a client of a server where the job has never run."""
    with serving(Settings(data_dir=tmp_path / "nothing")) as found:
        yield found

"""`k2 serve`: where it listens, what it rejects, and how it ends."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import Result

from k2.http.server import END_SECONDS_MAX
from k2.ops.settings import Settings

ENDLESS = "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"
LONG = "SELECT range, repeat('x', 1000) AS text FROM range(8000)"
ROWS = 8_000
"""More bytes than all buffers between server and client hold."""


def test_others_are_not_served_without_keys(k2: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys an address that others can reach is rejected in a sentence that names both alternatives."""
    monkeypatch.delenv("K2_API_KEYS", raising=False)
    result = k2("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  refused
    assert result.exit_code == 2
    assert "--host 0.0.0.0" in result.stderr
    assert "K2_API_KEYS" in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_an_unusable_address_is_one_sentence(
    k2: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A port in use, or an invalid host."""
    monkeypatch.setenv("K2_API_KEYS", "key")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = k2("serve", "--host", host, "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.match(rf"k2: --host {host} --port {port}: cannot listen on this address: .*\n$", result.stderr)


@pytest.fixture
def server(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield `k2 serve` in a process of its own, and its port."""
    command = [sys.executable, "-m", "k2.cli", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = urlsplit(json.loads(process.stdout.readline())["url"]).port
        assert port is not None
        try:
            yield process, port
        finally:
            process.kill()


def sent_query(port: int, sql: str) -> http.client.HTTPConnection:
    """Send a statement without waiting for the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"sql": sql, "limit": ROWS})
    connection.request("POST", "/v1/sql", body, {"Content-Type": "application/json"})
    return connection


def test_sigterm_ends_it_gracefully(server: tuple[subprocess.Popen[str], int], k2: Callable[..., Result]) -> None:
    """A response under way is completed, an endless query is stopped, and the exit code is 0."""
    process, port = server
    with closing(sent_query(port, LONG)) as reader, closing(sent_query(port, ENDLESS)) as waiter:
        second = k2("serve", "--port", str(port))
        assert second.exit_code == 2
        assert f"--port {port}: cannot listen on this address" in second.stderr
        answer = reader.getresponse()
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        time.sleep(0.2)
        assert len(json.loads(answer.read())) == ROWS
        refusal = waiter.getresponse()
        assert (refusal.status, json.loads(refusal.read())["status"]) == (503, 503)
        assert process.wait(60) == 0
        assert END_SECONDS_MAX - 1 < time.monotonic() - asked < 4 * END_SECONDS_MAX
    said = process.communicate()[1]
    assert "Traceback" not in said, said


SIGNALLED = """
import signal
from pathlib import Path
from k2.http.server import listen, serve, take_signals
from k2.ops.settings import read_settings

class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

take_signals()
Destroyed()
settings = read_settings({}, data_dir=Path(r"{folder}"))
serve(settings, listen(settings, "127.0.0.1", 0))
"""


def test_a_signal_that_python_ignores_ends_it(tmp_path: Path) -> None:
    """An exit is ignored while an object is destroyed; the server ends as soon as it runs."""
    program = SIGNALLED.replace("{folder}", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" in done.stderr


def test_ctrl_c_ends_it(server: tuple[subprocess.Popen[str], int]) -> None:
    """SIGINT ends it at a terminal: at once if no client waits, and with exit code 0."""
    process, _ = server
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said

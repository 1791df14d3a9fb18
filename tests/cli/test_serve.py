"""`k2 serve`: where it listens, what it refuses, and that it ends when it is told to."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import Result


def test_others_are_not_served_without_keys(k2: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys an address that others can reach is refused in a sentence that names both ways out."""
    monkeypatch.delenv("K2_API_KEYS", raising=False)
    result = k2("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  refused
    assert result.exit_code == 2
    assert "--host 0.0.0.0" in result.stderr
    assert "K2_API_KEYS" in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_where_it_cannot_listen(k2: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A port that is taken, or a host that is none, ends it in a sentence."""
    monkeypatch.setenv("K2_API_KEYS", "key")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = k2("serve", "--host", host, "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.match(rf"k2: --host {host} --port {port}: cannot listen there: .*\n$", result.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_when_told(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """It says where it listens, answers there, and ends quietly with SIGTERM and Ctrl-C."""
    command = [sys.executable, "-m", "cli", "serve", "--port", "0"]
    environment = {**os.environ, "K2_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        match = re.match(r"listening on http://127\.0\.0\.1:(\d+), ", said)
        assert match is not None, said
        with closing(http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=60)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert process.stderr.read() == ""

"""`k2 serve`: where it listens, and what it refuses."""

import re
import socket
from collections.abc import Callable

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

"""What the logs show where a person looks on."""

import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from runtime.logs import set_up_logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Put back what a test sets in this process."""
    root, k2, config = logging.getLogger(), logging.getLogger("k2"), structlog.get_config()
    handlers, levels = root.handlers, (root.level, k2.level)
    yield
    root.handlers = handlers
    root.setLevel(levels[0])
    k2.setLevel(levels[1])
    structlog.configure(**config)


def test_a_traceback_shows_no_values(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Passwords are among the locals of those who open catalogs."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_up_logs()
    try:
        _open("right" + "horse")
    except ConnectionError:
        structlog.get_logger().exception("commit_failed")
    said = capsys.readouterr().err
    assert "ConnectionError: 10 tries" in said
    assert "righthorse" not in said


def _open(password: str) -> None:
    raise ConnectionError(f"{len(password)} tries")

"""Logs: for programs as JSON, for people as text, and in colour where they like it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from k2.ops.logs import set_up_logs


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


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


def said(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    """Log a word to a stream; give what it looks like."""
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs()
    structlog.get_logger().warning("a word", topic="trades")
    return stream.getvalue()


def test_programs_get_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object a line where no terminal looks on."""
    line = json.loads(said(monkeypatch, io.StringIO()))
    assert (line["event"], line["topic"], line["level"]) == ("a word", "trades", "warning")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_people_get_text(monkeypatch: pytest.MonkeyPatch, no_color: str, *, coloured: bool) -> None:
    """In colour, unless NO_COLOR says no."""
    monkeypatch.setenv("NO_COLOR", no_color)
    text = said(monkeypatch, Terminal())
    assert "a word" in text
    assert ("\x1b[" in text) is coloured


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

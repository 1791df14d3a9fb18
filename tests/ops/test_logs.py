"""Logs: JSON for programs, text for people, and colour unless they decline it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from k2.ops.logs import LIBRDKAFKA, RepeatFilter, set_up_logs


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restore the logging that a test changes in this process."""
    root, k2, config = logging.getLogger(), logging.getLogger("k2"), structlog.get_config()
    handlers, levels = root.handlers, (root.level, k2.level)
    yield
    root.handlers = handlers
    root.setLevel(levels[0])
    k2.setLevel(levels[1])
    structlog.configure(**config)


def logged(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    """Log a word to a stream and return what was written."""
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs()
    structlog.get_logger().warning("a word", topic="trades")
    return stream.getvalue()


def test_programs_get_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object a line if the stream is not a terminal."""
    line = json.loads(logged(monkeypatch, io.StringIO()))
    assert (line["event"], line["topic"], line["level"]) == ("a word", "trades", "warning")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_people_get_text(monkeypatch: pytest.MonkeyPatch, no_color: str, *, coloured: bool) -> None:
    """In colour, unless NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", no_color)
    text = logged(monkeypatch, Terminal())
    assert "a word" in text
    assert ("\x1b[" in text) is coloured


def test_a_traceback_shows_no_values(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The locals of functions that open catalogs contain passwords."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    set_up_logs()
    try:
        _open("right" + "horse")
    except ConnectionError:
        structlog.get_logger().exception("commit_failed")
    logged = capsys.readouterr().err
    assert "ConnectionError: 10 tries" in logged
    assert "righthorse" not in logged


def _open(password: str) -> None:
    raise ConnectionError(f"{len(password)} tries")


def test_repeated_lines_are_counted() -> None:
    """Lines that differ in numbers alone pass once a minute, with the number of those that did not."""
    times = iter([0.0, 1.0, 59.0, 59.5, 60.0, 130.0])
    repeats = RepeatFilter(clock=lambda: next(times))
    passed = []
    for text in ("down after 3ms", "down after 7ms", "down after 12ms", "up", "down after 1ms", "down after 2ms"):
        record = logging.LogRecord("k2.librdkafka", logging.ERROR, "", 0, "%s", (text,), None)
        if repeats.filter(record):
            passed.append(record.getMessage())
    assert passed == ["down after 3ms", "up", "down after 1ms (and 2 times since the last such line)", "down after 2ms"]


def test_lines_of_librdkafka_have_the_format_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON with event, level and time; repeated ones are dropped, however often the logs are set up."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs()
    set_up_logs()
    for _ in range(3):
        logging.getLogger(LIBRDKAFKA).error("%s [%s] %s", "FAIL", "rdkafka#consumer-1", "Connection refused")
    (line,) = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (line["event"], line["level"]) == ("FAIL [rdkafka#consumer-1] Connection refused", "error")

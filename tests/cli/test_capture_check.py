"""`k2 produce` checks the first lines of a capture by the rules of the job, before it publishes any."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from k2.cli.capture_check import LINES_CHECKED, FirstLines, PlacedLine
from k2.cli.captures import read_capture
from k2.cli.main import app
from k2.model.errors import SettingsError, UnreachableError

MICROSECONDS = 1_723_161_255_342_000
DATA = Path(__file__).parents[1] / "data"


def trade(sequence: int, timestamp: int = MICROSECONDS) -> bytes:
    """Return a canonical message."""
    text = '{{"exchange":"x","symbol":"A-B","sequence":{},"price":"1","quantity":"1","side":"buy","timestamp":{}}}'
    return text.format(sequence, timestamp).encode()


GOOD = [trade(number) for number in range(300)]
NANOSECONDS = [trade(number, MICROSECONDS * 1_000 + number) for number in range(300)]


class _Producer:
    """A producer that keeps what is published."""

    def __init__(self, *_: object) -> None:
        self.calls: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ensure_topic(self, partitions: int) -> None:
        self.calls.append(partitions)

    def send(self, key: bytes | None, value: bytes, *, line: int, timestamp_ms: int | None = None) -> None:
        assert timestamp_ms is None
        self.calls.append((key, value))

    @property
    def values(self) -> list[bytes]:
        return [call[1] for call in self.calls if isinstance(call, tuple)]


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> _Producer:
    """Return the producer that `k2 produce` uses instead of Kafka's."""
    made = _Producer()
    monkeypatch.setattr("k2.cli.produce.TradeProducer", lambda *_: made)
    return made


@pytest.fixture
def produce(tmp_path: Path, producer: _Producer) -> Callable[..., Result]:
    """Return a function that publishes lines from a file."""

    def run(lines: list[bytes], *arguments: str, topics: str = "trades") -> Result:
        path = tmp_path / "capture"
        path.write_bytes(b"\n".join(lines))
        return CliRunner().invoke(app, ["produce", str(path), *arguments], env={"K2_TOPICS": topics})

    return run


def test_nanoseconds_are_refused_before_anything_is_published(
    produce: Callable[..., Result], producer: _Producer, tmp_path: Path
) -> None:
    """One sentence with the venue, the share, the commonest error with an example, and what to do."""
    result = produce([b"not json", *GOOD[:9], *NANOSECONDS])
    assert (result.exit_code, result.stdout, producer.calls) == (2, "", [])
    assert result.stderr == (
        "k2: venue k2 of topic trades would reject 191 of the first 200 lines (95 %), most often as invalid "
        f"(line 11 of {tmp_path / 'capture'}: timestamp: looks like nanoseconds: 1723161255342000000; send "
        "microseconds); nothing was published: correct the lines or their venue in K2_TOPICS, or use --force to "
        "publish anyway\n"
    )


@pytest.mark.parametrize(
    ("capture", "arguments", "topics", "venue", "fitting"),
    [
        ("binance-spot-*", [], "trades=okx", "okx", "binance-spot"),
        ("binance-spot-*", [], "trades", "k2", "binance-spot"),
        ("okx-*", ["--venue", "bybit"], "other", "bybit", "okx"),
        ("bybit-*", ["--venue", "bybit"], "trades=coinbase", "coinbase", "bybit"),
    ],
)
def test_a_wrong_venue_is_refused_and_the_right_one_named(
    producer: _Producer, capture: str, arguments: list[str], topics: str, venue: str, fitting: str
) -> None:
    """The venue is the one by which the job reads the topic; --venue names it for a topic that is not configured."""
    path = next(DATA.glob(f"{capture}.gz"))
    result = CliRunner().invoke(app, ["produce", str(path), *arguments], env={"K2_TOPICS": topics})
    assert (result.exit_code, producer.calls) == (2, [])
    assert f"venue {venue} of topic trades would reject " in result.stderr
    assert "(100 %), most often as invalid (line " in result.stderr
    assert f"configure trades={fitting}, which fits these lines, in K2_TOPICS, or use --force" in result.stderr
    fits = CliRunner().invoke(app, ["produce", str(path)], env={"K2_TOPICS": f"trades={fitting}"})
    assert (fits.exit_code, fits.stderr) == (0, "")


@pytest.mark.parametrize("rejected", range(5))
def test_a_short_file_is_checked_whole(produce: Callable[..., Result], producer: _Producer, rejected: int) -> None:
    """Of four lines, up to two may be rejected, which is exactly half."""
    lines = [*GOOD[: 4 - rejected], *NANOSECONDS[:rejected]]
    result = produce([*lines, b"", b" "])
    assert result.exit_code == (0 if rejected <= 2 else 2)
    assert producer.values == (lines if rejected <= 2 else [])
    if rejected > 2:
        assert f"{rejected} of the first 4 lines" in result.stderr


@pytest.mark.parametrize(("rejected", "code"), [(100, 0), (101, 2)])
def test_exactly_half_is_published(
    produce: Callable[..., Result], producer: _Producer, rejected: int, code: int
) -> None:
    """More than half of the first 200 lines is refused, whatever follows them."""
    lines = [*GOOD[: 200 - rejected], *NANOSECONDS[:rejected], *(GOOD if code else NANOSECONDS)]
    assert produce(lines).exit_code == code
    assert producer.values == ([] if code else lines)


@pytest.mark.parametrize("lines", [[], [b"", b"  "]])
def test_an_empty_file_is_published(produce: Callable[..., Result], producer: _Producer, lines: list[bytes]) -> None:
    """It has nothing to reject; the topic is created."""
    assert produce(lines, "--partitions", "3").exit_code == 0
    assert producer.calls == [3]


def test_force_publishes_what_the_job_would_reject(produce: Callable[..., Result], producer: _Producer) -> None:
    """Every line, unchanged and keyed, without a check."""
    result = produce(NANOSECONDS, "--force")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (producer.values, producer.calls[1][0]) == (NANOSECONDS, b"x|A-B")


def test_a_time_ahead_of_now_is_refused(produce: Callable[..., Result], producer: _Producer) -> None:
    """The job compares it with the Kafka timestamp, which the broker sets to the time of the publication."""
    result = produce([trade(number, 10**16 - 1) for number in range(3)])
    assert (result.exit_code, producer.calls) == (2, [])
    assert "K2_TIME_AHEAD_SECONDS_MAX" in result.stderr


def test_skipped_messages_are_reported_with_their_commonest_cause(
    produce: Callable[..., Result], producer: _Producer
) -> None:
    """They are published, need no key, and are not counted as rejected."""
    lines = [b"pong", b'{"event":"subscribe","arg":{"channel":"trades"}}', b"pong"]
    result = produce(lines, "--venue", "okx", "--json", topics="trades=okx")
    assert (result.exit_code, producer.values) == (0, lines)
    assert result.stderr == (
        "k2: 3 of 3 messages have no key, because the job skips them by the rule of venue okx; the commonest cause is "
        "heartbeat (2)\n"
    )


class _Stream:
    """A stream of lines with its clock, and what was published of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.checked: list[int] = []
        self.published: list[int] = []
        self.first = FirstLines(self._check, lambda line: self.published.append(line.number), lambda: self.now)

    def _check(self, lines: Any) -> None:
        assert not self.published
        self.checked = [line.number for line in lines]

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.first.add(PlacedLine("-", number, b"x"))


@given(count=st.integers(0, 2 * LINES_CHECKED), quiet=st.sets(st.integers(0, 2 * LINES_CHECKED)))
def test_every_line_is_published_once_and_in_order(count: int, quiet: set[int]) -> None:
    """Wherever the stream is quiet; the lines before the first pause are checked, at most 200."""
    stream = _Stream()
    for number in range(count):
        if number in quiet:
            stream.first.release()
        stream.add(number)
    stream.first.release()
    assert stream.published == [*range(count)]
    pause = min((number for number in quiet if number), default=LINES_CHECKED)
    assert stream.checked == [*range(min(count, pause, LINES_CHECKED))]


def test_a_slow_stream_is_not_held_back_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are checked after five seconds, or when they are many bytes."""
    stream = _Stream()
    stream.add(1, 2)
    stream.now = 5.0
    assert stream.published == []
    stream.add(3)
    assert stream.published == stream.checked == [1, 2, 3]
    monkeypatch.setattr("k2.cli.capture_check.BYTES_HELD_MAX", 2)
    stream = _Stream()
    stream.add(1, 2, 3)
    assert (stream.checked, stream.published) == ([1, 2], [1, 2, 3])


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Make stdin a pipe, and return the descriptor by which to write to it."""
    read, write = os.pipe()
    monkeypatch.setattr("k2.cli.captures.QUIET_SECONDS", 0.05)
    with open(read, "rb") as stdin:  # noqa: PTH123  a descriptor has no path
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stdin))
        yield write


def test_a_quiet_stdin_is_reported_before_the_wait(pipe: int) -> None:
    """A line that is complete is yielded first; half a line is kept for when its rest has come."""
    seen: list[bytes | None] = []
    os.write(pipe, b"one\ntw")

    def on_quiet() -> None:
        seen.append(None)
        os.write(pipe, b"o\nthree")
        os.close(pipe)

    for line in read_capture("-", on_quiet):
        seen.append(line.value)  # noqa: PERF401  `on_quiet` appends in between
    assert seen == [b"one", None, b"two", b"three"]


@pytest.mark.parametrize("error", [SettingsError("refused"), UnreachableError("gone")])
def test_an_error_of_the_check_is_not_one_of_the_capture(pipe: int, error: Exception) -> None:
    """It is raised as it is, although some errors are those of files as well."""
    os.write(pipe, b"one\n")

    def on_quiet() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        list(read_capture("-", on_quiet))
    os.close(pipe)

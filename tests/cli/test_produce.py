"""`k2 produce` publishes a capture's lines unchanged, and reports what it did and what it could not do."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from k2.cli.captures import GZIP_MAGIC, ZSTD_MAGIC, read_capture
from k2.cli.dbn import DBN_MAGIC
from k2.cli.main import app
from k2.cli.pacing import RateLimit
from k2.model.errors import K2Error
from k2.ops.child_process import free_port
from k2.venues import VENUES
from tests.brokers import Broker, read_topic

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
CAPTURE_OF = {
    "binance-futures": "binance-coinm-btcusd_perp-20240808",
    "coinbase": "coinbase-match-20210417",
    "okx": "okx-trades-20220513",
    "bybit": "bybit-v2-trade-20210417",
}

TRADE = (
    b'{"exchange":"x","symbol":"A-B","sequence":1,"price":"1","quantity":"1","side":"buy","timestamp":%d}'
    % 1_723_161_255_342_000
)
LINES = [TRADE, b"not json", b"\xff\xfe\x00", TRADE + b"\r", b'"\xc3\xa9"', b" " + TRADE + b" "]


def _produce(broker: Broker | None, *arguments: str | Path, **environment: str) -> Result:
    servers = broker.bootstrap_servers if broker else f"127.0.0.1:{free_port()}"
    given = {"K2_BOOTSTRAP_SERVERS": servers, **environment}
    return CliRunner().invoke(app, ["produce", *map(str, arguments)], env=given)


def _found(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_published_unchanged(broker: Broker, tmp_path: Path, *, packed: bool) -> None:
    """Each line's bytes are a message's value, a carriage return included; keys are the venue's or null."""
    topic = broker.topic()
    text = b"\n".join([*LINES[:2], b"", b"  \r", *LINES[2:]])
    path = tmp_path / "capture"
    path.write_bytes(gzip.compress(text) if packed else text)
    found = _found(_produce(broker, path, "--topic", topic, "--json"))
    assert found.pop("seconds") >= 0
    assert found == {"topic": topic, "venue": "k2", "files": 1, "published": 6, "unkeyed": 3, "blank": 2}
    messages = read_topic(broker, topic)
    assert [message.value() for message in messages] == LINES
    assert [message.key() for message in messages] == [b"x|A-B", None, None, b"x|A-B", None, b"x|A-B"]


def test_several_files_and_an_empty_one(broker: Broker, tmp_path: Path) -> None:
    """Files are published in sequence, empty ones too."""
    topic = broker.topic()
    for name, text in (("a", b"1\n"), ("b", b""), ("c", b"2")):
        (tmp_path / name).write_bytes(text)
    found = _found(_produce(broker, *sorted(tmp_path.iterdir()), "--topic", topic, "--json", "--force"))
    assert (found["files"], found["published"]) == (3, 2)
    assert [message.value() for message in read_topic(broker, topic)] == [b"1", b"2"]


def test_standard_input_is_read(broker: Broker) -> None:
    """`-` reads stdin, gzip as well, and the table shows the counts."""
    topic = broker.topic()
    done = subprocess.run(
        [sys.executable, "-m", "k2.cli", "produce", "-", "--topic", topic],
        cwd=ROOT,
        input=gzip.compress(TRADE + b"\n"),
        env={**os.environ, "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        capture_output=True,
        check=True,
    )
    assert b"published  1\n" in done.stdout
    assert [message.value() for message in read_topic(broker, topic)] == [TRADE]


@pytest.mark.parametrize(
    ("arguments", "topics", "venue"),
    [
        ([], "other", "k2"),
        ([], "{topic}=binance-spot", "binance-spot"),
        (["--venue", "k2"], "{topic}=binance-spot", "k2"),
        (["--venue", "k2-monotonic"], "{topic}=k2", "k2-monotonic"),
        ([], "{topic}=k2-identity-only", "k2-identity-only"),
    ],
)
def test_the_venue_is_the_topics(broker: Broker, arguments: list[str], topics: str, venue: str) -> None:
    """Without --venue it is the one that K2_TOPICS gives the topic, else k2."""
    topic = broker.topic()
    result = _produce(broker, os.devnull, "--topic", topic, "--json", *arguments, K2_TOPICS=topics.format(topic=topic))
    assert _found(result)["venue"] == venue


def test_the_topic_is_created_with_its_partitions(broker: Broker, tmp_path: Path) -> None:
    """A missing topic gets the requested partitions."""
    topic = f"made-{os.urandom(6).hex()}"
    _found(_produce(broker, os.devnull, "--topic", topic, "--partitions", "3", "--json"))
    assert len(broker.admin().list_topics(timeout=30).topics[topic].partitions) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            [os.devnull, "--venue", "nyse"],
            2,
            "unknown venue 'nyse'; see `k2 venues list`",
        ),
        (["absent.ndjson"], 2, "absent.ndjson cannot be read: No such file"),
        (["."], 2, ". cannot be read: Is a directory"),
        ([""], 2, "FILE is empty"),
        ([os.devnull, "--venue", ""], 2, "unknown venue ''"),
        ([os.devnull, "--topic", "a b"], 2, "--topic: invalid topic name 'a b'"),
        ([os.devnull, "--rate", "0"], 2, "--rate"),
        ([os.devnull, "--rate", "inf"], 2, "--rate"),
        ([os.devnull, "--partitions", "9" * 30], 2, "--partitions"),
        ([], 2, "Missing argument 'FILE'; see `k2 produce --help`"),
        ([os.devnull, "--speed", "fast"], 2, "--speed 'fast': not a positive number; use 1x"),
        ([os.devnull, "--speed", "1x", "--rate", "1"], 2, "--rate and --speed are two paces; leave one out"),
        ([os.devnull, "--timestamps", "then"], 2, "--timestamps"),
        ([os.devnull, "--day", "2024-08-09"], 2, "--day selects stored trades; add --table, or leave it out"),
        ([os.devnull, "--table"], 2, "FILE is for captures, not for stored trades; leave it out, or --table"),
        (["--table"], 2, "--table needs a --topic"),
        (
            ["--table", "--topic", "trades"],
            2,
            "--topic trades: the job reads it, so the table's own trades would come back",
        ),
        (["--table", "--topic", "t", "--day", "2024-08-09T01:00:00Z"], 2, "--day '2024-08-09T01:00:00Z': not a day"),
        (["--table", "--topic", "t", "--day", "2024-08-09", "--end", "2025"], 2, "leave out --start and --end, or"),
        ([os.devnull], 3, "no Kafka broker answers at 127.0.0.1:"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], code: int, words: str) -> None:
    """Wrong usage exits with 2, an absent broker with 3, and neither prints a traceback."""
    result = _produce(None, *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "were published" not in result.stderr
    assert result.stdout == ""


# Random digits: they do not compress so well that a cut near the end would leave nothing.
NUMBERS = [b"%d" % (number * 7_919 % 1_000_003) for number in range(20_000)]


@pytest.mark.parametrize(
    ("spoil", "words", "least"),
    [
        (lambda data: data[: len(data) * 2 // 3], "is truncated", 13_000),
        (lambda data: data[:-4], "is truncated", 20_000),
        (lambda data: data[:-8] + b"\0" * 8, "is damaged", 20_000),
    ],
    ids=["cut in the middle", "cut at its end", "damaged"],
)
def test_a_corrupt_gzip_is_published_up_to_the_error(
    broker: Broker, tmp_path: Path, spoil: Any, words: str, least: int
) -> None:
    """Every complete line before the error is delivered, then exit code 1: the file, the cause, the line count."""
    topic = broker.topic(partitions=1)
    path = tmp_path / "capture.gz"
    path.write_bytes(spoil(gzip.compress(b"\n".join(NUMBERS) + b"\n")))
    result = _produce(broker, path, "--topic", topic, "--json", "--force")
    published = [message.value() for message in read_topic(broker, topic)]
    assert len(published) >= least
    assert published == NUMBERS[: len(published)]
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{path} {words} after line {len(published):,}: " in result.stderr
    assert f"; {len(published):,} messages were published\n" in result.stderr


@pytest.mark.parametrize("venue", ["binance-futures", "coinbase", "okx", "bybit"])
def test_a_capture_is_keyed_by_its_venues_rule(broker: Broker, venue: str) -> None:
    """A real capture is published line by line, each keyed by the exchange and symbol of its trades."""
    topic = broker.topic(partitions=1)
    path = DATA / f"{CAPTURE_OF[venue]}.ndjson.gz"
    found = _found(_produce(broker, path, "--topic", topic, "--venue", venue, "--json"))
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert (found["published"], found["unkeyed"]) == (len(lines), 0)
    trades = [VENUES[venue].decode(line)[0] for line in lines]
    keys = [f"{trade.exchange}|{trade.symbol}".encode() for trade in trades]
    assert [(message.key(), message.value()) for message in read_topic(broker, topic)] == [
        *zip(keys, lines, strict=True)
    ]


def test_a_venue_of_the_user_keys_its_messages(broker: Broker, tmp_path: Path) -> None:
    """The first lines are decoded by the table, and the keys are those that it finds."""
    (tmp_path / "mine.toml").write_text('name = "mine"\nextends = "okx"\nexchange = "my-okx"\n', encoding="utf-8")
    topic, capture = broker.topic(), DATA / "okx-v5-trades-withacks-2022.ndjson.gz"
    given = {"K2_VENUES": str(tmp_path), "K2_TOPICS": f"{topic}=mine"}
    found = _found(_produce(broker, capture, "--topic", topic, "--json", **given))
    VENUES.use_tables("")
    assert (found["venue"], found["published"], found["unkeyed"]) == ("mine", 80, 6)
    keys = {message.key() for message in read_topic(broker, topic)}
    assert keys == {None, b"my-okx|BTC-USD-220527", b"my-okx|UNI-USD-SWAP", b"my-okx|BTC-USDT"}


def test_a_wrong_venue_is_reported(broker: Broker, tmp_path: Path) -> None:
    """Lines without a key are published unchanged; a warning counts them, and says what the first one lacks."""
    topic = broker.topic()
    for name, lines in (("good", [TRADE]), ("foreign", [b"", TRADE, b'{"e":"trade"}', b"not json"])):
        (tmp_path / name).write_bytes(b"\n".join(lines))
    result = _produce(broker, tmp_path / "good", tmp_path / "foreign", "--topic", topic, "--json")
    found = _found(result)
    assert (found["published"], found["unkeyed"]) == (4, 2)
    assert result.stderr == (
        "k2: warning: 2 of 4 messages have no key by the rule of venue k2 (for others see "
        "`k2 venues list`); "
        f"the first is line 3 of {tmp_path / 'foreign'}: exchange: missing\n"
    )
    assert sorted(message.value() or b"" for message in read_topic(broker, topic)) == sorted(
        [TRADE, TRADE, b'{"e":"trade"}', b"not json"]
    )


def test_a_message_that_has_no_key_causes_no_warning(broker: Broker, tmp_path: Path) -> None:
    """Such as the reply to a subscription, which is part of a capture: it is only counted."""
    (tmp_path / "capture").write_bytes(b'{"result":null,"id":1}\n')
    result = _produce(broker, tmp_path / "capture", "--topic", broker.topic(), "--venue", "binance-spot", "--json")
    assert _found(result)["unkeyed"] == 1
    assert result.stderr == (
        "k2: 1 of 1 messages have no key, because the job skips them by the rule of venue binance-spot; "
        "the commonest cause is subscription reply (1)\n"
    )


@given(lines=st.lists(st.binary().filter(lambda line: b"\n" not in line), min_size=1), packed=st.booleans())
def test_lines_are_split_at_newlines(
    tmp_path_factory: pytest.TempPathFactory, *, lines: list[bytes], packed: bool
) -> None:
    """Whatever the bytes, lines joined by newlines are read as those lines; an empty last one is not a line."""
    text = b"\n".join(lines)
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(gzip.compress(text) if packed or text.startswith((GZIP_MAGIC, ZSTD_MAGIC, DBN_MAGIC)) else text)
    expected = lines if lines[-1] else lines[:-1]
    found = list(read_capture(str(path)))
    assert [line.value for line in found] == expected
    assert [line.number for line in found] == list(range(1, len(expected) + 1))


def test_an_endless_line_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not consist of lines does not fill the memory."""
    monkeypatch.setattr("k2.cli.captures.LINE_BYTES_MAX", 100)
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 100 + b"\n" + b"y" * 101)
    with pytest.raises(K2Error, match="line 2 is longer than 100 bytes"):
        list(read_capture(str(path)))


class _Clock:
    """A clock that advances only in `sleep`."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.floats(0.1, 100_000), st.integers(1, 500))
def test_the_rate_is_observed(per_second: float, count: int) -> None:
    """After n calls the clock is at the time of the n-th, within the resolution of sleep."""
    clock = _Clock()
    limit = RateLimit(per_second, clock, clock.sleep)
    for _ in range(count):
        limit.wait()
    assert clock.now - 100 == pytest.approx((count - 1) / per_second, abs=0.0011)


def test_a_stall_is_not_made_up_for() -> None:
    """After a pause of a minute, at most a tenth of a second's calls follow at once."""
    clock = _Clock()
    limit = RateLimit(100, clock, clock.sleep)
    limit.wait()
    clock.sleep(60)
    resumed = clock.now
    at_once = 0
    while clock.now == resumed:
        limit.wait()
        at_once += 1
    assert at_once <= 12


def test_messages_have_the_times_of_their_trades(broker: Broker, tmp_path: Path) -> None:
    """With --timestamps trade; a line without a trade has the time at which it was published."""
    topic, began = broker.topic(partitions=1), time.time()
    (tmp_path / "capture").write_bytes(b"\n".join([TRADE, b"not json"]))
    _found(_produce(broker, tmp_path / "capture", "--topic", topic, "--timestamps", "trade", "--speed", "1x", "--json"))
    first, second = (message.timestamp()[1] for message in read_topic(broker, topic))
    assert first == 1_723_161_255_342
    assert second >= int(began * 1_000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_after_all_is_delivered(broker: Broker, number: signal.Signals) -> None:
    """On a signal while it waits for more lines, it delivers the lines it has and exits with 128 + the signal."""
    topic = broker.topic()
    with subprocess.Popen(
        [sys.executable, "-m", "k2.cli", "produce", "-", "--topic", topic],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(TRADE + b"\n" + TRADE + b"\n")
        process.stdin.flush()
        while not read_topic(broker, topic):
            time.sleep(0.1)
        process.send_signal(number)
        process.wait(60)
        assert process.stderr is not None
        log = process.stderr.read()
    assert process.returncode == 128 + number
    assert b'"not_delivered": 0' in log
    assert len(read_topic(broker, topic)) == 2

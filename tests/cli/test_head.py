"""`k2 head` publishes which number the newest trade of a symbol has."""

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from k2.iceberg.tables import TableName
from k2.model.trade import Trade
from k2.ops.settings import Settings
from k2.venues import VENUES
from tests.brokers import Broker, read_topic
from tests.query.tables import append, event, made


def test_the_number_is_published_where_the_trades_come_from(
    settings: Settings, broker: Broker, k2: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the topic and partition of the ledger, as a message that the venue k2-head reads, with who says so."""
    topic = broker.topic(partitions=3)
    for kind, number, partition in (("session_started", 1, 0), ("gap_opened", 5, 2)):
        one = event(kind, number, number, topic=topic, partition=partition, offset=number)
        append(made(settings, TableName.SEQUENCE_EVENTS), [one])
    monkeypatch.setenv("K2_TOPICS", f"{topic}=binance-spot")
    monkeypatch.setenv("K2_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    result = k2("head", "binance", "BTCUSDT", "42", "--by", "ann", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "topic": topic,
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "sequence": 42,
        "origin": "person ann",
    }
    said = k2("head", "binance", "BTCUSDT", "1042", "--by", "ann")
    assert "sequence  1042\n" in said.stdout
    message, _ = read_topic(broker, topic)
    assert (message.partition(), message.key()) == (2, b"binance|BTCUSDT")
    assert dict(message.headers() or ()) == {"k2-origin": b"person ann", "k2-venue": b"k2-head"}
    (trade,) = VENUES["k2-head"].decode(message.value() or b"")
    assert isinstance(trade, Trade)
    assert (trade.exchange, trade.symbol, trade.sequence, trade.is_head) == ("binance", "BTCUSDT", 42, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kraken", "BTC-USD", "5"), "no trade of 'kraken' and 'BTC-USD' with a contiguous number is stored"),
        (("binance", "BTCUSDT", "5"), "topic 'trades' is not in K2_TOPICS"),
        (("binance", "BTCUSDT", "5", "--topic", "a b"), "--topic: "),
        (("binance", "BTCUSDT", "0"), "Invalid value for 'NUMBER'"),
        (("binance", "", "5"), "is empty"),
    ],
)
def test_what_cannot_be_published_is_refused(
    settings: Settings,
    k2: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    """In a sentence that names it, before a broker is asked."""
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 5, 6)])
    monkeypatch.setenv("K2_TOPICS", "others")
    result = k2("head", *arguments)
    assert result.exit_code == 2
    assert words in str(result.exception or "") + result.stderr

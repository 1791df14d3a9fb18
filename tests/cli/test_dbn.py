"""DBN files of Databento as captures: their trades are those of `dbn --json`, by the venues that read them."""

import gzip
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import databento_dbn as dbn
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from k2.cli.captures import CaptureError, read_capture
from k2.cli.main import app
from k2.model.errors import SettingsError
from k2.model.trade import BUY, NO_SIDE, SELL
from k2.venues import VENUES
from tests.brokers import Broker, read_topic
from tests.venues.messages import printed

TIME: Final = 1_609_160_400_000_429_831
SIDES: Final = [dbn.Side.BID, dbn.Side.ASK, dbn.Side.NONE]
INTERVAL: Final = SimpleNamespace(start_date=date(2020, 12, 28), end_date=date(2020, 12, 29), symbol="5482")


def metadata() -> bytes:
    """Return the head of a file whose symbol ESH1 is instrument 5482."""
    mapping: Any = SimpleNamespace(raw_symbol="ESH1", intervals=[INTERVAL])
    head = dbn.Metadata(
        "GLBX.MDP3",
        TIME,
        dbn.SType("raw_symbol"),
        dbn.SType("instrument_id"),
        dbn.Schema("trades"),
        symbols=["ESH1"],
        mappings=[mapping],
    )
    return bytes(head)


def trade(number: int, price: int = 3_720_250_000_001, instrument: int = 5482) -> bytes:
    """Return a trade in DBN."""
    side = SIDES[number % 3]
    record = dbn.TradeMsg(1, instrument, TIME + number, price, number + 1, dbn.Action.TRADE, side, 0, TIME)
    return bytes(record)


def file_of(count: int) -> bytes:
    """Return a file with trades, heartbeats between them, and a trade without a price."""
    heartbeat = bytes(dbn.SystemMsg(TIME, "Heartbeat", dbn.SystemCode.HEARTBEAT))
    records = [trade(number) for number in range(count)]
    return metadata() + b"".join([*records[:1], heartbeat, *records[1:], trade(0, dbn.UNDEF_PRICE)])


PACKED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
}


@pytest.mark.parametrize("packing", PACKED)
def test_the_trades_of_a_file_are_read(tmp_path: Path, packing: str) -> None:
    """Each record is a line, however the file is compressed, also one that is longer than what is read at a time."""
    path = tmp_path / "trades.dbn"
    path.write_bytes(PACKED[packing](file_of(5_000)))
    lines = [line.value for line in read_capture(str(path))]
    assert len(lines) == 5_002
    assert json.loads(lines[0])["symbol"] == "ESH1"
    for venue, symbol in (("databento", "5482"), ("databento-symbols", "ESH1")):
        trades = [VENUES[venue].decode(line)[0] for line in (*lines[:1], *lines[2:-1])]
        assert [one.side for one in trades[:3]] == [BUY, SELL, NO_SIDE]
        assert printed(trades[7])[:5] == (symbol, None, None, Decimal("3720.250000001"), 8)
        assert VENUES[venue].key(lines[0]) == f"databento|{symbol}"


def test_a_plain_file_in_zstd_is_read(tmp_path: Path) -> None:
    """Lines in zstd are lines, as those in gzip."""
    path = tmp_path / "lines.zst"
    path.write_bytes(PACKED["zstd"](b"1\n2"))
    assert [line.value for line in read_capture(str(path))] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("data", "lines", "error"),
    [
        (file_of(2)[:-3], 3, "is damaged after line 3: it ends within a record"),
        (metadata()[:40], 0, "is damaged after line 0: it ends within a record"),
        (b"DBN\xff" + bytes(300), 0, "is damaged after line 0: decoding error: "),
        (PACKED["zstd"](file_of(2))[:-9], 0, "cannot be read after line 0: Truncated"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, data: bytes, lines: int, error: str) -> None:
    """All whole records before are yielded."""
    path = tmp_path / "trades.dbn"
    path.write_bytes(data)
    read, count = read_capture(str(path)), 0
    with pytest.raises(CaptureError) as caught:
        for count, _ in enumerate(read, start=1):  # noqa: B007  the last count is wanted
            pass
    assert count == lines
    assert f"trades.dbn {error}" in str(caught.value)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a DBN file needs it."""
    monkeypatch.setattr("k2.cli.dbn.find_spec", lambda _: None)
    path = tmp_path / "trades.dbn"
    path.write_bytes(file_of(1))
    with pytest.raises(SettingsError, match=r"trades.dbn is a DBN file, which needs the extra 'dbn'; run `pip install"):
        list(read_capture(str(path)))


def test_a_file_is_published_as_lines(broker: Broker, tmp_path: Path) -> None:
    """With the key of the symbol; the job reads them by the same venue."""
    path, topic = tmp_path / "trades.dbn.zst", broker.topic()
    path.write_bytes(PACKED["zstd"](file_of(3)))
    done = CliRunner().invoke(
        app,
        ["produce", str(path), "--topic", topic, "--venue", "databento-symbols", "--json"],
        env={"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["published"] == 5
    messages = read_topic(broker, topic)
    assert [message.key() for message in messages] == [b"databento|ESH1", None, *[b"databento|ESH1"] * 2, None]
    assert [message.value() for message in messages] == [line.value for line in read_capture(str(path))]

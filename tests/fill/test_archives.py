"""Forms of archives and answers: what they say, digit for digit, and what is refused in one sentence."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from k2.fill.archives import TRADES, ArchiveError, Names, read_answer, read_archive, read_messages
from k2.fill.forms import UnknownFormError, forms, named_form
from k2.model.errors import SettingsError
from k2.venues import VENUES
from tests.fill.archive_files import binance_day, checksum, recorded, zipped
from tests.fill.samples import SAMPLES

DAY = "BTCUSDT-trades-2024-08-08"


def test_every_form_has_a_sample() -> None:
    """A form that no example is read by does not exist."""
    assert {*SAMPLES} == {*forms()}


@pytest.mark.parametrize("form", SAMPLES)
def test_a_form_is_recognised_and_read(form: str) -> None:
    """By content and name, or named; each value has the digits of the file, times are microseconds."""
    sample = SAMPLES[form]
    for given in (None, named_form(form)):
        archive = read_answer(sample.name, sample.content, given, Names(symbol=sample.symbol))
        assert archive.form == form
        assert archive.trades.schema == TRADES
        assert archive.trades.to_pylist() == [sample.trade]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda text: zipped("a.csv", text.decode())])
@pytest.mark.parametrize("header", ["id,price,qty,quote_qty,time,is_buyer_maker,is_best_match\n", ""])
def test_a_day_with_and_without_header(pack: Callable[[bytes], bytes], header: str) -> None:
    """Milliseconds until 2024 and microseconds from 2025 differ by their digits, in every packing."""
    text = f"{header}5,1.10,2,2.2,1723161255342,True,True\n6,1.1,2,2.2,1735689600342001,False,True\n"
    trades = read_answer(f"{DAY}.csv", pack(text.encode())).trades
    assert trades["timestamp"].to_pylist() == [1723161255342000, 1735689600342001]
    assert trades["side"].to_pylist() == ["sell", "buy"]


def test_a_recorded_day_is_read_as_its_venue_decodes_it(tmp_path: Path) -> None:
    """The trades of a daily file made from a recording are those of the recording, as its venue's table has them."""
    lines = recorded("binance-spot-btcusdt-20240808")[:1_000]
    venue = VENUES["binance-spot"]
    path = binance_day(tmp_path, lines)
    checksum(path)
    archive, live = read_archive(path), read_messages("capture", lines, venue)
    assert archive.trades.num_rows == len(lines)
    for name in ("exchange", "symbol", "trade_id", "sequence", "first_sequence", "side", "timestamp"):
        assert archive.trades[name].equals(live.trades[name]), name


def test_a_range_venue_is_read_by_its_table() -> None:
    """A capture has the form of its venue: ranges, ids of their own, and what is no trade is left out."""
    lines = recorded("binance-spot-aggtrade-combined")
    archive = read_messages(
        "capture", [*lines, b"no json", b"", b'{"result":null,"id":1}'], VENUES["binance-spot-aggtrade"]
    )
    assert archive.rejected == 1
    assert archive.trades.num_rows == len(lines)
    assert archive.trades["trade_id"].null_count == 0
    assert archive.trades["first_sequence"].null_count < len(lines)


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    """A file that is not the one of its `.CHECKSUM` is not read; the digits may be in upper case."""
    path = binance_day(tmp_path, recorded("binance-spot-btcusdt-20240808")[:3])
    checked = checksum(path)
    checked.write_text(checked.read_text(encoding="utf-8").upper(), encoding="utf-8")
    assert read_archive(path).trades.num_rows == 3
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArchiveError, match="differs from its checksum"):
        read_archive(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"foo,bar\n", "has no known form (first line 'foo,bar'); name one with --form (binance-spot-trades,"),
        (b"[]", "has no known form (JSON beginning '[]')"),
        (b"{", "cannot be read"),
        (b"5,1.10,2,2.2,soon,True,True\n", "is not of form binance-spot-trades: Conversion Error"),
        (b"5,1.10,2,2.2,1723161255342,Maybe,True\n", "unknown side 'Maybe'"),
        (b"5,,2,2.2,1723161255342,True,True\n", "a trade has no price"),
        (b"5,1.10,2,2.2,1723161255342,True,True\n6,1\n", "cannot be read"),
        (gzip.compress(b"5,1.10,2,2.2,1723161255342,True,True\n")[:-9], "is damaged"),
        (zipped("a.csv", "5,1.10,2,2.2,1723161255342,True,True\n")[:-9], "is damaged"),
    ],
)
def test_a_damaged_or_unknown_file_is_one_sentence(content: bytes, message: str) -> None:
    """Nothing of such a file is read, and the sentence names the file and what is wrong."""
    with pytest.raises((ArchiveError, UnknownFormError), match=re.escape(message)) as raised:
        read_answer(f"{DAY}.csv", content)
    assert str(raised.value).startswith(DAY)
    assert "\n" not in str(raised.value)


def test_a_symbol_that_nothing_says_is_asked_for() -> None:
    """A file that was renamed needs --symbol; one that has several symbols is filtered by it."""
    sample = SAMPLES["coinbase-rest"]
    with pytest.raises(SettingsError, match="does not say its symbol"):
        read_answer("answer", sample.content)
    okx = SAMPLES["okx-rest"].content
    assert read_answer("answer", okx, names=Names(symbol="ETH-USDT")).trades.num_rows == 0
    assert read_answer("answer", okx, names=Names("okx-eea", "BTC-USDT")).trades["exchange"].to_pylist() == ["okx-eea"]


def test_an_empty_day_has_no_trades() -> None:
    """A file of the header alone, and an answer without trades whose form is named, are read."""
    assert read_answer("a.csv", b"instrument_name,trade_id,side,price,size,created_time\n").trades.num_rows == 0
    assert read_answer("a", b'{"code":"0","data":[]}', named_form("okx-rest")).trades.num_rows == 0


def test_an_unknown_name_of_a_form() -> None:
    """The names of those known are listed."""
    with pytest.raises(SettingsError, match=r"--form 'x' is not known; use one of binance-spot-trades, "):
        named_form("x")


HEADER = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match\n"
OKX = "instrument_name,trade_id,side,price,size,created_time\nBTC-USDT,7,buy,1.5,2,1723161600000\n"


def test_a_byte_order_mark_and_line_ends_say_nothing() -> None:
    """As programs of Windows write a file, with quotes or without."""
    row = '"5","1.5","2","3","1723161600000","True","True"\r\n'
    for text in (f"\ufeff{HEADER}{row}", f"\ufeff{row}".replace('"', ""), f"{HEADER}{row}".replace("\r", "")):
        (trade,) = read_answer(f"{DAY}.csv", text.encode()).trades.to_pylist()
        assert (trade["sequence"], trade["price"], trade["side"]) == (5, "1.5", "sell")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (f"{HEADER}5.7,1.5,2,3,1723161600000,True,True\n", "not a whole number: 5.7"),
        (f"{HEADER}5,1.5,2,3,1723161600,True,True\n", "a trade is dated before 2009"),
        (OKX[:-5], "a trade is dated before 2009 .*so the file is cut"),
        (f"{HEADER[:-1]}{' ' * 70_000}\n", "its first line has 65,536 bytes or more"),
    ],
    ids=["a number with a fraction", "seconds", "cut in its last time", "a first line without end"],
)
def test_no_number_and_no_time_is_guessed(text: str, refusal: str) -> None:
    """A rounded number is that of another trade, and a cut time another time."""
    with pytest.raises(ArchiveError, match=refusal):
        read_answer(f"{DAY}.csv", text.encode())


@pytest.mark.parametrize("text", [HEADER + "5,1.5,2,3,1723161600000,True,True\n" * 3_000, "[" + " " * 90_000])
def test_a_small_file_does_not_fill_the_memory(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed a hundredfold is no archive of trades, whatever its form."""
    monkeypatch.setattr("k2.fill.archives.UNPACKED_BYTES_MIN", 1_000)
    with pytest.raises(ArchiveError, match=r"is unpacked to more than [\d,]+ bytes, more than 100 times its size"):
        read_answer(f"{DAY}.zip", zipped("a.csv", text))

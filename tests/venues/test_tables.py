"""The language of tables: what it accepts, and one sentence with file, line and key for what it does not."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError, SkippedError
from k2.model.trade import BUY, NO_SIDE, SELL
from k2.venues import VENUES, SequenceMode, Venue
from k2.venues.table import table_schema
from k2.venues.table_decoder import venue_of
from k2.venues.table_files import line_of, read_table
from k2.venues.table_fill import Fill
from k2.venues.table_paths import parse_path

TABLE: Final = """\
name = "bourse"
source = "https://docs.example.com/trades"
exchange = "bourse"
numbering = "contiguous"

symbol = { path = "s" }
sequence = { path = "n" }
price = { path = "p" }
quantity = { path = "q" }
time = { path = "t", unit = "ms" }
side = { path = "side", buy = ["B"], sell = ["S"] }

[[messages]]
when = [{ path = "e", one_of = ["trade"] }]
"""
MESSAGE: Final = {"e": "trade", "s": "AB", "n": 7, "p": "1.5", "q": 2, "t": 1_700_000_000_000, "side": "B"}


def venue(tmp_path: Path, *changes: tuple[str, str], more: str = "") -> Venue:
    """Return the venue of the sample table with some of its text replaced, and more appended."""
    text = TABLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "bourse.toml"
    path.write_text(text + more, encoding="utf-8")
    return venue_of(read_table(path, VENUES.tables.get).table)


def encoded(**changes: Any) -> bytes:
    """Return the sample message with some fields changed."""
    return msgspec.json.encode(MESSAGE | changes)


@pytest.mark.parametrize(
    ("changes", "more", "sentence"),
    [
        ([("symbol =", "symbl =")], "", " line 6: symbl: unknown key; did you mean 'symbol'?"),
        ([('path = "t"', 'pth = "t"')], "", " line 10: time.pth: unknown key; did you mean 'path'?"),
        ([('"trade"]', '"trade"], zzz = 1')], "", " line 14: messages[0].when[0].zzz: unknown key; see `k2 venues s"),
        ([('price = { path = "p" }\n', "")], "", ": price: missing; see `k2 venues schema`"),
        (
            [('unit = "ms"', 'unit = "min"')],
            "",
            " line 10: time.unit: invalid enum value 'min'; use one of ms, ms_or_us, ns,",
        ),
        ([('exchange = "bourse"', "exchange = 5")], "", " line 3: exchange: expected str | object, got int"),
        ([('name = "bourse"', 'name = "Bourse!"')], "", " line 1: name: expected str matching regex"),
        ([('numbering = "contiguous"', "numbering = ")], "", " line 4: not TOML: invalid value"),
        ([('path = "p"', 'path = "p..q"')], "", " line 8: price.path: not a path: 'p..q'; use names, [0] for"),
        ([('path = "p"', 'path = "p[]"')], "", " line 8: price.path: [] in 'p[]': only the path of trades may"),
        ([('path = "p"', 'path = ""')], "", " line 8: price.path: an empty path; name a field"),
        (
            [('symbol = { path = "s" }', "symbol = { path = 's', pattern = 'a.*' }")],
            "",
            " line 6: symbol.pattern: has 0 groups; put parentheses around the name alone: 'a.*'",
        ),
        (
            [('symbol = { path = "s" }', "symbol = { path = 's', pattern = '(' }")],
            "",
            " line 6: symbol.pattern: not a regular expression (missing )",
        ),
        ([('sequence = { path = "n" }', "")], "", " line 4: numbering: contiguous needs a sequence; name its field"),
        ([('"contiguous"', '"none"')], "", " line 4: numbering: none has neither sequence nor trade_id; remove them"),
        (
            [('"contiguous"', '"identity_only"'), ('sequence = { path = "n" }', "")],
            "",
            " line 4: numbering: identity_only needs a trade_id or a sequence",
        ),
        ([(', sell = ["S"]', "")], "", " line 11: side: has no values; give buy and sell, or by_sign = true"),
        ([('sell = ["S"]', 'sell = ["B"]')], "", " line 11: side: names a value twice: 'B'"),
        ([('sell = ["S"]', 'sell = ["S"], by_sign = true')], "", " line 11: side.by_sign: excludes buy, sell and none"),
        ([(', one_of = ["trade"]', "")], "", " line 14: messages[0].when[0]: must have exactly one of one_of, matches"),
        ([], '[[skip]]\nreason = "status"\n', " line 15: skip[0]: skips every message; give texts or when"),
        (
            [],
            '[[skip]]\nreason = "other"\ntexts = ["x"]\n',
            " line 16: skip[0].reason: invalid enum value 'other'; use one of error, ",
        ),
        (
            [],
            '[[heads]]\nreason = "status"\nwhen = [{ path = "e", present = true }]\nnumber = { path = "n" }\n',
            " line 16: heads[0].reason: invalid enum value 'status'; use one of heartbeat, other_channel",
        ),
        ([('one_of = ["trade"]', "one_of = []")], "", " line 14: messages[0].when[0].one_of: has no values, so no"),
        ([], '[[kinds]]\npath = "$.k"\nmarket = [1]\n', " line 16: kinds[0].path: begins at the message; name a"),
        ([], '[[kinds]]\npath = "k"\nmarket = [1]\nskipped = [1]\n', " line 15: kinds[0]: names a value twice: 1"),
        (
            [('sequence = { path = "n" }', 'trade_id = { path = "n" }'), ('"contiguous"', '"identity_only"')],
            '[[kinds]]\npath = "k"\nmarket = [1]\nnon_market = [2]\n',
            " line 18: kinds[0].non_market: uses a number, but there is no sequence; use skipped",
        ),
        ([], "[fill]\ndays = 0\n", " line 16: fill.days: expected int >= 1; see `k2 venues schema`"),
        ([('name = "bourse"', 'name = "bourse"\nextends = "nyse"')], "", " line 2: extends: there is no table of a"),
        (
            [('path = "n"', 'path = "$.n"')],
            'trades = "d[]"\n',
            " line 7: sequence.path: begins at the message, which can have several trades; name a field of the trade",
        ),
        (
            [("exchange = ", 'trade_id = { path = "$.d[0].i" }\nexchange = ')],
            'trades = "d[]"\n',
            " line 3: trade_id.path: begins at the message",
        ),
        (
            [('path = "p"', 'path = "$.d[0].p"')],
            'trades = "d[]"\n',
            " line 8: price.path: is that of one trade for all in d[]; name a field of the trade",
        ),
    ],
)
def test_a_wrong_table_is_one_sentence(
    tmp_path: Path, changes: list[tuple[str, str]], more: str, sentence: str
) -> None:
    """The file, the line of the key, the key, what is wrong and the way on."""
    with pytest.raises(SettingsError) as caught:
        venue(tmp_path, *changes, more=more)
    assert str(caught.value).startswith(f"{tmp_path / 'bourse.toml'}{sentence}")
    assert "\n" not in str(caught.value)


def test_tables_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    """Instead of being read without end."""
    files = {name: tmp_path / f"{name}.toml" for name in ("a", "b")}
    files["a"].write_text('name = "a"\nextends = "b"\n', encoding="utf-8")
    files["b"].write_text('name = "b"\nextends = "a"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"b.toml line 2: extends: 'a' extends this table in turn"):
        read_table(files["a"], files.get)


def test_how_long_trades_can_be_had_decodes_nothing(tmp_path: Path) -> None:
    """So it is in no digest, wherever it is in the file; a start compares digests."""
    file = tmp_path / "bourse.toml"
    skip = '\n[[skip]]\nreason = "error"\ntexts = ["x"]\n'
    for more in ("", skip):
        file.write_text(TABLE + more, encoding="utf-8")
        without = read_table(file, VENUES.tables.get)
        file.write_text(f"{TABLE}\n[fill]\n# Stated.\ndays = 7\ntrades = 100\n{more}", encoding="utf-8")
        found = read_table(file, VENUES.tables.get)
        assert (without.table.fill, found.table.fill) == (None, Fill(days=7, trades=100))
        assert found.digest == without.digest
        file.write_text(f"{TABLE}\n[filled]\n{more}", encoding="utf-8")
        with pytest.raises(SettingsError, match="filled: unknown key"):
            read_table(file, VENUES.tables.get)


def test_a_table_changes_the_keys_of_another(tmp_path: Path) -> None:
    """Whole keys, but for the name; the digest is of both files."""
    base, file = tmp_path / "base.toml", tmp_path / "more.toml"
    base.write_text(TABLE, encoding="utf-8")
    file.write_text('name = "more"\nextends = "bourse"\nprice = { path = "px" }\n', encoding="utf-8")
    found = read_table(file, {"bourse": base}.get)
    assert (found.table.name, found.table.price.path, found.table.symbol.path) == ("more", "px", "s")
    base.write_text(TABLE + "# changed\n", encoding="utf-8")
    assert read_table(file, {"bourse": base}.get).digest != found.digest


@pytest.mark.parametrize(
    ("numbering", "mode"),
    [
        ("contiguous", SequenceMode.CONTIGUOUS),
        ("monotonic", SequenceMode.MONOTONIC),
        ("identity_only", SequenceMode.IDENTITY_ONLY),
    ],
)
def test_the_numbering_is_the_venues_mode(tmp_path: Path, numbering: str, mode: SequenceMode) -> None:
    """By the same names."""
    assert venue(tmp_path, ('"contiguous"', f'"{numbering}"')).mode is mode


@pytest.mark.parametrize(
    ("unit", "value", "microseconds"),
    [
        ('unit = "s"', 1_700_000_000, 1_700_000_000_000_000),
        ('unit = "s", fraction = true', "1700000000.1234567", 1_700_000_000_123_456),
        ('unit = "s", fraction = true', msgspec.Raw(b"1700000000.5"), 1_700_000_000_500_000),
        ('unit = "s", fraction = true', 1_700_000_000, 1_700_000_000_000_000),
        ('unit = "ms"', "1700000000001", 1_700_000_000_001_000),
        ('unit = "ms", fraction = true', "1700000000001.25", 1_700_000_000_001_250),
        ('unit = "us"', 1_700_000_000_000_001, 1_700_000_000_000_001),
        ('unit = "us", fraction = true', "1700000000000001.9", 1_700_000_000_000_001),
        ('unit = "ns"', "1700000000000001999", 1_700_000_000_000_001),
        ('unit = "ms_or_us"', 1_700_000_000_001, 1_700_000_000_001_000),
        ('unit = "ms_or_us"', 1_700_000_000_000_001, 1_700_000_000_000_001),
        ('unit = "rfc3339"', "2023-11-14T22:13:20.000001Z", 1_700_000_000_000_001),
    ],
)
def test_times_of_every_unit_are_microseconds(tmp_path: Path, unit: str, value: object, microseconds: int) -> None:
    """Digits beyond are cut off, and nothing passes through a float."""
    [trade] = venue(tmp_path, ('unit = "ms"', unit)).decode(encoded(t=value))
    assert trade.timestamp == microseconds


@pytest.mark.parametrize(
    ("unit", "value", "error"),
    [
        ('unit = "s"', 1_700_000_000_000, "not seconds (10 digits): '1700000000000'"),
        ('unit = "us"', 1_700_000_000_000, "not microseconds (16 digits): '1700000000000'"),
        ('unit = "ns"', 1_700_000_000_000, "not nanoseconds (19 digits): '1700000000000'"),
        ('unit = "ms"', "1700000000001.5", "not a whole number of 64 bits: '1700000000001.5'"),
        ('unit = "ms"', msgspec.Raw(b"1700000000001.5"), "expected int, got float"),
        ('unit = "s", fraction = true', "1700000000.", "not a number of digits with a fraction: '1700000000.'"),
        ('unit = "ms", type = "number"', "1700000000001", "expected int, got str"),
        ('unit = "ms", type = "text"', 1_700_000_000_001, "expected str, got int"),
        ('unit = "rfc3339"', 5, "expected str, got int"),
    ],
)
def test_a_time_in_another_unit_is_refused(tmp_path: Path, unit: str, value: object, error: str) -> None:
    """Never guessed: by its digits, its type, or its fraction."""
    with pytest.raises(RejectedError) as caught:
        venue(tmp_path, ('unit = "ms"', unit)).decode(encoded(t=value))
    assert caught.value.error == f"t: {error}"


@pytest.mark.parametrize(
    ("side", "value", "expected"),
    [
        ('buy = ["B", "b"], sell = ["S"]', "b", BUY),
        ('buy = ["B"], sell = ["S"], of = "maker"', "B", SELL),
        ("buy = [false], sell = [true]", True, SELL),
        ("buy = [0], sell = [1]", 0, BUY),
        ('buy = ["B"], sell = ["S"], none = ["X"]', "X", NO_SIDE),
        ('buy = ["B"], sell = ["S"], optional = true', None, NO_SIDE),
        ("by_sign = true", msgspec.Raw(b"-0.5"), SELL),
        ("by_sign = true", "3", BUY),
        ('by_sign = true, of = "maker"', 3, SELL),
    ],
)
def test_sides_are_the_takers(tmp_path: Path, side: str, value: object, expected: int) -> None:
    """By values of any type, by the sign of a number, and inverted if they are the maker's."""
    [trade] = venue(tmp_path, ('buy = ["B"], sell = ["S"]', side)).decode(encoded(side=value))
    assert trade.side == expected


@pytest.mark.parametrize(("value", "error"), [(True, "expected int, got bool"), (2, "neither 0 nor 1: '2'")])
def test_a_side_of_another_type_is_refused(tmp_path: Path, value: object, error: str) -> None:
    """True is not 1."""
    with pytest.raises(RejectedError) as caught:
        venue(tmp_path, ('buy = ["B"], sell = ["S"]', "buy = [0], sell = [1]")).decode(encoded(side=value))
    assert caught.value.error == f"side: {error}"


@pytest.mark.parametrize("value", ["S", "sell", "", "\u22125", " -5"])
def test_a_text_that_is_no_number_has_no_sign(tmp_path: Path, value: str) -> None:
    """It would be taken for a purchase."""
    with pytest.raises(RejectedError) as caught:
        venue(tmp_path, ('buy = ["B"], sell = ["S"]', "by_sign = true")).decode(encoded(side=value))
    assert caught.value.error.startswith("side: not a decimal: ")


@pytest.mark.parametrize(
    ("more", "side"),
    [
        ('[[kinds]]\npath = "x.k"\nmarket = ["M"]\nabsent = "market"\n', 'path = "side"'),
        ("", 'path = "x.side", optional = true'),
    ],
)
def test_what_cannot_be_looked_into_is_not_absent(tmp_path: Path, more: str, side: str) -> None:
    """A kind in another form would be a market trade, and a side none; but its container may be missing, or null."""
    found = venue(tmp_path, ('path = "side"', side), more=more)
    for absent in ({}, {"x": None}, {"x": {}}):
        [trade] = found.decode(encoded(**absent))
        assert trade.is_market
    with pytest.raises(RejectedError) as caught:
        found.decode(encoded(x="ADL"))
    assert caught.value.error == "x: expected object, got str"


KINDS: Final = '[[kinds]]\npath = "k"\nmarket = ["M"]\nnon_market = ["I"]\nskipped = ["Q"]\nabsent = "market"\n'


def test_trades_are_of_the_market_by_their_kind(tmp_path: Path) -> None:
    """A non-market trade keeps its number, a skipped entry is left out, an unknown kind is unsupported."""
    found = venue(tmp_path, more=f'trades = "d[]"\n{KINDS}')

    def decoded(*kinds: str | None) -> list[tuple[int | None, bool]]:
        rows = [MESSAGE | {"n": at} | ({} if kind is None else {"k": kind}) for at, kind in enumerate(kinds)]
        return [(one.sequence, one.is_market) for one in found.decode(msgspec.json.encode({"e": "trade", "d": rows}))]

    assert decoded("M", "I", "Q", None) == [(0, True), (1, False), (3, True)]
    with pytest.raises(SkippedError, match="non_market"):
        decoded("Q", "Q")
    without_number = msgspec.json.encode({"e": "trade", "d": [{"k": "Q"}, MESSAGE]})
    assert [one.sequence for one in found.decode(without_number)] == [MESSAGE["n"]]
    with pytest.raises(RejectedError, match=r"unsupported: d\[1\].k: 'Z' is not read from a bourse topic"):
        decoded("M", "Z")


def test_a_number_beyond_pythons_limit_matters_only_where_it_is_read(tmp_path: Path) -> None:
    """In another field it is ignored, as the compiled decoders do."""
    found, digits = venue(tmp_path), b"9" * 5_000
    assert found.decode(encoded(other=msgspec.Raw(digits), p="1.5"))
    with pytest.raises(RejectedError, match="n: integer value out of range"):
        found.decode(encoded(n=msgspec.Raw(digits)))


def test_of_equal_keys_the_last_one_counts(tmp_path: Path) -> None:
    """As in the example of Gate's documentation, which has a key twice."""
    [trade] = venue(tmp_path).decode(encoded().replace(b'"n":7', b'"n":7,"n":8'))
    assert trade.sequence == 8


@pytest.mark.parametrize(
    ("key", "line"),
    [("name", 1), ("side.sell", 11), ("messages[0].when[0].path", 14), ("messages", 13), ("absent", None), ("", None)],
)
def test_lines_of_keys_are_found(key: str, line: int | None) -> None:
    """The line of the innermost part that the text has."""
    assert line_of(TABLE, key) == line


@pytest.mark.parametrize("text", ["a b", ".a", "a.", "[x]", "[-1]", "a[1]b c"])
def test_what_is_no_path_is_refused(text: str) -> None:
    """Instead of being read as another one."""
    with pytest.raises(ValueError, match="not a path"):
        parse_path(text)


def test_every_key_of_the_schema_is_described() -> None:
    """Editors show the descriptions; those of fields that say everything by their name are few."""
    schema = table_schema()
    assert {*schema["$defs"]} >= {"VenueTable", "TimeField", "SideField"}
    undescribed = {
        f"{part}.{key}"
        for part, value in schema["$defs"].items()
        for key, one in value["properties"].items()
        if "description" not in str(one)
    }
    assert len(undescribed) < 20
    assert all(value["additionalProperties"] is False for value in schema["$defs"].values())


NESTED: Final = """\
[[messages]]
when = [{ path = "batch", present = true }]
trades = "batch[]"
"""


def test_a_key_is_found_in_every_form(tmp_path: Path) -> None:
    """In the message if it is the trade, in its first trade if it has several; an empty one has none."""
    found = venue(tmp_path, more=NESTED)
    assert found.key(encoded()) == "bourse|AB"
    assert found.key(msgspec.json.encode({"batch": [MESSAGE, MESSAGE | {"s": "CD"}]})) == "bourse|AB"
    with pytest.raises(RejectedError, match=r"invalid: batch\[0\].s: missing"):
        found.key(msgspec.json.encode({"batch": [{}]}))
    with pytest.raises(SkippedError, match="no_trades"):
        found.key(b'{"batch":[]}')


def test_names_come_from_the_message_or_the_trade(tmp_path: Path) -> None:
    """An error names the path from the root, without the index of the trade that needed it."""
    symbol = ('symbol = { path = "s" }', "symbol = { path = '$.ch', pattern = 'trades_(.*)' }")
    exchange = ('exchange = "bourse"', 'exchange = { path = "x" }')
    found = venue(tmp_path, symbol, exchange, more='trades = "d[]"\n')
    message = {"e": "trade", "ch": "trades_AB", "d": [MESSAGE | {"x": "ny"}]}
    [trade] = found.decode(msgspec.json.encode(message))
    assert (found.exchange, trade.exchange, trade.symbol) == (None, "ny", "AB")
    assert found.key(msgspec.json.encode({"e": "trade", "ch": "trades_AB", "d": [{"x": "ny"}]})) == "ny|AB"
    for changes, error in (
        ({"ch": "book_AB"}, "ch: does not match 'trades_(.*)': 'book_AB'"),
        ({"ch": "trades_"}, "ch: empty"),
        ({"ch": 5}, "ch: expected str, got int"),
        ({"d": [MESSAGE]}, "d[0].x: missing"),
        ({"d": [5]}, "d[0]: expected object, got int"),
        ({"d": {}}, "d: expected array, got object"),
    ):
        with pytest.raises(RejectedError) as caught:
            found.decode(msgspec.json.encode(message | changes))
        assert caught.value.error == error


def test_an_optional_id_may_be_absent_or_null(tmp_path: Path) -> None:
    """Then the trade has none, and is never dropped as a duplicate."""
    number = ('sequence = { path = "n" }', 'trade_id = { path = "n", type = "number", optional = true }')
    found = venue(tmp_path, number, ('"contiguous"', '"identity_only"'))
    absent = msgspec.json.encode({name: value for name, value in MESSAGE.items() if name != "n"})
    assert [found.decode(value)[0].trade_id for value in (encoded(), encoded(n=None), absent)] == ["7", None, None]


def test_a_wrapper_is_taken_off(tmp_path: Path) -> None:
    """Unless the message has the field that only a message without one has; errors name the inner path."""
    found = venue(tmp_path, ("symbol =", 'envelope = { path = "data", unless = "e" }\nsymbol ='))
    bare = encoded()
    assert found.decode(b'{"stream":"x","data":' + bare + b"}") == found.decode(bare)
    assert found.decode(encoded(data=5)) == found.decode(bare)
    with pytest.raises(RejectedError, match="invalid: n: missing"):
        found.decode(b'{"data":{"e":"trade"}}')
    with pytest.raises(RejectedError, match="malformed: value: expected object, got int"):
        found.decode(b'{"data":5}')

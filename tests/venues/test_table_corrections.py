"""Corrections and ids of several parts in the language of tables."""

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest

from k2.model.correction import Correction, CorrectionKind
from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError, SkippedError
from k2.model.trade import Trade
from k2.venues import VENUES, Venue
from k2.venues.decode import decode
from k2.venues.table_decoder import venue_of
from k2.venues.table_files import read_table
from tests.venues.messages import batch_of

TABLE: Final = """\
name = "bourse"
source = "https://docs.example.com/trades"
exchange = "bourse"
numbering = "identity_only"

symbol = { path = "s" }
trade_id = [{ day = "America/New_York" }, { path = "x" }, { path = "f", optional = true }, { path = "i" }]
price = { path = "p" }
quantity = { path = "q" }
time = { path = "t", unit = "ms" }

[[messages]]
trades = "[]"

[[kinds]]
path = "k"
market = ["t"]
skipped = ["q"]

[[corrections]]
when = [{ path = "k", one_of = ["x"] }]
action = "cancel"
trade_id = [{ day = "America/New_York" }, { path = "x" }, { path = "f", optional = true }, { path = "i" }]
old_price = { path = "p" }

[[corrections]]
when = [{ path = "k", one_of = ["c"] }]
action = "correct"
trade_id = { path = "i" }
new_price = { path = "np" }
new_quantity = { path = "nq" }
new_conditions = "cc"
symbol = { path = "of" }
time = { path = "at", unit = "s" }
"""
TRADE: Final = {"k": "t", "s": "AB", "x": "D", "i": "7", "p": "1.5", "q": 2, "t": 1_700_000_000_000}
MIDNIGHT_MS: Final = 1_700_024_400_000
"""2023-11-15T05:00:00Z, midnight in New York."""


def venue(tmp_path: Path, *changes: tuple[str, str]) -> Venue:
    """Return the venue of the sample table with some of its text replaced."""
    text = TABLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "bourse.toml"
    path.write_text(text, encoding="utf-8")
    return venue_of(read_table(path, VENUES.tables.get).table)


def encoded(*entries: dict[str, Any]) -> bytes:
    """Return a message."""
    return msgspec.json.encode(list(entries))


@pytest.mark.parametrize(
    ("changes", "trade_id"),
    [
        ({}, "2023-11-14:D::7"),
        ({"f": None}, "2023-11-14:D::7"),
        ({"f": "a"}, "2023-11-14:D:a:7"),
        ({"i": "7:8"}, "2023-11-14:D::7:8"),
        ({"t": MIDNIGHT_MS - 1}, "2023-11-14:D::7"),
        ({"t": MIDNIGHT_MS}, "2023-11-15:D::7"),
    ],
)
def test_an_id_of_parts_has_the_day_of_the_venue(tmp_path: Path, changes: dict[str, Any], trade_id: str) -> None:
    """The date of the time zone changes at its midnight; the same id is then another trade."""
    [trade] = venue(tmp_path).decode(encoded(TRADE | changes))
    assert isinstance(trade, Trade)
    assert trade.trade_id == trade_id


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"x": "a:b"}, "[0].x: has a ':', which separates the parts: 'a:b'"),
        ({"x": None}, "[0].x: expected str, got null"),
        ({"f": ""}, "[0].f: empty"),
        ({"i": "i" * 250}, "[0].i: longer than 255 bytes"),
        ({"k": "z"}, "[0].k: 'z' is not read from a bourse topic"),
        ({"k": "x", "p": "a"}, "[0].p: not a decimal: 'a'"),
        ({"k": "c", "of": "AB", "at": 1_700_000_000, "np": "1", "nq": "0"}, "[0].nq: not above zero: '0'"),
        ({"k": "c", "of": "AB", "at": 1_700_000_000, "nq": "1"}, "[0].np: missing"),
    ],
)
def test_a_wrong_part_or_correction_is_refused(tmp_path: Path, changes: dict[str, Any], error: str) -> None:
    """With its place in the message."""
    with pytest.raises(RejectedError) as caught:
        venue(tmp_path).decode(encoded(TRADE | changes))
    assert caught.value.error.startswith(error)


def test_each_entry_is_what_its_rule_says(tmp_path: Path) -> None:
    """In the order of the message; an entry of another kind is left out."""
    corrected = {"k": "c", "of": "CD", "i": "9", "np": 1.25, "nq": 3, "cc": ["@", 1.5], "at": 1_700_000_000}
    cancelled = TRADE | {"k": "x", "t": MIDNIGHT_MS}
    found = venue(tmp_path).decode(encoded({"k": "q"}, corrected, TRADE, cancelled))
    assert [type(one) for one in found] == [Correction, Trade, Correction]
    first, _, last = found
    assert isinstance(first, Correction)
    assert isinstance(last, Correction)
    assert (first.what, first.symbol, first.trade_id, first.new_trade_id) == (CorrectionKind.CORRECTED, "CD", "9", None)
    assert (first.new_price, first.new_quantity, first.old_price) == (Decimal("1.25"), 3, None)
    assert (first.new_conditions, first.old_conditions, first.timestamp) == ('["@","1.5"]', None, 1_700_000_000_000_000)
    assert (last.what, last.trade_id, last.old_price) == (CorrectionKind.CANCELLED, "2023-11-15:D::7", Decimal("1.5"))
    with pytest.raises(SkippedError):
        venue(tmp_path).decode(encoded({"k": "q"}))


def test_what_a_rule_names_is_no_drift(tmp_path: Path) -> None:
    """Its conditions begin at the entry, and its sale conditions are paths too; any other key is new."""
    kinds = '\n[[kinds]]\npath = "k"\nmarket = ["t"]\nskipped = ["q"]\n'
    finder = venue(tmp_path, (kinds, ""), ('name = "bourse"', 'name = "bourse"\nknown = []')).drift
    assert finder is not None
    corrected = {"k": "c", "of": "CD", "i": "9", "np": 1.25, "nq": 3, "cc": ["@"], "at": 1_700_000_000}
    assert finder.drift(encoded(TRADE, corrected)) == []
    assert [one.path for one in finder.drift(encoded(TRADE, corrected | {"new": 1}))] == ["new"]


def test_indexes_count_trades_and_corrections(tmp_path: Path) -> None:
    """So each row of both tables has coordinates of its own; a message that is rejected has none of either."""
    VENUES["bourse"] = venue(tmp_path)
    try:
        batch = batch_of([encoded(TRADE | {"k": "x"}, TRADE, TRADE), encoded(TRADE, TRADE | {"k": "x"})], "bourse")
        kafka_timestamps = np.array([1_700_000_000_000_000, 1_600_000_000_000_000])
        object.__setattr__(batch, "kafka_timestamps", kafka_timestamps)
        decoded = decode(batch)
    finally:
        del VENUES["bourse"]
    columns = decoded.trades.columns
    assert [*zip(columns.messages.tolist(), columns.indexes.tolist(), strict=True)] == [(0, 1), (0, 2)]
    assert [(message, index) for message, index, _ in decoded.corrections] == [(0, 0)]
    assert [message for message, _ in decoded.rejected] == [1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('{ path = "x" }', "{ type = 'any' }"), "trade_id[1]: must have exactly one of path and day"),
        (('{ path = "x" }', "{ path = 'x', day = 'UTC' }"), "trade_id[1]: must have exactly one of path and day"),
        (('{ path = "x" }', "{ path = 'x[]' }"), "trade_id[1].path: [] in 'x[]'"),
        (
            ("America/New_York", "New York"),
            "trade_id[0].day: unknown time zone: 'New York'; use a name as America/New_",
        ),
        (
            (
                '[{ day = "America/New_York" }, { path = "x" }, { path = "f", optional = true }, { path = "i" }]',
                '[{ day = "UTC" }, { path = "$.x" }]',
            ),
            "trade_id: has no field that each trade must have; name one in path",
        ),
        (
            ('action = "cancel"', 'action = "cancel"\nnew_price = { path = "p" }'),
            "corrections[0].new_price: a cancelled trade has no new values",
        ),
        (
            ('new_price = { path = "np" }\n', ""),
            'corrections[1]: action = "correct" needs new_price and new_quantity; name their fields',
        ),
        (
            ('trade_id = { path = "i" }', 'trade_id = { path = "i", optional = true }'),
            "corrections[1].trade_id.optional: a correction names the trade that it means",
        ),
        (('symbol = { path = "of" }', "symbol = { path = '..' }"), "corrections[1].symbol.path: not a path"),
        (('new_conditions = "cc"', 'new_conditions = ""'), "corrections[1].new_conditions: an empty path"),
        (
            ('when = [{ path = "k", one_of = ["c"] }]', "when = []"),
            "corrections[1].when: expected array of length >= 1",
        ),
        (('one_of = ["x"]', "one_of = ['x'], present = true"), "corrections[0].when[0]: must have exactly one of"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    """With the key."""
    with pytest.raises(SettingsError) as caught:
        venue(tmp_path, change)
    assert sentence.lower() in str(caught.value).lower()


def test_such_a_table_is_read_in_plain_python(tmp_path: Path) -> None:
    """The kernel has neither; it would take a correction for a trade."""
    assert venue(tmp_path).decode_compiled is None

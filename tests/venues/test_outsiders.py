"""The language of tables says what venues send that are not built in, from their documentation alone."""

from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pytest

from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError
from k2.venues import VENUES
from k2.venues.decode import decode, decode_by_reference
from k2.venues.table_files import read_table
from k2.venues.table_history import venue_of_file
from k2.venues.venue import Venue
from tests.venues.messages import batch_of, outcome, printed
from tests.venues.outsiders import OUTSIDERS, Outsider

IN_PLAIN_PYTHON: Final = {"lbank"}
"""Venues with what the compiled decoder leaves."""


def venue_of(one: Outsider, folder: Path) -> Venue:
    """Write the table of an outsider, and return its venue."""
    path = folder / f"{one.name}.toml"
    path.write_text(f'name = "{one.name}"\nexchange = "{one.name}"{one.table}', encoding="utf-8")
    return venue_of_file(read_table(path, {}.get))


@pytest.mark.parametrize("one", OUTSIDERS, ids=lambda one: one.name)
def test_a_documented_message_is_read(one: Outsider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All fields of all trades, by both decoders, with its key, and nothing that the table does not know."""
    venue, value = venue_of(one, tmp_path), msgspec.json.encode(one.message)
    expected = [
        (symbol, trade_id, number, Decimal(price), Decimal(quantity), side, microseconds)
        for symbol, trade_id, number, price, quantity, side, microseconds in one.trades
    ]
    assert [printed(trade) for trade in venue.decode(value)] == expected
    assert venue.key(value) == f"{one.name}|{one.trades[0][0]}"
    assert (venue.decode_compiled is None) == (one.name in IN_PLAIN_PYTHON)
    assert venue.drift is not None
    assert venue.drift.drift(value) == []
    monkeypatch.setitem(VENUES, one.name, venue)
    batch = batch_of([value, value[:-1], value], one.name)
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))
    assert len(decode(batch).trades.columns) == 2 * len(one.trades)


def test_a_time_without_a_zone_may_have_a_space(tmp_path: Path) -> None:
    """Only one, between date and time."""
    [one] = [one for one in OUTSIDERS if one.name == "lbank"]
    venue, value = venue_of(one, tmp_path), msgspec.json.encode(one.message)
    assert venue.decode(value.replace(b"28T19", b"28 19")) == venue.decode(value)
    with pytest.raises(RejectedError, match=r"invalid: trade\.TS: not an RFC 3339 time"):
        venue.decode(value.replace(b"28T19", b"28  19"))


def test_a_time_has_one_zone(tmp_path: Path) -> None:
    """A time that names its own in spite of the table's is invalid, and numbers have none."""
    [one] = [one for one in OUTSIDERS if one.name == "lbank"]
    value = msgspec.json.encode(one.message).replace(b"49.460", b"49.460Z")
    with pytest.raises(
        RejectedError, match=r"invalid: trade\.TS: not an RFC 3339 time: .*; \+08:00 is the zone of the"
    ):
        venue_of(one, tmp_path).decode(value)
    with pytest.raises(SettingsError, match=r"time\.zone: is that of rfc3339 times"):
        venue_of(one._replace(table=one.table.replace('"rfc3339"', '"ms"')), tmp_path)
    with pytest.raises(SettingsError, match=r"time\.zone: "):
        venue_of(one._replace(table=one.table.replace("+08:00", "Asia")), tmp_path)

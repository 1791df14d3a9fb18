"""Drift: what a message has that its table does not know is found, and nothing else."""

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.decode import CAPTURES
from k2.model.reasons import SkippedError
from k2.venues import VENUES
from k2.venues.table_drift import PATH_CHARACTERS_MAX, Change, Drift
from tests.venues.documented import DOCUMENTED, SKIPPED
from tests.venues.recordings import RECORDINGS, lines_of
from tests.venues.test_recorded_venues import ABSENT, BYBIT_TRADE, OKX_TRADE, message

FILES: Final = sorted({(one.venue, one.file) for one in RECORDINGS} | {*CAPTURES.items()})


def drift(venue: str, value: bytes) -> list[Drift]:
    """Return how a message differs from the table of a venue."""
    finder = VENUES[venue].drift
    assert finder is not None
    return finder.drift(value)


@pytest.mark.parametrize(("venue", "file"), FILES, ids=lambda one: one)
def test_recordings_have_no_drift(venue: str, file: str) -> None:
    """The built-in tables name or list every key that the recordings have."""
    assert [one for line in lines_of(file)[:2_000] for one in drift(venue, line)] == []


@pytest.mark.parametrize("one", DOCUMENTED, ids=lambda one: one.venue)
def test_documented_messages_have_no_drift(one: Any) -> None:
    """As recordings."""
    assert drift(one.venue, msgspec.json.encode(one.message)) == []


@pytest.mark.parametrize("name", [*VENUES.tables])
def test_built_in_tables_list_the_keys_that_they_do_not_use(name: str) -> None:
    """So that a key that a venue adds is noticed."""
    finder = VENUES[name].drift
    assert finder is not None
    assert finder.is_complete


@pytest.mark.parametrize(("venue", "one", "why"), SKIPPED)
def test_skipped_messages_are_not_compared(venue: str, one: Any, why: str) -> None:
    """Whatever keys they have."""
    assert drift(venue, msgspec.json.encode(one | {"k": why})) == []


@pytest.mark.parametrize(
    ("venue", "changes", "expected"),
    [
        ("binance-futures", {"rpi": True}, (Change.NEW_KEY, "rpi", "'true'")),
        ("binance-futures", {"rpi": {"a": 1}}, (Change.NEW_KEY, "rpi", "'{\"a\": 1}'")),
        ("okx", {"seq": 1}, (Change.NEW_KEY, "$.seq", "'1'")),
        ("okx", {"data": [OKX_TRADE, OKX_TRADE | {"x": 5}]}, (Change.NEW_KEY, "x", "'5'")),
        ("okx", {"arg": {"channel": "trades", "instId": "A", "t": 5}}, (Change.NEW_KEY, "$.arg.t", "'5'")),
        ("binance-futures", {"X": "RPI"}, (Change.NEW_VALUE, "X", "'RPI'")),
        ("binance-futures", {"X": 7}, (Change.CHANGED_TYPE, "X", "number instead of text")),
        ("binance-futures", {"m": "true"}, (Change.CHANGED_TYPE, "m", "text instead of bool")),
        ("okx", {"data": [OKX_TRADE | {"side": "Buy"}]}, (Change.NEW_VALUE, "side", "'Buy'")),
        ("coinbase", {"type": "auction"}, (Change.NEW_VALUE, "$.type", "'auction'")),
        ("coinbase", {"type": 1}, (Change.CHANGED_TYPE, "$.type", "number instead of text")),
        ("coinbase", {"type": ABSENT}, (Change.MISSING_KEY, "$.type", "")),
        ("binance-futures", {"p": 1.5}, (Change.CHANGED_TYPE, "p", "number instead of text")),
        ("binance-futures", {"t": "7"}, (Change.CHANGED_TYPE, "t", "text instead of number")),
        ("bybit", {"data": [BYBIT_TRADE | {"price": None}]}, (Change.CHANGED_TYPE, "price", "null")),
        ("binance-futures", {"q": ABSENT}, (Change.MISSING_KEY, "q", "")),
        ("okx", {"data": {}}, (Change.CHANGED_TYPE, "$.data", "expected array, got object")),
        ("okx", {"data": ABSENT}, (Change.MISSING_KEY, "$.data", "")),
        ("binance-futures", {"k" * 500: 1}, (Change.NEW_KEY, "k" * PATH_CHARACTERS_MAX, "'1'")),
    ],
)
def test_a_change_is_found(venue: str, changes: dict[str, Any], expected: tuple[Change, str, str]) -> None:
    """By its kind, its path as the table writes it, and its value, once for all trades of a message."""
    assert drift(venue, message(venue, changes)) == [expected]


def test_a_non_market_trade_needs_neither_price_nor_side() -> None:
    """Only its name, number and time are read."""
    changes = {"X": "ADL", "p": 0, "q": ABSENT, "m": ABSENT}
    assert drift("binance-futures", message("binance-futures", changes)) == []


def test_elements_of_arrays_are_keys() -> None:
    """Kraken's arrays may get another element; both its row and its message."""
    row = ["1.5", "2", "1534614057.321597", "s", "l", ""]
    assert drift("kraken-v1", msgspec.json.encode([0, [row], "trade", "XBT/USD"])) == []
    grown = msgspec.json.encode([0, [[*row, 17]], "trade", "XBT/USD", "new"])
    assert drift("kraken-v1", grown) == [(Change.NEW_KEY, "[6]", "'17'"), (Change.NEW_KEY, "$[4]", "'new'")]


def test_new_keys_differ_by_their_path_alone() -> None:
    """A value of its own in each message is one change, and values of an enumeration are many."""
    assert Drift(Change.NEW_KEY, "n", "'1'").identity == Drift(Change.NEW_KEY, "n", "'2'").identity
    assert Drift(Change.NEW_VALUE, "n", "'1'").identity != Drift(Change.NEW_VALUE, "n", "'2'").identity


@given(st.sampled_from(FILES), st.data(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=3))
def test_a_key_that_a_message_gets_is_found(where: tuple[str, str], data: st.DataObject, other: Any) -> None:
    """Once, unless the message is skipped, or only names a number; and no value of another key makes an error."""
    venue, file = where
    lines = [one for line in lines_of(file)[:50] if isinstance(one := msgspec.json.decode(line), dict)]
    if not lines:
        return
    one = data.draw(st.sampled_from(lines))
    key = data.draw(st.sampled_from([*one]))
    drift(venue, msgspec.json.encode(one | {key: other}))
    root = one["data"] if isinstance(one.get("data"), dict) and "stream" in one else one
    root["unheard_of"] = other
    value = msgspec.json.encode(one)
    found = [found for found in drift(venue, value) if found.path.endswith("unheard_of")]
    try:
        trades = VENUES[venue].decode(value)
    except SkippedError:
        assert found == []
    else:
        assert len(found) == (0 if trades[0].is_head else 1)


def test_keys_and_values_of_others_are_made_printable() -> None:
    """Control characters, and a number beyond Python's limit; a line of the log stays one line."""
    changes = b',"a\\nb":{"c":"\\u0007"},"z":' + b"9" * 5_000 + b"}"
    found = drift("binance-futures", message("binance-futures", {}).replace(b"}", changes))
    assert [one.path for one in found] == ["a\\nb", "z"]
    assert all(one.path.isprintable() and one.value.isprintable() and len(one.value) < 200 for one in found)

"""The canonical message: what is a trade, and the error for what is not."""

from typing import Any, Final

import msgspec
import numpy as np
import pytest

from k2.model.reasons import RejectedError
from k2.model.trade import BUY, NO_SIDE, SELL, Trade
from k2.venues.k2 import decode, key
from k2.venues.scan import keys_of, nesting
from tests.venues.messages import K2_MESSAGE

FIELDS: Final[dict[str, Any]] = msgspec.json.decode(K2_MESSAGE)
UNIT: Final = 10**18
TRADE: Final = Trade(
    "binance",
    "BTCUSDT",
    "a7",
    7,
    61_837_630_000_000_000_000_000,
    20_000_000_000_000_000,
    SELL,
    1_723_161_255_342_000,
    1_723_161_255_400_000,
)
ABSENT: Final = object()

ACCEPTED: Final[list[tuple[dict[str, Any], dict[str, Any]]]] = [
    ({}, {}),
    ({"trade_id": ABSENT}, {"trade_id": "7"}),
    ({"trade_id": None}, {"trade_id": "7"}),
    ({"trade_id": None, "sequence": None}, {"trade_id": None, "sequence": None}),
    ({"trade_id": None, "sequence": ABSENT}, {"trade_id": None, "sequence": None}),
    ({"trade_id": ABSENT, "sequence": -7}, {"trade_id": "-7", "sequence": -7}),
    ({"sequence": 2**63 - 1}, {"sequence": 2**63 - 1}),
    ({"sequence": -(2**63)}, {"sequence": -(2**63)}),
    ({"price": 61837.63}, {}),
    ({"price": msgspec.Raw(b"6.183763e4")}, {}),
    ({"price": "-37.63"}, {"price": -37_630_000_000_000_000_000}),
    ({"price": "0"}, {"price": 0}),
    ({"quantity": 1}, {"quantity": UNIT}),
    ({"quantity": "0.000000000000000001"}, {"quantity": 1}),
    ({"side": "buy"}, {"side": BUY}),
    ({"side": None}, {"side": NO_SIDE}),
    ({"side": ABSENT}, {"side": NO_SIDE}),
    ({"timestamp": "2024-08-09T01:54:15.342000999+02:00"}, {}),
    ({"received": None}, {"received": None}),
    ({"received": ABSENT}, {"received": None}),
    ({"symbol": "币安人生"}, {"symbol": "币安人生"}),
    ({"symbol": "x" * 255}, {"symbol": "x" * 255}),
    ({"exchange": "x" * 64}, {"exchange": "x" * 64}),
    ({"trade_id": "x" * 255}, {"trade_id": "x" * 255}),
    ({"extra": {"deep": [1, {"deeper": None}]}}, {}),
]
REFUSED: Final[list[tuple[dict[str, Any], str]]] = [
    ({"exchange": ABSENT}, "invalid: exchange: missing"),
    ({"exchange": None}, "invalid: exchange: expected str, got null"),
    ({"exchange": ""}, "invalid: exchange: empty"),
    ({"exchange": "x" * 65}, "invalid: exchange: longer than 64 bytes: '" + "x" * 60 + "...'"),
    ({"symbol": "x" * 256}, "invalid: symbol: longer than 255 bytes: '" + "x" * 60 + "...'"),
    ({"symbol": "币" * 86}, "invalid: symbol: longer than 255 bytes: '" + "币" * 60 + "...'"),
    ({"symbol": "A\x00B"}, "invalid: symbol: has a control character: 'A\\x00B'"),
    ({"symbol": 5}, "invalid: symbol: expected str, got int"),
    ({"trade_id": ""}, "invalid: trade_id: empty"),
    ({"trade_id": 5}, "invalid: trade_id: expected str | null, got int"),
    ({"trade_id": "x" * 256}, "invalid: trade_id: longer than 255 bytes: '" + "x" * 60 + "...'"),
    (
        {"trade_id": ABSENT, "sequence": None},
        "invalid: trade_id: missing; send a trade_id or a sequence",
    ),
    ({"sequence": 2**63}, "invalid: sequence: beyond 64 bits: '9223372036854775808'"),
    ({"sequence": -(2**63) - 1}, "invalid: sequence: beyond 64 bits: '-9223372036854775809'"),
    ({"sequence": msgspec.Raw(b"9" * 5000)}, "invalid: sequence: integer value out of range"),
    ({"sequence": True}, "invalid: sequence: expected int | null, got bool"),
    ({"sequence": 5.0}, "invalid: sequence: expected int | null, got float"),
    ({"sequence": "5"}, "invalid: sequence: expected int | null, got str"),
    ({"price": ABSENT}, "invalid: price: missing"),
    ({"price": "abc"}, "invalid: price: not a decimal: 'abc'"),
    ({"price": ""}, "invalid: price: not a decimal: ''"),
    ({"price": "NaN"}, "invalid: price: not a decimal: 'NaN'"),
    ({"price": True}, "invalid: price: expected a decimal string or a number, got 'true'"),
    ({"price": None}, "invalid: price: expected a decimal string or a number, got 'null'"),
    ({"price": "1e-19"}, "invalid: price: does not fit decimal(38, 18): '1e-19'"),
    ({"price": msgspec.Raw(b"1e999999999")}, "invalid: price: does not fit decimal(38, 18): '1e999999999'"),
    ({"quantity": "x"}, "invalid: quantity: not a decimal: 'x'"),
    ({"quantity": "0"}, "invalid: quantity: not above zero: '0'"),
    ({"quantity": "-0.5"}, "invalid: quantity: not above zero: '-0.5'"),
    ({"side": "BUY"}, "invalid: side: neither buy nor sell: 'BUY'"),
    ({"side": 1}, "invalid: side: expected str | null, got int"),
    ({"timestamp": ABSENT}, "invalid: timestamp: missing"),
    ({"timestamp": None}, "invalid: timestamp: expected int | str, got null"),
    (
        {"timestamp": 1_723_161_255_342},
        "invalid: timestamp: looks like milliseconds: 1723161255342; send microseconds",
    ),
    (
        {"received": 1_723_161_255_342_000_000},
        "invalid: received: looks like nanoseconds: 1723161255342000000; send microseconds",
    ),
    (
        {"timestamp": "2024-08-08T23:54:15"},
        "invalid: timestamp: time without a zone: '2024-08-08T23:54:15'; append Z or an offset",
    ),
    (
        {"timestamp": "2016-12-31T23:59:60Z"},
        "invalid: timestamp: leap second: '2016-12-31T23:59:60Z'",
    ),
]
MALFORMED: Final = [
    (b"", "malformed: value: Input data was truncated"),
    (K2_MESSAGE[:80], "malformed: value: Input data was truncated"),
    (b"hello", "malformed: value: JSON is malformed: invalid character (byte 0)"),
    (b"[1]", "malformed: value: expected object, got array"),
    (b"null", "malformed: value: expected object, got null"),
    (b"{}x", "malformed: value: JSON is malformed: trailing characters (byte 3)"),
    (b'{"symbol":5,]', "malformed: value: JSON is malformed: expected '\"' (byte 12)"),
    (b'{"other":"\xff"}', "malformed: value: not UTF-8 (byte 10)"),
    (b'{"other":NaN}', "malformed: value: JSON is malformed: invalid character (byte 9)"),
    (b'{"other":' + b"[" * 100_000, "malformed: value: nested more than 100 deep"),
    (b'{"price":' + b"[" * 100_000, "malformed: value: nested more than 100 deep"),
]


def message(changes: dict[str, Any]) -> bytes:
    """Return the sample message with some fields changed or left out."""
    fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not ABSENT}
    return msgspec.json.encode(fields)


@pytest.mark.parametrize(("changes", "expected"), ACCEPTED)
def test_a_trade_is_read(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every documented form is read as its documented value."""
    assert decode(message(changes)) == [TRADE._replace(**expected)]


@pytest.mark.parametrize(("changes", "error"), REFUSED)
def test_a_bad_field_is_named(changes: dict[str, Any], error: str) -> None:
    """The error is one short sentence: reason, field, and what is wrong."""
    with pytest.raises(RejectedError) as caught:
        decode(message(changes))
    assert str(caught.value) == error


@pytest.mark.parametrize(("value", "error"), MALFORMED)
def test_a_message_that_is_not_an_object_is_malformed(value: bytes, error: str) -> None:
    """Not UTF-8, not JSON, not an object, nested too deeply: each is rejected with its position."""
    with pytest.raises(RejectedError) as caught:
        decode(value)
    assert str(caught.value) == error


def test_the_last_of_duplicate_keys_counts() -> None:
    """As in most JSON parsers."""
    [trade] = decode(K2_MESSAGE[:-1] + b',"side":"buy"}')
    assert trade == TRADE._replace(side=BUY)


def test_a_message_with_a_bad_price_still_has_its_key() -> None:
    """It goes to the partition of its symbol's other trades."""
    assert key(message({"price": "abc", "sequence": True})) == "binance|BTCUSDT"


def test_a_message_without_names_has_no_key() -> None:
    """The error says which name is missing."""
    with pytest.raises(RejectedError, match="symbol: missing"):
        key(b'{"exchange":"binance"}')


@pytest.mark.parametrize(
    ("text", "depth"),
    [(b"1", 0), (b"{}", 1), (b'{"a":[[]]}', 3), (b'{"{[":"}\\"{{"}', 1), (b"[[[", 3), (b"]]{", 0), (b"", 0)],
)
def test_nesting_is_counted_outside_strings(text: bytes, depth: int) -> None:
    """Braces in strings, escaped quotes and stray closing brackets do not count."""
    assert nesting(np.frombuffer(text, dtype=np.uint8)) == depth


@pytest.mark.parametrize(("depth", "is_read"), [(99, True), (100, False), (100_000, False)])
def test_deep_nesting_is_malformed(depth: int, *, is_read: bool) -> None:
    """The limit is fixed, so that a replay gives the same verdict; the outer object counts one."""
    value = b'{"exchange":"x","symbol":"S","note":' + b"[" * depth + b"]" * depth + b"}"
    if is_read:
        assert key(value) == "x|S"
    else:
        with pytest.raises(RejectedError, match="malformed: value: nested more than 100 deep"):
            key(value)


def test_keys_are_packed_without_gaps() -> None:
    """The index of a key is its position, whatever the sizes; all are unsigned words, as the loops use."""
    text, starts, sizes = keys_of("price", "s", "", "id")
    written = b'"price":"s":"":"id":'
    assert (text.tobytes(), starts.tolist(), sizes.tolist()) == (written, [0, 8, 12, 15], [5, 1, 0, 2])
    assert [str(column.dtype) for column in keys_of("a", "b")] == ["uint8", "uint64", "uint64"]

"""Shared by reference decoders: strict JSON parsing, and errors that name the field."""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, invalid
from k2.model.symbol_names import SYMBOL_BYTES_MAX
from k2.venues.scan import nesting

__all__ = [
    "ID_BYTES_MAX",
    "INT64_MAX",
    "INT64_MIN",
    "RANGE_NUMBERS_MAX",
    "NumberText",
    "checked",
    "checked_range",
    "checked_trade_id",
    "decimal_text",
    "name",
    "number_text",
    "positive",
    "read",
    "read_json",
    "required",
    "sequence",
]

RANGE_NUMBERS_MAX: Final = 65_536
"""Maximum numbers that a trade stands for. A larger range is a wrong field, and would hide all gaps in it."""
ID_BYTES_MAX: Final = 255
"""Maximum length of a trade id, bytes of UTF-8."""
NESTING_MAX: Final = 100
"""Maximum nesting of objects and arrays. The limit of a JSON parser would depend on the stack depth of its caller."""
INTEGER_DIGITS_MAX: Final = 1_000
"""Digits of the longest whole number that is read as an integer if a message has one beyond Python's limit."""
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

T = TypeVar("T")
A = TypeVar("A")

_GRAMMAR: Final = msgspec.json.Decoder(msgspec.Raw)
_FIELD_ERROR: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_TEXT: Final = msgspec.json.Decoder(str)


class NumberText(str):
    """The digits of a JSON number that has a fraction or an exponent, or is too long for Python's integers."""

    __slots__ = ()


_JSON: Final = msgspec.json.Decoder(float_hook=NumberText)


def read(decoder: msgspec.json.Decoder[T], value: bytes) -> T:
    """Parse a message.

    Raises:
        RejectedError: `malformed` if it is not one JSON object in UTF-8, `invalid` if a field has another type.
    """
    try:
        return _parsed(decoder.decode, value)
    except msgspec.ValidationError as error:
        _check_grammar(value)
        _reject_field(str(error))


def read_json(value: bytes) -> Any:
    """Parse a message to dictionaries, lists, text, booleans, None and numbers; of equal keys the last one counts.

    Whole numbers are integers, and others the text of their digits (`NumberText`).

    Raises:
        RejectedError: `malformed` if it is not one JSON value in UTF-8.
    """
    try:
        return _parsed(_JSON.decode, value)
    except msgspec.ValidationError:
        # An integer of more digits than Python's limit: it may be in a field that the venue does not read.
        _check_grammar(value)
        return json.loads(value, parse_int=_whole_number, parse_float=NumberText)


def _parsed(decode: Callable[[bytes], T], value: bytes) -> T:
    """Return what `decode` makes of a message.

    Raises:
        RejectedError: `malformed` if it is not JSON in UTF-8, or nested too deep.
        ValidationError: as `decode` raises it.
    """
    # Few messages have so many brackets, and to count them is faster than to call a compiled rule.
    has_many = value.count(b"{") + value.count(b"[") > NESTING_MAX
    if has_many and nesting(np.frombuffer(value, dtype=np.uint8)) > NESTING_MAX:
        _malformed(f"nested more than {NESTING_MAX} deep")
    try:
        value.decode()
        return decode(value)
    except UnicodeDecodeError as error:
        _malformed(f"not UTF-8 (byte {error.start})")
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        _malformed(str(error))


def _whole_number(digits: str) -> int | NumberText:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else NumberText(digits)


def _check_grammar(value: bytes) -> None:
    """Reject text that is not JSON; this takes precedence over a field of the wrong type."""
    try:
        _GRAMMAR.decode(value)
    except msgspec.DecodeError as error:
        _malformed(str(error))


def _reject_field(error: str) -> NoReturn:
    match = _FIELD_ERROR.fullmatch(error)
    if match is None:
        _malformed(_lower(error))
    invalid(match.group(2), _lower(match.group(1)))


def _lower(sentence: str) -> str:
    return (sentence[:1].lower() + sentence[1:]).replace("`", "")


def _malformed(what: str) -> NoReturn:
    raise RejectedError(Reason.MALFORMED, f"value: {what}")


def required(field: str, value: T | UnsetType) -> T:
    """Return the value of a required field.

    Raises:
        RejectedError: `invalid`, the field is missing.
    """
    if value is UNSET:
        invalid(field, "missing")
    return value


def checked(field: str, rule: Callable[[A], T], value: A) -> T:
    """Apply a rule to the value of a field.

    Raises:
        RejectedError: `invalid`, with the message of the rule's `ValueError`.
    """
    try:
        return rule(value)
    except ValueError as error:
        invalid(field, str(error))


def name(field: str, text: str, bytes_max: int = SYMBOL_BYTES_MAX) -> str:
    """Return the name of an exchange or symbol, which must be neither empty nor too long, without control characters.

    Raises:
        RejectedError: `invalid`.
    """
    if not text:
        invalid(field, "empty")
    if len(text.encode()) > bytes_max:
        invalid(field, f"longer than {bytes_max} bytes: {clipped(text)}")
    if _CONTROL.search(text):
        invalid(field, f"has a control character: {clipped(text)}")
    return text


def sequence(field: str, number: int) -> int:
    """Return a sequence number, which must fit a signed 64-bit integer.

    Raises:
        RejectedError: `invalid`.
    """
    if not INT64_MIN <= number <= INT64_MAX:
        invalid(field, f"beyond 64 bits: {clipped(number)}")
    return number


def number_text(field: str, text: str) -> int:
    """Parse a signed 64-bit integer from text.

    Raises:
        RejectedError: `invalid`.
    """
    if not _WHOLE.fullmatch(text):
        invalid(field, f"not a whole number of 64 bits: {clipped(text)}")
    return sequence(field, int(text))


def checked_range(field: str, first: int, last: int) -> int:
    """Return the first number of a range, which must have 1 to 65,536 numbers.

    Raises:
        RejectedError: `invalid`.
    """
    count = last - first + 1
    if not 1 <= count <= RANGE_NUMBERS_MAX or first < INT64_MIN:
        invalid(field, f"a range of {count:,} numbers, not of 1 to {RANGE_NUMBERS_MAX:,}")
    return first


def checked_trade_id(field: str, text: str) -> str:
    """Return a trade id, which must be neither empty nor too long.

    Raises:
        RejectedError: `invalid`.
    """
    if not text:
        invalid(field, "empty")
    if len(text.encode()) > ID_BYTES_MAX:
        invalid(field, f"longer than {ID_BYTES_MAX} bytes: {clipped(text)}")
    return text


def decimal_text(field: str, raw: Raw) -> str:
    """Return the unchanged text of a JSON string or number.

    Raises:
        RejectedError: `invalid`, the field is missing or of another type.
    """
    text = bytes(raw)
    if not text:
        invalid(field, "missing")
    if text.startswith(b'"'):
        return _TEXT.decode(text)
    if text[0] not in b"-0123456789":
        invalid(field, f"expected a decimal string or a number, got {clipped(text.decode())}")
    return text.decode()


def positive(field: str, text: str) -> int:
    """Parse a quantity, which must be positive; return it times 10**18.

    Raises:
        RejectedError: `invalid`.
    """
    value = checked(field, parse_decimal, text)
    if value <= 0:
        invalid(field, f"not above zero: {clipped(text)}")
    return value

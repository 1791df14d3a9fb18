"""The fields of a table, compiled to functions that read them of a trade, with errors that name the field."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import msgspec

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.symbol_names import SYMBOL_BYTES_MAX
from k2.model.times import parse_time
from k2.model.trade import BUY, NO_SIDE, SELL
from k2.venues.reading import NumberText, checked, checked_range, checked_trade_id, name, number_text, sequence
from k2.venues.table import DecimalField, NameField, NumberField, RowKinds, SideField, TimeField, Value
from k2.venues.table_paths import ABSENT, getter, optional_getter, parse_path, type_name

__all__ = [
    "UNITS",
    "Reader",
    "decimal_reader",
    "id_reader",
    "kind_reader",
    "name_reader",
    "range_reader",
    "sequence_reader",
    "side_reader",
    "sides_of",
    "time_reader",
]

Reader = Callable[[Any], Any]
"""Reads a field of a trade, or of the message for a path from its root.

Raises `RejectedError`, whose error begins with the path of the field.
"""

UNITS: Final = {"s": ("seconds", 10, 6), "ms": ("milliseconds", 13, 3), "us": ("microseconds", 16, 0)}
"""Name, digits (from 2001 to 2286) and the power of ten that makes microseconds of a unit."""
_NANOSECONDS_DIGITS: Final = 19
_FRACTION: Final = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,18}))?")


def name_reader(field: NameField, bytes_max: int = SYMBOL_BYTES_MAX) -> Reader:
    """Return the reader of an exchange or symbol."""
    text = _text_reader(field)
    path = parse_path(field.path).text
    return lambda container: name(path, text(container), bytes_max)


def id_reader(field: NameField) -> Reader:
    """Return the reader of a trade id, which is None if the field is optional and absent or null."""
    text, path = _text_reader(field), parse_path(field.path)
    if not field.optional:
        return lambda container: checked_trade_id(path.text, text(container))
    find = optional_getter(path)

    def read(container: Any) -> str | None:
        value = find(container)
        return None if value is ABSENT or value is None else checked_trade_id(path.text, text(container))

    return read


def _text_reader(field: NameField | NumberField) -> Reader:
    path = parse_path(field.path)
    get, at = getter(path), path.text
    takes_text, takes_number = field.type != "number", field.type != "text"
    pattern = None if field.pattern is None else re.compile(field.pattern)

    def read(container: Any) -> str:
        value = get(container)
        if type(value) is str and takes_text:
            text = value
        elif type(value) is int and takes_number:
            text = str(value)
        else:
            _wrong_type(at, "str" if takes_text else "int", value)
        if pattern is None:
            return text
        match = pattern.fullmatch(text)
        if match is None:
            invalid(at, f"does not match {field.pattern!r}: {clipped(text)}")
        return match[1] or ""

    return read


def sequence_reader(field: NumberField) -> Reader:
    """Return the reader of a sequence number."""
    path = parse_path(field.path)
    get, at = getter(path), path.text
    takes_text, takes_number = field.type != "number", field.type != "text"
    if field.pattern is not None:
        text = _text_reader(field)
        return lambda container: number_text(at, text(container))

    def read(container: Any) -> int:
        value = get(container)
        if type(value) is int and takes_number:
            return sequence(at, value)
        if type(value) is str and takes_text:
            return number_text(at, value)
        _wrong_type(at, "int" if takes_number else "str", value)

    return read


def range_reader(
    first_sequence: NumberField | None, count: NumberField | None
) -> Callable[[Any, int], int | None] | None:
    """Return the reader of the first number of a range, of a trade and its last number; None for neither field.

    It returns None for a range of one number.
    """
    field = first_sequence or count
    if field is None:
        return None
    path = parse_path(field.path)
    find, read, at = optional_getter(path), sequence_reader(field), path.text

    def first_of(container: Any, last: int) -> int | None:
        value = find(container) if field.optional else 0
        if value is ABSENT or value is None:
            return None
        number: int = read(container)
        first = checked_range(at, number if count is None else last - number + 1, last)
        return None if first == last else first

    return first_of


def decimal_reader(field: DecimalField, *, is_positive: bool) -> Reader:
    """Return the reader of a price, or of a quantity, which must be positive: times 10**18."""
    path = parse_path(field.path)
    get, at = getter(path), path.text
    takes_text, takes_number, is_absolute = field.type != "number", field.type != "text", field.absolute
    power = field.scale

    def read(container: Any) -> int:
        value = get(container)
        if type(value) is str and takes_text:
            text = value
        elif takes_number and (type(value) is NumberText or type(value) is int):
            text = str(value)
        else:
            _wrong_decimal(at, field, value)
        try:
            number = parse_decimal(text, power)
        except ValueError as error:
            invalid(at, str(error))
        if is_absolute:
            number = abs(number)
        if is_positive and number <= 0:
            invalid(at, f"not above zero: {clipped(text)}")
        return number

    return read


def _wrong_decimal(at: str, field: DecimalField, value: object) -> NoReturn:
    if field.type == "any":
        shown = msgspec.json.encode(value, enc_hook=str).decode()
        invalid(at, f"expected a decimal string or a number, got {clipped(shown)}")
    _wrong_type(at, "str" if field.type == "text" else "a number", value)


def _wrong_type(at: str, expected: str, value: object) -> NoReturn:
    if type(value) is NumberText and value.lstrip("-").isdigit():
        invalid(at, "integer value out of range")
    invalid(at, f"expected {expected}, got {type_name(value)}")


def time_reader(field: TimeField) -> Reader:
    """Return the reader of a venue's time, in microseconds since the epoch; digits beyond are cut off."""
    path = parse_path(field.path)
    get, at = getter(path), path.text
    if field.unit == "rfc3339":
        parse = parse_time if field.zone is None else _zoned(field.zone)

        def read_rfc_3339(container: Any) -> int:
            value = get(container)
            if type(value) is not str:
                _wrong_type(at, "str", value)
            return checked(at, parse, value)

        return read_rfc_3339
    convert = _time_rule(field.unit)
    takes_text, takes_number, has_fraction = field.type != "number", field.type != "text", field.fraction

    def read(container: Any) -> int:
        value = get(container)
        if type(value) is int and takes_number:
            return convert(at, value, "")
        if has_fraction and ((type(value) is NumberText and takes_number) or (type(value) is str and takes_text)):
            match = _FRACTION.fullmatch(value)
            if match is None:
                invalid(at, f"not a number of digits with a fraction: {clipped(value)}")
            return convert(at, int(match[1]), match[2] or "")
        if type(value) is str and takes_text:
            return convert(at, number_text(at, value), "")
        _wrong_type(at, "int" if takes_number else "str", value)

    return read


def _zoned(zone: str) -> Callable[[str], int]:
    """Return the function that parses a time without a zone, whose date and time may be separated by a space."""

    def parse(text: str) -> int:
        # A time that has a zone of its own becomes none that is valid: which of the two is right is not guessed.
        try:
            return parse_time(text.replace(" ", "T", 1) + zone)
        except ValueError as error:
            raise ValueError(f"{error}; {zone} is the zone of the table") from None

    return parse


def _time_rule(unit: str) -> Callable[[str, int, str], int]:
    """Return the function of path, whole number and digits of the fraction that returns microseconds."""
    if unit == "ms_or_us":

        def by_digits(at: str, number: int, fraction: str) -> int:
            if 10**12 <= number < 10**13:
                return number * 1000 + _cut(fraction, 3)
            if not 10**15 <= number < 10**16:
                invalid(at, f"neither milliseconds (13 digits) nor microseconds (16): {clipped(number)}")
            return number

        return by_digits
    if unit == "ns":

        def of_nanoseconds(at: str, number: int, fraction: str) -> int:  # noqa: ARG001  one signature for all units
            if not 10**18 <= number < 10**19:
                invalid(at, f"not nanoseconds ({_NANOSECONDS_DIGITS} digits): {clipped(number)}")
            return number // 1000

        return of_nanoseconds
    words, digits, power = UNITS[unit]
    first, end, factor = int(f"1{'0' * (digits - 1)}"), int(f"1{'0' * digits}"), int(f"1{'0' * power}")

    def of_unit(at: str, number: int, fraction: str) -> int:
        if not first <= number < end:
            invalid(at, f"not {words} ({digits} digits): {clipped(number)}")
        return number * factor + _cut(fraction, power)

    return of_unit


def _cut(fraction: str, digits: int) -> int:
    """Return the first digits of a fraction as a whole number."""
    return int(fraction[:digits].ljust(digits, "0")) if fraction and digits else 0


def side_reader(field: SideField | None) -> Reader:
    """Return the reader of the taker's side."""
    if field is None:
        return lambda _: NO_SIDE
    path = parse_path(field.path)
    get, find, at, is_optional = getter(path), optional_getter(path), path.text, field.optional
    rule = _sign_rule(at, *sides_of(field)) if field.by_sign else _value_rule(at, field, *sides_of(field))

    def read(container: Any) -> int:
        if is_optional:
            value = find(container)
            return NO_SIDE if value is ABSENT or value is None else rule(value)
        return rule(get(container))

    return read


def sides_of(field: SideField) -> tuple[int, int]:
    """Return the taker's side for a purchase and for a sale, which may be those of the maker."""
    return (SELL, BUY) if field.of == "maker" else (BUY, SELL)


def _sign_rule(at: str, positive: int, negative: int) -> Callable[[Any], int]:
    def rule(value: Any) -> int:
        if type(value) not in {str, int, NumberText}:
            _wrong_type(at, "a number", value)
        if type(value) is str:
            checked(at, parse_decimal, value)
        return negative if str(value).startswith("-") else positive

    return rule


def _value_rule(at: str, field: SideField, buy: int, sell: int) -> Callable[[Any], int]:
    sides: dict[tuple[type, Value], int] = {}
    for values, side in ((field.buy, buy), (field.sell, sell), (field.none, NO_SIDE)):
        sides.update({(type(value), value): side for value in values})
    types = {kind for kind, _ in sides}
    words = f"neither {', '.join(map(str, field.buy))} nor {', '.join(map(str, field.sell))}"

    def rule(value: Any) -> int:
        if type(value) not in types:
            _wrong_type(at, " or ".join(sorted(kind.__name__ for kind in types)), value)
        side = sides.get((type(value), value))
        if side is None:
            invalid(at, f"{words}: {clipped(value)}")
        return side

    return rule


def kind_reader(kinds: Sequence[RowKinds], venue: str) -> Callable[[Any], bool]:
    """Return the reader of whether a trade is of the market.

    It raises `SkippedError` for an entry that is left out, and `RejectedError` with reason `unsupported` for a kind
    that the table does not name.
    """
    rules = [_kind_rule(one, venue) for one in kinds]
    if len(rules) == 1:
        return rules[0]

    def read(container: Any) -> bool:
        # Each field is read, so that an unknown kind is noticed whatever another field says.
        verdicts = [rule(container) for rule in rules]
        return all(verdicts)

    return read


def _kind_rule(kinds: RowKinds, venue: str) -> Callable[[Any], bool]:
    path = parse_path(kinds.path)
    get, find, at, default = getter(path), optional_getter(path), path.text, kinds.absent == "market"
    known: dict[tuple[type, Value], bool | None] = {}
    for values, is_market in ((kinds.market, True), (kinds.non_market, False), (kinds.skipped, None)):
        known.update({(type(value), value): is_market for value in values})

    def read(container: Any) -> bool:
        value = find(container) if default else get(container)
        if value is ABSENT or (default and value is None):
            return True
        try:
            is_market = known[type(value), value]
        except (KeyError, TypeError):
            error = f"{at}: {clipped(value)} is not read from {article(venue)} {venue} topic"
            raise RejectedError(Reason.UNSUPPORTED, error) from None
        if is_market is None:
            raise SkippedError("non_market")
        return is_market

    return read


def article(noun: str) -> str:
    """Return the indefinite article of a word."""
    return "an" if noun[0] in "aeiou" else "a"

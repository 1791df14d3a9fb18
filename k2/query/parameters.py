"""Parameters of queries on trades, validated field by field: names, times, intervals and counts."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self, TypedDict, TypeVar

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pyiceberg.expressions import And, BooleanExpression

from k2.query.engine import QueryError
from k2.query.where_clauses import between, equal

__all__ = [
    "LIMIT_MAX",
    "UNITS",
    "AsOf",
    "AsOfField",
    "BarsFields",
    "BarsParameters",
    "CompletenessParameters",
    "IntervalField",
    "Name",
    "PricesFields",
    "PricesParameters",
    "QueryParameters",
    "RowsFields",
    "RowsParameters",
    "Time",
    "as_of_from_text",
    "check_start_before_end",
    "make_parameters",
    "time_from_text",
    "whole_float_to_int",
]

NAME_BYTES_MAX: Final = 1_024
LIMIT_MAX: Final = 1_000_000_000
_DIGITS_MAX: Final = {"ms": 12, "s": 9, "m": 7, "h": 5, "d": 4, "w": 3}
_INTERVAL: Final = re.compile("|".join(rf"[1-9]\d{{0,{count - 1}}}{unit}" for unit, count in _DIGITS_MAX.items()))
"""Digits are limited so that the value fits; `_INTERVAL_MAX` is checked afterwards."""
UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_INTERVAL_MAX: Final = timedelta(days=36_525)
_SNAPSHOT: Final = re.compile(r"\d{1,19}")
_LEFT_OUT: Final = {len("2024-08-09"): "T00:00:00", len("2024-08-09 12:00"): ":00"}
"""The suffix that completes a text of this length to RFC 3339."""


def time_from_text(text: str) -> datetime:
    """Parse a time in RFC 3339 or as the reports print it, or a day (its start); without a time zone it is UTC.

    >>> time_from_text("2024-08-09").isoformat()
    '2024-08-09T00:00:00+00:00'

    Raises:
        ValueError: the text is neither.
    """
    try:
        time = msgspec.convert(text + _LEFT_OUT.get(len(text), ""), datetime)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError(f"invalid time: {text!r}; use a form such as 2024-08-09T12:00:00Z") from None


def _time(value: object) -> datetime:
    if isinstance(value, str):
        return time_from_text(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"invalid time: {value!r}; use a datetime with a time zone")
    return value.astimezone(UTC)


def as_of_from_text(text: str) -> "AsOf":
    """Parse a snapshot id or a time.

    Raises:
        QueryError: the text is neither.
    """
    try:
        return _as_of(text)
    except ValueError as error:
        raise QueryError(f"as_of: {error}") from error


def whole_float_to_int(value: object) -> object:
    """Convert a whole float to int, because JSON has only one number type; return any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_of(value: object) -> int | datetime:
    value = int(value) if isinstance(value, str) and _SNAPSHOT.fullmatch(value) else whole_float_to_int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value < 2**63:
            raise ValueError(f"invalid snapshot id: {value}; use a positive 64-bit integer")
        return value
    return _time(value)


def _name(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("name is not valid UTF-8; use Unicode text without lone surrogates") from None
    if not 0 < size <= NAME_BYTES_MAX:
        raise ValueError(f"invalid name of {size:,} bytes; use 1 to {NAME_BYTES_MAX:,} bytes")
    return text


def _interval(value: object) -> timedelta:
    """Parse an interval such as 1m, or return a timedelta within the limits."""
    if isinstance(value, str):
        if _INTERVAL.fullmatch(value) is None:
            raise ValueError(f"invalid interval: {value!r}; use a form such as 500ms, 1s, 5m, 1h, 1d or 1w")
        count = value.rstrip("".join(UNITS))
        value = int(count) * UNITS[value.removeprefix(count)]
    if not isinstance(value, timedelta) or not timedelta(milliseconds=1) <= value <= _INTERVAL_MAX:
        raise ValueError(f"interval out of range: {value}; use one from 1 ms to 100 years")
    return value


def check_start_before_end(start: datetime | None, end: datetime | None) -> None:
    """Raise if a time span is empty.

    Raises:
        ValueError: `start` is not before `end`.
    """
    if start is not None and end is not None and start >= end:
        raise ValueError(f"start is not before end: {start.isoformat()}; choose an earlier start")


Kind = TypeVar("Kind", bound="QueryParameters")
Name = Annotated[
    str, AfterValidator(_name), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX})
]
Time = Annotated[
    datetime,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}),
]
AsOf = int | datetime
"""A snapshot id, or a time, which means the snapshot that was current then."""
AsOfField = Annotated[
    AsOf,
    BeforeValidator(_as_of),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
                {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]},
            ]
        }
    ),
]
IntervalField = Annotated[
    timedelta, BeforeValidator(_interval), WithJsonSchema({"type": "string", "pattern": f"^({_INTERVAL.pattern})$"})
]


class RowsFields(TypedDict, total=False):
    """The fields of `RowsParameters` as strings or values; None means not set."""

    exchange: str | None
    symbol: str | None
    start: str | datetime | None
    end: str | datetime | None
    as_of: str | int | datetime | None
    limit: int | None


class BarsFields(RowsFields, total=False):
    """The fields of `BarsParameters`."""

    interval: str | timedelta


class PricesFields(RowsFields, total=False):
    """The fields of `PricesParameters`."""

    interval: str | timedelta | None


class QueryParameters(BaseModel):
    """Selects trades; a field that is not set selects all. Strings are parsed as in the CLI and the HTTP API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: Name | None = None
    symbol: Name | None = None
    start: Time | None = None
    """Earliest venue time (inclusive)."""
    end: Time | None = None
    """End of the venue times (exclusive)."""
    as_of: AsOfField | None = None

    @model_validator(mode="after")
    def _check_start_before_end(self) -> Self:
        check_start_before_end(self.start, self.end)
        return self

    @property
    def row_filter(self) -> BooleanExpression:
        """The selection as an Iceberg expression, to skip data files without a matching row."""
        return And(equal(exchange=self.exchange, symbol=self.symbol), between("timestamp", self.start, self.end))

    @property
    def sql_condition(self) -> str:
        """The selection as an SQL condition with the parameters `sql_parameters`."""
        given = [text for name, text in _CONDITIONS.items() if getattr(self, name) is not None]
        return " AND ".join(given) or "TRUE"

    @property
    def sql_parameters(self) -> dict[str, object]:
        """The values of the parameters in `sql_condition`."""
        return {name: value for name in _CONDITIONS if (value := getattr(self, name)) is not None}


_CONDITIONS: Final = {
    "exchange": "exchange = $exchange",
    "symbol": "symbol = $symbol",
    "start": '"timestamp" >= $start::TIMESTAMPTZ',
    "end": '"timestamp" < $end::TIMESTAMPTZ',
}


class RowsParameters(QueryParameters):
    """Selects trades, with a maximum number of rows."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None


class PricesParameters(RowsParameters):
    """Selects trades, aggregated in total or by interval."""

    interval: IntervalField | None = None


class BarsParameters(RowsParameters):
    """Selects trades, aggregated by interval."""

    interval: IntervalField = timedelta(minutes=1)


class CompletenessParameters(QueryParameters):
    """Selects trades and symbols. `as_of` counts the job's commits only; rows of other writers are left out."""

    containing: Name | None = None
    """Substring of "EXCHANGE SYMBOL", case-insensitive."""
    worst: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    """Maximum number of symbols: those with the most missing numbers, then those with the most trades. Symbols that
    are not numbered come last."""
    in_doubt: bool = False
    """Only symbols whose numbering is in doubt, each with all of its days or hours."""


def make_parameters(kind: type[Kind], **fields: object) -> Kind:
    """Return validated parameters; None means not set.

    Raises:
        QueryError: a field is invalid; the message names it.
    """
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise QueryError(_first_error(error)) from error


def _first_error(error: ValidationError) -> str:
    """Return the name and the error of the first invalid field."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"][:1])
    what = first["msg"].removeprefix("Value error, ")
    return f"{name}: {what}" if name else what

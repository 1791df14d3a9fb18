"""What may be asked of the trades, checked field by field: a value is a name, a time, an interval or a count."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self, TypedDict, TypeVar, Unpack

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
    "AsOf",
    "AsOfField",
    "BarsFields",
    "BarsParameters",
    "Name",
    "PricesFields",
    "PricesParameters",
    "QueryParameters",
    "RowsFields",
    "RowsParameters",
    "Time",
    "as_of_from_text",
    "ask",
    "sentence_of",
    "time_from_text",
    "whole",
]

NAME_BYTES_MAX: Final = 1_024
LIMIT_MAX: Final = 1_000_000_000
_DIGITS_MAX: Final = {"ms": 12, "s": 9, "m": 7, "h": 5, "d": 4, "w": 3}
_INTERVAL: Final = re.compile("|".join(rf"[1-9]\d{{0,{count - 1}}}{unit}" for unit, count in _DIGITS_MAX.items()))
"""So many digits that none is longer than 100 years."""
_UNITS: Final = {
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
"""What RFC 3339 asks for beyond a text of so many characters."""


def time_from_text(text: str) -> datetime:
    """Read a time, RFC 3339 or as the reports print it, or a day for its begin; without a zone it is UTC.

    >>> time_from_text("2024-08-09").isoformat()
    '2024-08-09T00:00:00+00:00'

    Raises:
        ValueError: it is neither.
    """
    try:
        time = msgspec.convert(text + _LEFT_OUT.get(len(text), ""), datetime)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError(f"{text!r} is no time such as 2024-08-09T12:00:00Z") from None


def _time(value: object) -> datetime:
    if isinstance(value, str):
        return time_from_text(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{value!r} is no time with its zone")
    return value.astimezone(UTC)


def as_of_from_text(text: str) -> "AsOf":
    """Read a snapshot's id or a time.

    Raises:
        QueryError: it is neither.
    """
    try:
        return _as_of(text)
    except ValueError as error:
        raise QueryError(f"as_of: {error}") from error


def whole(value: object) -> object:
    """Take 5.0 for 5, as JSON has one kind of number; give all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_of(value: object) -> int | datetime:
    value = int(value) if isinstance(value, str) and _SNAPSHOT.fullmatch(value) else whole(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value < 2**63:
            raise ValueError(f"{value} is no snapshot id")
        return value
    return _time(value)


def _name(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    if not 0 < size <= NAME_BYTES_MAX:
        raise ValueError(f"has {size:,} bytes, of 1 to {NAME_BYTES_MAX:,}")
    return text


def _interval(value: object) -> timedelta:
    """Read an interval such as 1m, or take one."""
    if isinstance(value, str):
        if _INTERVAL.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no interval such as 500ms, 1s, 5m, 1h, 1d or 1w")
        count = value.rstrip("".join(_UNITS))
        value = int(count) * _UNITS[value.removeprefix(count)]
    if not isinstance(value, timedelta) or not timedelta(milliseconds=1) <= value <= _INTERVAL_MAX:
        raise ValueError("must be between 1 ms and 100 years")
    return value


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
"""A snapshot's id, or a time: the snapshot that was the table then."""
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
Interval = Annotated[
    timedelta, BeforeValidator(_interval), WithJsonSchema({"type": "string", "pattern": f"^({_INTERVAL.pattern})$"})
]


class RowsFields(TypedDict, total=False):
    """The fields of `RowsParameters`, as texts or as values; None counts as left out."""

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
    """Which trades; what is left out asks for all. Texts are read as the command line and the HTTP API give them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: Name | None = None
    symbol: Name | None = None
    start: Time | None = None
    """First venue time."""
    end: Time | None = None
    """First venue time beyond."""
    as_of: AsOfField | None = None

    @model_validator(mode="after")
    def _something_lies_between(self) -> Self:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("start is not before end, so nothing lies between them")
        return self

    @property
    def where(self) -> BooleanExpression:
        """The same as Iceberg is told of it, so that files without any such trade stay closed."""
        return And(equal(exchange=self.exchange, symbol=self.symbol), between("timestamp", self.start, self.end))

    @property
    def conditions(self) -> str:
        """The same as DuckDB is told of it: a condition over `parameters`."""
        given = [text for name, text in _CONDITIONS.items() if getattr(self, name) is not None]
        return " AND ".join(given) or "TRUE"

    @property
    def parameters(self) -> dict[str, object]:
        """The values that the conditions name."""
        return {name: value for name in _CONDITIONS if (value := getattr(self, name)) is not None}


_CONDITIONS: Final = {
    "exchange": "exchange = $exchange",
    "symbol": "symbol = $symbol",
    "start": '"timestamp" >= $start::TIMESTAMPTZ',
    "end": '"timestamp" < $end::TIMESTAMPTZ',
}


class RowsParameters(QueryParameters):
    """Which trades, and how many rows at the most."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None


class PricesParameters(RowsParameters):
    """Which trades, taken together or by intervals of time."""

    interval: Interval | None = None


class BarsParameters(RowsParameters):
    """Which trades, by intervals of time."""

    interval: Interval = timedelta(minutes=1)


def ask(kind: type[Kind], **fields: Unpack[PricesFields]) -> Kind:
    """Make one of these from fields.

    Raises:
        QueryError: a field is wrong; the sentence names it.
    """
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise QueryError(sentence_of(error)) from error


def sentence_of(error: ValidationError) -> str:
    """Name the first field that is wrong, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][:1])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what

"""Iceberg row filters, by which data files without a matching row are skipped."""

from datetime import datetime
from functools import reduce

from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, GreaterThanOrEqual, LessThan

__all__ = ["between", "equal", "from_offset"]


def equal(**values: str | None) -> BooleanExpression:
    """Return a filter for rows whose columns equal the values; None matches any value."""
    # PyIceberg's type annotations lack these constructors, here and below.
    return _all_of([EqualTo(name, value) for name, value in values.items() if value is not None])  # type: ignore[call-arg,arg-type]


def between(name: str, start: datetime | None, end: datetime | None) -> BooleanExpression:
    """Return a filter for rows with `start` <= time < `end` in a column; None sets no bound."""
    first = [] if start is None else [GreaterThanOrEqual(name, start.isoformat())]  # type: ignore[call-arg,arg-type]
    until = [] if end is None else [LessThan(name, end.isoformat())]  # type: ignore[call-arg,arg-type]
    return _all_of([*first, *until])


def from_offset(offset: int) -> BooleanExpression:
    """Return a filter for rows whose message has this offset or a higher one."""
    return GreaterThanOrEqual("offset", offset)  # type: ignore[call-arg,arg-type]


def _all_of(terms: list[BooleanExpression]) -> BooleanExpression:
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, terms, everything)

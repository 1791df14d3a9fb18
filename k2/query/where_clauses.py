"""Iceberg row filters, by which data files without a matching row are skipped."""

from collections.abc import Iterable
from datetime import datetime
from functools import reduce

from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    LessThan,
    LessThanOrEqual,
    Or,
)

__all__ = ["between", "equal", "offset_ranges"]


def equal(**values: str | None) -> BooleanExpression:
    """Return a filter for rows whose columns equal the values; None matches any value."""
    # PyIceberg's type annotations lack these constructors, here and below.
    return _all_of([EqualTo(name, value) for name, value in values.items() if value is not None])  # type: ignore[call-arg,arg-type]


def between(name: str, start: datetime | None, end: datetime | None) -> BooleanExpression:
    """Return a filter for rows with `start` <= time < `end` in a column; None sets no bound."""
    first = [] if start is None else [GreaterThanOrEqual(name, start.isoformat())]  # type: ignore[call-arg,arg-type]
    until = [] if end is None else [LessThan(name, end.isoformat())]  # type: ignore[call-arg,arg-type]
    return _all_of([*first, *until])


def offset_ranges(ranges: Iterable[tuple[int, int]]) -> BooleanExpression:
    """Return a filter for rows whose message has an offset in one of some ranges, both ends included."""
    within = [
        And(GreaterThanOrEqual("offset", first), LessThanOrEqual("offset", last))  # type: ignore[call-arg,arg-type]
        for first, last in ranges
    ]
    nothing: BooleanExpression = AlwaysFalse()
    return reduce(Or, within, nothing)


def _all_of(terms: list[BooleanExpression]) -> BooleanExpression:
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, terms, everything)

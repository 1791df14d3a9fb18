"""Which rows are asked for, as Iceberg is told of them: files without any stay closed."""

from datetime import datetime
from functools import reduce

from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, GreaterThanOrEqual, LessThan

__all__ = ["between", "equal"]


def equal(**values: str | None) -> BooleanExpression:
    """Return the rows whose columns hold these values; None asks for any."""
    # PyIceberg's own types miss its constructors, here as below.
    return _all_of([EqualTo(name, value) for name, value in values.items() if value is not None])  # type: ignore[call-arg,arg-type]


def between(name: str, start: datetime | None, end: datetime | None) -> BooleanExpression:
    """Return the rows whose time in a column is `start` or later, and before `end`; None sets no bound."""
    first = [] if start is None else [GreaterThanOrEqual(name, start.isoformat())]  # type: ignore[call-arg,arg-type]
    until = [] if end is None else [LessThan(name, end.isoformat())]  # type: ignore[call-arg,arg-type]
    return _all_of([*first, *until])


def _all_of(terms: list[BooleanExpression]) -> BooleanExpression:
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, terms, everything)

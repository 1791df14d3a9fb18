"""Which rows are asked for, as Iceberg is told of them: files without any stay closed."""

from functools import reduce

from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo

__all__ = ["equal"]


def equal(**values: str | None) -> BooleanExpression:
    """Give the rows whose columns hold these values; None asks for any."""
    terms = [EqualTo(name, value) for name, value in values.items() if value is not None]  # type: ignore[call-arg,arg-type]  # PyIceberg's own types miss its constructor
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, terms, everything)

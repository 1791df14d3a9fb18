"""Rows as Iceberg is asked for them."""

from collections.abc import Iterable

from pyiceberg.expressions import AlwaysFalse, And, BooleanExpression, EqualTo, GreaterThanOrEqual, Or

from k2.model.progress import TopicPartition

__all__ = ["any_of", "rows_from"]


def rows_from(where: TopicPartition, offset: int, **names: str) -> BooleanExpression:
    """Return the rows of a topic partition from an offset on, and of the names given (`exchange`, `symbol`) alone."""
    # PyIceberg's own types miss its constructors.
    return And(
        EqualTo("topic", where.topic),  # type: ignore[call-arg,arg-type]
        EqualTo("partition", where.partition),  # type: ignore[call-arg,arg-type]
        GreaterThanOrEqual("offset", offset),  # type: ignore[call-arg,arg-type]
        *(EqualTo(column, name) for column, name in names.items()),  # type: ignore[call-arg,arg-type]
    )


def any_of(filters: Iterable[BooleanExpression]) -> BooleanExpression:
    """Return the rows that any of the filters gives; none where there are none."""
    # More than two are a balanced tree, so thousands do not nest too deep.
    return Or(AlwaysFalse(), AlwaysFalse(), *filters)

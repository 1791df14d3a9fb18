"""Row filters: Iceberg expressions that select rows."""

from collections.abc import Iterable

from pyiceberg.expressions import AlwaysFalse, And, BooleanExpression, EqualTo, GreaterThanOrEqual, Or

from k2.model.progress import TopicPartition

__all__ = ["any_of", "rows_from"]


def rows_from(topic_partition: TopicPartition, offset: int, **names: str) -> BooleanExpression:
    """Return a filter for a topic partition's rows from an offset on, of the given `exchange` and `symbol` only."""
    # PyIceberg's type hints lack its constructors.
    return And(
        EqualTo("topic", topic_partition.topic),  # type: ignore[call-arg,arg-type]
        EqualTo("partition", topic_partition.partition),  # type: ignore[call-arg,arg-type]
        GreaterThanOrEqual("offset", offset),  # type: ignore[call-arg,arg-type]
        *(EqualTo(column, name) for column, name in names.items()),  # type: ignore[call-arg,arg-type]
    )


def any_of(filters: Iterable[BooleanExpression]) -> BooleanExpression:
    """Return the disjunction of filters; without filters it selects no rows."""
    # `Or` builds a balanced tree from more than two, so thousands do not nest too deep.
    return Or(AlwaysFalse(), AlwaysFalse(), *filters)

"""PromQL checked against the series of a scrape: each series exists, and has each label and value that is named."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Exported", "exported_by", "labels_of", "names_in"]

Exported = Mapping[str, Mapping[str, frozenset[str]]]
"""By the name of a series, the values of each of its labels."""

TARGET_LABELS: Final = frozenset({"job", "instance"})
"""Labels that Prometheus adds to each series that it scrapes."""
SCALAR_FUNCTIONS: Final = frozenset({"time", "vector", "scalar", "pi"})
SET_OPERATORS: Final = frozenset({"and", "unless"})


def exported_by(*scrapes: str) -> Exported:
    """Return the series of scrapes in Prometheus' text format."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for scrape in scrapes:
        for family in text_string_to_metric_families(scrape):
            for sample in family.samples:
                labels = found.setdefault(sample.name, dict.fromkeys(TARGET_LABELS, frozenset()))
                for label, value in sample.labels.items():
                    labels[label] = labels.get(label, frozenset()) | {value}
    return found


def names_in(query: str) -> set[str]:
    """Return the names of the series in a query."""
    return {selector.name for selector in _selectors(promql_parser.parse(query))}


def labels_of(query: str, exported: Exported) -> frozenset[str]:
    """Return the labels that a query's result can have.

    Raises:
        AssertionError: a series is not exported, or a label or a value of one is not set.
    """
    return _labels(promql_parser.parse(query), exported)


def _selectors(node: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for child in _children(node):
        yield from _selectors(child)


def _children(node: promql_parser.Expr) -> Iterable[promql_parser.Expr]:
    match node:
        case promql_parser.BinaryExpr():
            return (node.lhs, node.rhs)
        case promql_parser.MatrixSelector():
            return (node.vector_selector,)
        case promql_parser.Call():
            return node.args
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.SubqueryExpr():
            return (node.expr,)
        case promql_parser.UnaryExpr():
            return (node.expr,)
    return ()


def _labels(node: promql_parser.Expr, exported: Exported) -> frozenset[str]:
    match node:
        case promql_parser.VectorSelector():
            return _labels_of_selector(node, exported)
        case promql_parser.AggregateExpr():
            return _labels_of_aggregate(node, exported)
        case promql_parser.BinaryExpr():
            return _labels_of_binary(node, exported)
    inner = frozenset().union(*(_labels(child, exported) for child in _children(node)))
    # No series has the labels of one that is absent.
    is_bare = isinstance(node, promql_parser.Call) and node.func.name in {"absent", *SCALAR_FUNCTIONS}
    return frozenset() if is_bare else inner


def _labels_of_selector(node: promql_parser.VectorSelector, exported: Exported) -> frozenset[str]:
    assert node.name in exported, f"no process exports {node.name}"
    labels = exported[node.name]
    for matcher in node.matchers.matchers:
        assert matcher.name in labels, f"{node.name} has no label {matcher.name}"
        if matcher.name not in TARGET_LABELS:
            never = {*re.split(r"\|", matcher.value)} - labels[matcher.name]
            assert not never, f"{node.name} never has {matcher.name}={sorted(never)}"
    return frozenset(labels)


def _labels_of_aggregate(node: promql_parser.AggregateExpr, exported: Exported) -> frozenset[str]:
    inner = _labels(node.expr, exported)
    if node.modifier is None:
        return frozenset()
    named = frozenset(node.modifier.labels)
    assert named <= inner, f"{node.expr} has no label {sorted(named - inner)}"
    return named if node.modifier.type == promql_parser.AggModifierType.By else inner - named


def _labels_of_binary(node: promql_parser.BinaryExpr, exported: Exported) -> frozenset[str]:
    left, right = _labels(node.lhs, exported), _labels(node.rhs, exported)
    matching = None if node.modifier is None else node.modifier.matching
    operator = str(node.op)
    if matching is None or not matching.labels:
        return left if operator in SET_OPERATORS else left | right
    named = frozenset(matching.labels)
    assert named <= left & right, f"both sides of `{operator}` must have {sorted(named)}: {node}"
    is_one_to_one = "group" not in str(node.modifier)
    return named if operator not in {*SET_OPERATORS, "or"} and is_one_to_one else left

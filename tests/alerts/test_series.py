"""Alerts and the dashboard use only series that the job or `k2 serve` exports, and only labels that they set."""

import re

import pytest

from tests.alerts.files import alerts, dashboard
from tests.alerts.promql import Exported, labels_of

SERIES = {
    "k2_gaps_total": {"job": frozenset[str](), "exchange": frozenset({"x"}), "size": frozenset({"small", "large"})},
    "k2_now": {"job": frozenset[str](), "instance": frozenset[str]()},
}


@pytest.mark.slow
def test_rules_use_what_is_exported(known: Exported, subtests: pytest.Subtests) -> None:
    """Each series, label and value of a rule is in a scrape, and each label of a sentence is in the rule's result."""
    for name, rule in alerts().items():
        with subtests.test(name):
            labels = labels_of(rule["expr"], known)
            used = {*re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))}
            assert used <= labels, f"the result has no label {sorted(used - labels)}"


@pytest.mark.slow
def test_the_dashboard_uses_what_is_exported(known: Exported, subtests: pytest.Subtests) -> None:
    """Each series, label and value of a panel is in a scrape, and each label of a legend is in the result."""
    for panel in dashboard():
        with subtests.test(f"{panel.title}: {panel.query}"):
            used = {*re.findall(r"{{(\w+)}}", panel.legend)}
            assert used <= labels_of(panel.query, known)


@pytest.mark.slow
def test_no_series_has_a_symbol(exported: Exported) -> None:
    """10,000 symbols must not make 10,000 series."""
    assert not [name for name, labels in exported.items() if "symbol" in labels]


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("k2_now", {"job", "instance"}),
        ('sum by (job) (increase(k2_gaps_total{size="large"}[5m])) > 0', {"job"}),
        ("k2_now > on (job, instance) k2_now", {"job", "instance"}),
        ("k2_gaps_total and on (job) k2_now", {"job", "exchange", "size"}),
        ("k2_gaps_total * on (job) group_left () k2_now", {"job", "exchange", "size"}),
        ("k2_gaps_total * on (job) k2_now", {"job"}),
        ("absent(k2_now)", set()),
        ("sum without (size) (k2_gaps_total) or vector(1)", {"job", "exchange"}),
        ("time() - max by (job) (max_over_time(k2_now[5m:1m])) > 900", {"job"}),
    ],
)
def test_the_labels_of_a_result(query: str, labels: set[str]) -> None:
    """They follow from those of the series, as Prometheus evaluates a query."""
    assert labels_of(query, SERIES) == labels


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("rate(k2_gap_total[5m])", "no process exports k2_gap_total"),
        ('k2_gaps_total{venue="x"}', "k2_gaps_total has no label venue"),
        ('k2_gaps_total{size=~"large|huge"}', "k2_gaps_total never has size=['huge']"),
        ("sum by (exchange, topic) (k2_gaps_total)", "has no label ['topic']"),
        ("k2_gaps_total and on (instance) k2_now", "both sides of `and` must have ['instance']"),
    ],
)
def test_what_is_not_exported_is_found(query: str, message: str) -> None:
    """A series, label or value that does not exist never fires an alert, and would be noticed by nothing else."""
    with pytest.raises(AssertionError, match=re.escape(message)):
        labels_of(query, SERIES)

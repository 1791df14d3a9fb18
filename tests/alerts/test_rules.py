"""The alerts by Prometheus' own tools: each fires when it should, and is silent when it should be."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.alerts.files import ALERTMANAGER, RULE_TESTS, RULES, alerts, read

SEVERITIES = {"critical", "warning", "none"}
ALWAYS = {"K2Watchdog"}
"""Alerts that are never silent."""


def test_prometheus_accepts_the_rules(tool: Callable[..., str]) -> None:
    """`promtool check rules` finds no fault."""
    assert "SUCCESS" in tool("promtool", "check", "rules", "--lint-fatal", RULES)


@pytest.mark.slow
def test_alerts_fire_and_are_silent(tool: Callable[..., str]) -> None:
    """`promtool test rules` evaluates each case, with the sentences that the alert then has."""
    assert "SUCCESS" in tool("promtool", "test", "rules", RULE_TESTS)


def test_alertmanager_accepts_its_example(tool: Callable[..., str]) -> None:
    """`amtool check-config` finds no fault."""
    assert "SUCCESS" in tool("amtool", "check-config", ALERTMANAGER)


def test_each_alert_has_cases() -> None:
    """Of each there is a case in which it fires and one in which it is silent, and no case is of another alert."""
    firing, silent = set(), set()
    for case in read(RULE_TESTS)["tests"]:
        (one,) = case["alert_rule_test"]
        assert case["name"].startswith(f"{one['alertname']}: ")
        (firing if one["exp_alerts"] else silent).add(one["alertname"])
    assert (firing, silent) == ({*alerts()}, {*alerts()} - ALWAYS)


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_is_wrong(name: str) -> None:
    """It has a severity, a sentence as summary, sentences with the value as description, and its runbook."""
    rule = alerts()[name]
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in SEVERITIES
    assert notes["summary"].endswith(".")
    assert notes["description"].endswith(".")
    assert notes["runbook_url"] == f"docs/runbooks/{name}.md"


def test_inhibitions_name_alerts() -> None:
    """Causes and consequences exist, and no alert silences itself, directly or by way of others."""
    silenced_by: dict[str, set[str]] = {}
    for rule in read(ALERTMANAGER)["inhibit_rules"]:
        causes, consequences = (_names(rule[f"{side}_matchers"]) for side in ("source", "target"))
        assert causes | consequences <= {*alerts()}
        for consequence in consequences:
            silenced_by.setdefault(consequence, set()).update(causes)
    for name in alerts():
        seen, open_ones = set[str](), {name}
        while open_ones:
            open_ones = set().union(*(silenced_by.get(one, set()) for one in open_ones)) - seen
            seen |= open_ones
        assert name not in seen, f"{name} silences itself"


def _names(matchers: Any) -> set[str]:
    (matcher,) = matchers
    label, _, value = matcher.partition(" ")
    assert label == "alertname"
    return {*value.split('"')[1].split("|")}

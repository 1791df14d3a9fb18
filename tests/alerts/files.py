"""The files of the alerts and the dashboard, read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

__all__ = [
    "ALERTMANAGER",
    "DASHBOARD",
    "ROOT",
    "RULES",
    "RULE_TESTS",
    "Panel",
    "alerts",
    "dashboard",
    "read",
    "recorded",
]

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "k8s" / "alerts" / "rules.yaml"
ALERTMANAGER: Final = ROOT / "k8s" / "alerts" / "alertmanager.yaml"
DASHBOARD: Final = ROOT / "k8s" / "dashboard.json"
RULE_TESTS: Final = Path(__file__).with_name("rules.test.yaml")
VALUES: Final = re.compile(r"label_values\((?P<series>\w+), (?P<label>\w+)\)")
"""Grafana's query for the values of a variable."""


class Panel(NamedTuple):
    """A query of the dashboard."""

    title: str
    query: str
    legend: str


def read(path: Path) -> Any:
    """Return the document in a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name, in the order of the file."""
    return {rule["alert"]: rule for rule in _rules() if "alert" in rule}


def recorded() -> dict[str, str]:
    """Return the queries of the recorded series by name, in the order of the file."""
    return {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}


def _rules() -> Iterator[dict[str, Any]]:
    for group in read(RULES)["groups"]:
        yield from group["rules"]


def dashboard() -> list[Panel]:
    """Return the queries of the dashboard's panels, annotations and variables, as Prometheus gets them."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    variables = [VALUES.fullmatch(one["query"]) for one in document["templating"]["list"] if one["type"] == "query"]
    return [
        *(
            Panel(panel["title"], target["expr"].replace("$__rate_interval", "5m"), target["legendFormat"])
            for panel in document["panels"]
            for target in panel.get("targets", ())
        ),
        *(Panel(one["name"], one["expr"], "") for one in document["annotations"]["list"]),
        *(Panel("variable", f"count by ({one['label']}) ({one['series']})", "") for one in variables if one),
    ]

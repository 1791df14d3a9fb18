"""The files of the alerts, read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["ALERTMANAGER", "ROOT", "RULES", "RULE_TESTS", "alerts", "read", "recorded"]

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "k8s" / "alerts" / "rules.yaml"
ALERTMANAGER: Final = ROOT / "k8s" / "alerts" / "alertmanager.yaml"
RULE_TESTS: Final = Path(__file__).with_name("rules.test.yaml")


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

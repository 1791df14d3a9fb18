"""The dashboard counts what happens for the first time."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.alerts.files import Panel, dashboard

COUNTERS = 8
"""Counters with a label whose series begins with its first increment, such as that of an exchange."""


def case(panel: Panel, values: str, expected: int) -> dict[str, Any]:
    """Return a case of promtool: the counter of a panel has these values, and its query is asked after 6 minutes."""
    (name,) = set(re.findall(r"increase\((\w+)", panel.query))
    (by,) = re.findall(r"^sum by \(([\w, ]+)\)", panel.query)
    labels = ",".join(f'{label}="x"' for label in by.split(", "))
    return {
        "interval": "1m",
        "input_series": [{"series": f'{name}{{job="k2",instance="a",{labels}}}', "values": values}],
        "promql_expr_test": [
            {
                "expr": panel.query.replace("$job", "k2"),
                "eval_time": "6m",
                "exp_samples": [{"labels": f"{{{labels}}}", "value": expected}],
            }
        ],
    }


def test_a_first_increment_is_counted(tool: Callable[..., str], tmp_path: Path) -> None:
    """A series that is five minutes old or less counts in full; an older one by its increase, over restarts as well."""
    panels = [panel for panel in dashboard() if " unless " in panel.query]
    assert len(panels) == COUNTERS
    values = {"_ _ _ _ 3 3 5": 5, "7 7 7 7 7 7 7": 0, "7 7 7 7 0 0 0": 0}
    file = tmp_path / "dashboard.test.yaml"
    cases = [case(panel, text, expected) for panel in panels for text, expected in values.items()]
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": cases}), encoding="utf-8")
    assert "SUCCESS" in tool("promtool", "test", "rules", file)

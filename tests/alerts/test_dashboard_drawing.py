"""The picture of the dashboard in the docs is drawn from its own panels and queries."""

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import dashboard as benchmark
from benchmarks.dashboard_drawing import Panel, Series, draw, shown
from tests.alerts.files import DASHBOARD


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.25, "percentunit", "25 %"),
        (0.0153, "s", "15 ms"),
        (90, "s", "90 s"),
        (0, "s", "0 s"),
        (1234.4, "cps", "1,234 /s"),
        (40, "short", "40"),
        (0.05, "short", "0.05"),
        (math.nan, "s", "-"),
    ],
)
def test_values_have_their_unit(value: float, unit: str, text: str) -> None:
    """As Grafana shows them."""
    assert shown(value, unit) == text


def test_every_panel_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query is asked, without variables of Grafana, and what has no answer stays empty."""
    asked: list[str] = []

    @contextmanager
    def respond(url: str, timeout: float) -> Iterator[io.BytesIO]:
        asked.append(url)
        series = {"metric": {"verdict": "complete"}, "values": [[100, "1"], [110, "NaN"]]}
        yield io.BytesIO(json.dumps({"data": {"result": [series] * (len(asked) % 3)}}).encode())

    monkeypatch.setattr(benchmark.urllib.request, "urlopen", respond)
    panels = benchmark.panels(9090, 100, 700)
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert [panel.title for panel in panels] == [panel["title"] for panel in document["panels"]]
    assert len(asked) == sum(len(panel.get("targets", ())) for panel in document["panels"])
    assert not [url for url in asked if "%24" in url]
    draw(panels, tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").stat().st_size > 10_000


def test_a_panel_without_series_is_drawn(tmp_path: Path) -> None:
    """As is one whose series has one point."""
    box = (0, 0, 24, 8)
    panels = [
        Panel("Verdict", "stat", box, "short", ()),
        Panel("Lag", "timeseries", box, "s", (Series("lag", ((1.0, 2.0),)),)),
    ]
    draw(panels, tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").exists()

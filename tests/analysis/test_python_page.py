"""The examples of `docs/python.md` run in order, as the cells of a notebook, on the recordings."""

import re
from pathlib import Path
from typing import Any

import pytest

from k2.ops.settings import Settings
from k2.status.findings import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
CELL = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURES = {"candles.png", "completeness.svg", "gaps.png", "latency.png"}


def test_the_page_runs(recorded: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell works after those before it, and makes what the page says."""
    (tmp_path / "data").symlink_to(recorded.data_dir)
    monkeypatch.chdir(tmp_path)
    cells = CELL.findall(PAGE.read_text(encoding="utf-8"))
    assert len(cells) == PAGE.read_text(encoding="utf-8").count("```python")
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"{PAGE.name}, cell {number}", "exec"), names)  # noqa: S102  our own documents
    names["market"].close()
    assert {path.name for path in tmp_path.iterdir()} == PICTURES | {"data"}
    assert len(names["frame"]) > 1_000
    assert names["rows"] == 12_475
    assert names["status"].verdict in {*Verdict}
    assert names["prices"].num_rows == 9_757
    assert sum(count for _, count in names["sides"]) == 9_757
    assert names["counts"]["len"].sum() == 9_757
    assert len(names["bars"]) == len(names["from_table"]) > 10

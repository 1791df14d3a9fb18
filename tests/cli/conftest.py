"""What the tests of the reports share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.ops.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with a folder of their own, as the environment configures it."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def k2() -> Callable[..., Result]:
    """Return a function that runs `k2` in a terminal of some width."""

    def run(*arguments: str, columns: int = 200) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)})

    return run

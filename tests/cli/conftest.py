"""What the tests of the reports share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.table import Table
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.ops.settings import Settings
from tests.cli.moved import store


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


@pytest.fixture
def table(settings: Settings) -> Table:
    """Return `trades` with four rows of two days, next to its ledger and dead letters."""
    return store(settings)


@pytest.fixture
def new(tmp_path: Path) -> Settings:
    """Return settings of a folder to move to."""
    return Settings(data_dir=tmp_path / "disk" / "new")

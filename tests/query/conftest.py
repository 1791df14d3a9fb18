"""What the tests of the queries share."""

from pathlib import Path

import pytest

from runtime.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with an own folder."""
    return Settings(data_dir=tmp_path / "data")

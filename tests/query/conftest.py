"""What the tests of the queries share."""

from pathlib import Path

import pytest

from k2.ops.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a folder of their own."""
    return Settings(data_dir=tmp_path / "data")

"""What the tests of the Python interface share."""

from collections.abc import Iterator

import pytest

import k2
from k2.ops.settings import Settings
from tests.analysis.recordings import store_recordings


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of a table with all recordings."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("recorded"))
    store_recordings(settings)
    return settings


@pytest.fixture(scope="module")
def market(recorded: Settings) -> Iterator[k2.MarketData]:
    """Yield the recordings as market data."""
    with k2.open(data_dir=recorded.data_dir) as opened:
        yield opened

"""The deadlines of open gaps as metrics of `k2 serve`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.status import deadlines
from k2.status.deadlines import DeadlineReader
from tests.query.tables import append, event, made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a folder of their own."""
    return Settings(data_dir=tmp_path)


def values(reader: DeadlineReader) -> dict[str, float]:
    """Return the value of each exchange."""
    families = text_string_to_metric_families(reader.metrics().decode())
    return {one.labels["exchange"]: one.value for family in families for one in family.samples}


def test_deadlines(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earliest that has not passed, of each exchange with open gaps; infinite if none is known; read rarely."""
    reader = DeadlineReader(settings.model_copy(update={"canary_exchange": "k2-canary"}))
    assert values(reader) == {}
    now = datetime.now(UTC).replace(microsecond=0)
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    shown = {"okx": [3, 100, 1], "gate": [31], "binance": [1], "k2-canary": [1]}
    rows = [
        event("gap_opened", day, day, exchange=exchange, timestamp=now - timedelta(days=day))
        for exchange, days in shown.items()
        for day in days
    ]
    append(ledger, rows)
    assert values(reader) == {}
    monkeypatch.setattr(deadlines, "AGE_SECONDS_MAX", -1.0)
    until = (now + timedelta(days=90 - 3)).timestamp()
    assert values(reader) == {"okx": until, "gate": float("inf"), "binance": float("inf")}
    append(ledger, [event("gap_filled", 3, 3, exchange="okx")])
    assert values(reader)["okx"] == until + 2 * 86_400

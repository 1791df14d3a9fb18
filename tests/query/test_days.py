"""The days that have trades: those of the rows, without reading a data file."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyiceberg.transforms import MonthTransform

from k2.iceberg.tables import TableName
from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.query.days import DayRows, days
from k2.query.pool import Pool
from k2.query.tables import NoTableError
from tests.query.tables import EPOCH, append, made, trade

HOURS = st.lists(st.integers(-700_000, 200_000), min_size=1, max_size=20)


@hypothesis_settings(max_examples=5)
@given(commits=st.lists(HOURS, min_size=1, max_size=3))
def test_days_are_those_of_the_rows(tmp_path_factory: pytest.TempPathFactory, commits: list[list[int]]) -> None:
    """Each trade counts on the day of its venue time in UTC, also before 1970."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("days") / "data")
    table = made(settings, TableName.TRADES)
    times = [[EPOCH + timedelta(hours=hour) for hour in hours] for hours in commits]
    for commit in times:
        append(table, [trade(offset, timestamp=time) for offset, time in enumerate(commit)])
    counts = Counter(time.date() for commit in times for time in commit)
    assert days(settings) == [DayRows(day, count) for day, count in sorted(counts.items())]


def test_no_data_file_is_read(settings: Settings) -> None:
    """The days are in the manifests: they are returned although every data file is gone."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(1, timestamp=datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)), trade(2)])
    for file in table.inspect.files()["file_path"].to_pylist():
        Path(file.removeprefix("file://")).unlink()
    with Pool(settings) as pool:
        assert days(settings, pool=pool) == [DayRows(date(2024, 2, 29), 1), DayRows(date(2024, 8, 9), 1)]


def test_an_empty_table_has_no_days(settings: Settings, tmp_path: Path) -> None:
    """No row, no day; no table is an error."""
    made(settings, TableName.TRADES)
    assert days(settings) == []
    with pytest.raises(NoTableError):
        days(Settings(data_dir=tmp_path / "none"))


def test_files_without_a_day_are_refused(settings: Settings) -> None:
    """If another program partitioned the table differently, the error says what to do."""
    table = made(settings, TableName.TRADES)
    with table.update_spec() as update:
        update.remove_field("timestamp_day")
        update.add_field("timestamp", MonthTransform(), "timestamp_month")
    append(table, [trade(1)])
    with pytest.raises(TableError, match=r"not partitioned by day; rewrite them by day\(timestamp\)"):
        days(settings)

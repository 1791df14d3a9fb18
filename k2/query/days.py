"""The days that have trades, from the partition values of the table's data files; no data file is read."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform

from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.query.manifests import partition
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table

__all__ = ["DayRows", "days"]

_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class DayRows:
    """The number of trades of one day (UTC), by venue time."""

    day: date
    trades: int


@retry_if_files_gone
def days(settings: Settings, *, pool: EnginePool | None = None) -> list[DayRows]:
    """Return the days that have trades, the oldest first.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: it has data files that are not partitioned by day.
    """
    table = existing_table(settings, "trades", pool)
    check_columns(table, ["timestamp"])
    counts: Counter[int] = Counter()
    with open_engine(settings, pool) as engine:
        for files in engine.files(table):
            day = partition(_day_field_id(table, files.spec_id))
            columns = [files.column(name) for name in (day, "rows", "is_data")]
            for value, count, is_data in zip(*(column.to_pylist() for column in columns if column), strict=True):
                counts[value] += count if is_data else 0
    return [DayRows(_EPOCH + timedelta(days=value), count) for value, count in sorted(counts.items()) if count]


def _day_field_id(table: Table, spec_id: int) -> int:
    timestamp = table.schema().find_field("timestamp").field_id
    for field in table.specs()[spec_id].fields:
        if field.source_id == timestamp and isinstance(field.transform, DayTransform):
            return field.field_id
    raise TableError(
        f"table {'.'.join(table.name())} has data files that are not partitioned by day; rewrite them by day(timestamp)"
    )

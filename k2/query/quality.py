"""The view `quality`: the condition of each symbol's day, and its certificate if it has one."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from k2.certificates.condition import COUNTS, condition, reasons
from k2.certificates.folder import CertificateFolder, StoredCertificate
from k2.ops.settings import Settings
from k2.query.day_facts import DaySelection, day_facts
from k2.query.pinned_pool import PinnedPool
from k2.query.pool import Pool
from k2.query.tables import existing_table

__all__ = ["QUALITY_SCHEMA", "quality"]

_TIME: Final = pa.timestamp("us", tz="UTC")
_TYPES: Final[Mapping[str, pa.DataType]] = {
    "exchange": pa.string(),
    "symbol": pa.string(),
    "day": pa.date32(),
    "condition": pa.string(),
    "reasons": pa.list_(pa.string()),
    "last_modified": _TIME,
    "certified_condition": pa.string(),
    "certified_at": _TIME,
    "root": pa.string(),
    "amended_root": pa.string(),
    **dict.fromkeys(COUNTS, pa.int64()),
    # More numbers may be missing than 64 bits count.
    **dict.fromkeys(("expected", "missing"), pa.decimal128(38, 0)),
}
QUALITY_SCHEMA: Final = pa.schema(_TYPES)
"""`condition` is judged now; the certified one, `root` and, if it was amended, the root before it are of the newest
certificate in `K2_DATA_DIR/certificates`, and null without one."""


def quality(settings: Settings) -> pa.Table:
    """Return a row for each symbol and day that has trades, missing numbers, conflicts or sessions.

    It uses connections of its own, so that a query that holds one does not wait for itself.

    Raises:
        NoTableError: the table `trades` does not exist.
        CertificateError: a certificate cannot be read.
    """
    with Pool(settings, connections=1) as opened:
        pool = PinnedPool(opened)
        table = existing_table(settings, "trades", pool)
        found = day_facts(pool, DaySelection(), table)
    folder, now = CertificateFolder(settings.data_dir / "certificates"), datetime.now(UTC)
    certified: dict[tuple[str, str], list[StoredCertificate]] = {}
    rows = []
    for (exchange, symbol, day), facts in found.items():
        if (exchange, symbol) not in certified:
            certified[exchange, symbol] = folder.stored(exchange, symbol)
        of_day = [one for one in certified[exchange, symbol] if one.day == day]
        is_over = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= now
        rows.append(
            {
                "exchange": exchange,
                "symbol": symbol,
                "day": day,
                "condition": condition(facts, is_over=is_over).value,
                "reasons": reasons(facts, is_over=is_over),
                "last_modified": facts.last_modified,
                **(_certified(of_day[-1], str(table.metadata.table_uuid)) if of_day else {}),
                **{name: getattr(facts, name) for name in COUNTS},
            }
        )
    return pa.Table.from_pylist(rows, schema=QUALITY_SCHEMA)


def _certified(newest: StoredCertificate, table: str) -> dict[str, Any]:
    document = newest.read()
    if document["table"] != table:
        # Of another namespace, say.
        return {}
    amends = document["amends"]
    return {
        "certified_condition": document["condition"],
        "certified_at": datetime.fromisoformat(document["certified_at"]),
        "root": document["root"],
        "amended_root": amends["root"] if amends and amends["root"] != document["root"] else None,
    }

"""The recordings in `tests/data`, stored as the job stores them."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

from k2.iceberg.tables import TableName
from k2.model.trade import SIDES, Trade
from k2.ops.settings import Settings
from k2.venues import VENUES
from tests.query.tables import append, made, trade

__all__ = ["RECORDINGS", "recorded_trades", "store_recordings"]

DATA: Final = Path(__file__).parents[1] / "data"
RECORDINGS: Final = {
    "binance-spot": "binance-spot-btcusdt-20240808",
    "binance-futures": "binance-coinm-btcusd_perp-20240808",
    "coinbase": "coinbase-match-20210417",
    "okx": "okx-trades-20220513",
    "bybit": "bybit-v2-trade-20210417",
}
"""The venue of each recording, and its file."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def recorded_trades() -> Iterator[Trade]:
    """Yield the market trades of all recordings."""
    for venue, name in RECORDINGS.items():
        for line in gzip.decompress((DATA / f"{name}.ndjson.gz").read_bytes()).splitlines():
            yield from (one for one in VENUES[venue].decode(line) if one.is_market)


def store_recordings(settings: Settings) -> None:
    """Store the trades of all recordings, a few milliseconds after their venue time in Kafka."""
    rows = [_row(offset, one) for offset, one in zip(count(), recorded_trades(), strict=False)]
    append(made(settings, TableName.TRADES), rows)
    made(settings, TableName.SEQUENCE_EVENTS)


def _row(offset: int, one: Trade) -> dict[str, Any]:
    timestamp = EPOCH + timedelta(microseconds=one.timestamp)
    return trade(
        offset,
        one.exchange,
        one.symbol,
        trade_id=one.trade_id,
        sequence=one.sequence,
        session=None if one.sequence is None else 1,
        price=Decimal(one.price).scaleb(-18),
        quantity=Decimal(one.quantity).scaleb(-18),
        side=SIDES[one.side],
        timestamp=timestamp,
        kafka_timestamp=timestamp + timedelta(milliseconds=5 + offset % 40),
    )

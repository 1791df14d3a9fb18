"""Skew: how long after a trade, by the venue's clock, its message came to Kafka, by Kafka's."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME, TradeBatch
from k2.model.times import SECOND_US
from k2.venues.time_ahead import time_ahead

__all__ = ["ROWS_MAX", "skew_seconds"]

ROWS_MAX: Final = 4
"""Rows of a batch that are measured, at equal distances."""


def skew_seconds(trades: TradeBatch) -> NDArray[np.float64]:
    """Return the Kafka timestamp minus the venue time of a few rows, negative if the venue's clock is ahead.

    It depends on the messages alone, so it is the same on replay.

    Returns:
        float64[k], seconds, k at most `ROWS_MAX`; rows without a Kafka timestamp are left out, and head numbers, which
        have no venue time.
    """
    timed = np.flatnonzero(trades.columns.timestamps)
    count = len(timed)
    rows = timed if count <= ROWS_MAX else timed[np.linspace(0, count - 1, ROWS_MAX).astype(np.int64)]
    kafka_timestamps = trades.source.kafka_timestamps[trades.columns.messages[rows]]
    ahead = time_ahead(trades.columns.timestamps[rows], kafka_timestamps)
    skew: NDArray[np.float64] = -ahead[kafka_timestamps != NULL_TIME] / SECOND_US
    return skew

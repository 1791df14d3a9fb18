"""A table of the stored trades in memory: contents are looked up in it as a key group looks them up."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from k2.model.batch import NULL_TIME, TradeSlice
from k2.model.content import NON_MARKET_CONTENT, fingerprints
from k2.model.state_source import SessionKey, StoredContents, WantedContents
from k2.model.verdicts import SKIPPED, STORED
from k2.sequencing.tracker_kernel import tracked_columns

__all__ = ["StoredRow", "StoredRows"]


class StoredRow(NamedTuple):
    """The table's row of one number; times in microseconds."""

    content: int
    timestamp: int
    kafka_time: int


class StoredRows:
    """The rows of a table, by session and number."""

    def __init__(self) -> None:
        self.rows: dict[SessionKey, dict[int, StoredRow]] = {}
        self.lookups: list[Sequence[WantedContents]] = []
        """The requested ranges, a list for each read."""

    def add(self, piece: TradeSlice) -> None:
        """Store the tracked rows of a slice; for non-market trades, only that their number is used."""
        columns, source = piece.batch.columns, piece.batch.source
        found = fingerprints(tracked_columns(piece.batch).content)
        for row, verdict, session in zip(piece.rows.tolist(), piece.verdicts, piece.sessions, strict=True):
            if verdict not in {STORED, SKIPPED} or not session:
                continue
            key = SessionKey(*columns.name(row), int(session))
            timestamp, kafka_time = int(columns.timestamps[row]), int(source.kafka_timestamps[columns.messages[row]])
            content = int(found[row]) if verdict == STORED else NON_MARKET_CONTENT
            kafka_time = timestamp if kafka_time == NULL_TIME else kafka_time
            self.rows.setdefault(key, {}).setdefault(
                int(columns.sequences[row]), StoredRow(content, timestamp, kafka_time)
            )

    def read(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:
        """Look up contents, as `k2.model.state_source.StateSource.contents` does."""
        self.lookups.append(wanted)
        found = list[tuple[int, int, int, int]]()
        lowest = dict[SessionKey, int]()
        for index, one in enumerate(wanted):
            rows = self.rows.get(one.key, {})
            for number, row in rows.items():
                if row.kafka_time >= floor:
                    lowest[one.key] = min(number, lowest.get(one.key, number))
                if one.first <= number <= one.last and (one.is_any_age or row.kafka_time >= floor):
                    assert row.timestamp >= one.since, "a reader may leave out what is earlier"
                    found.append((index, number, row.content, row.kafka_time))
        columns = np.array(found, dtype=np.int64).reshape(-1, 4).T
        return StoredContents(*columns, lowest=lowest)

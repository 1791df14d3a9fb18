"""What each writer has in a table property of its own, and the numbers that the ledger has as missing, for a start."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from pyiceberg.table import Table

from k2.iceberg.table_progress import progress_of
from k2.model.state_source import Positions, Ranges
from k2.ops.settings import Settings
from k2.restore.queries import open_engine
from k2.storage.catalog import find_table
from k2.storage.table_properties import TableProperty

if TYPE_CHECKING:
    from k2.query.engine import Engine

__all__ = ["WriterStates"]

State = TypeVar("State")
Key = TypeVar("Key")


class WriterStates(Generic[State, Key]):
    """The states in the table as it was when the process started; safe to use from several worker threads."""

    def __init__(
        self,
        settings: Settings,
        trades: Table,
        stored: TableProperty[State],
        missing: Callable[["Engine", Table], Mapping[Key, Ranges]],
    ) -> None:
        """Read the properties of `trades` now, before the job commits anything; `missing` queries the ledger later."""
        self._settings = settings
        self._lock = threading.Lock()
        progress, properties = progress_of(trades), trades.metadata.properties
        writers = [str(writer) for writer in range(settings.writers)]
        self._states = [stored.read(properties, writer) for writer in writers]
        self._committed: list[Positions] = [
            {one: entry.offset for one, entry in progress.of(writer).items()} for writer in writers
        ]
        self._query = missing
        self._missing: Mapping[Key, Ranges] | None = None

    def state(self, group: int) -> State:
        """Return the state of the writer of a key group."""
        return self._states[group % self._settings.writers]

    def committed(self, group: int) -> Positions:
        """Return the committed offset of each topic partition for a group."""
        return self._committed[group % self._settings.writers]

    def missing(self) -> Mapping[Key, Ranges]:
        """Return the numbers that the ledger has as missing; call this after the ledger is rolled back."""
        with self._lock:
            if self._missing is None:
                self._missing = self._read_missing()
            return self._missing

    def _read_missing(self) -> Mapping[Key, Ranges]:
        ledger = find_table(self._settings, "sequence_events")
        if ledger is None:
            return {}
        with open_engine(self._settings) as engine:
            return self._query(engine, ledger)

"""What the tables have of connections, for a start."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from k2.model.connections import ConnectionKey, Seen
from k2.model.state_source import Ranges
from k2.ops.settings import Settings
from k2.restore.writer_states import WriterStates
from k2.sequencing.connection_states import ConnectionStates
from k2.storage.table_properties import CONNECTIONS

if TYPE_CHECKING:
    from k2.query.engine import Engine

__all__ = ["TableConnectionSource"]


class TableConnectionSource(WriterStates[ConnectionStates, ConnectionKey]):
    """The connections in the table as it was when the process started."""

    def __init__(self, settings: Settings, trades: Table) -> None:
        """Read the properties of `trades` now, before the job commits anything."""
        super().__init__(settings, trades, CONNECTIONS, _missing)

    def seen(self, group: int) -> Iterable[Seen]:
        """Return the connections of a group as of its committed offsets."""
        return self.state(group).seen(group, self.committed(group))


def _missing(engine: "Engine", ledger: Table) -> Mapping[ConnectionKey, Ranges]:
    from k2.query.connection_gaps import missing_of_connections  # noqa: PLC0415  as in `k2.restore.queries`

    engine.register("sequence_events", ledger)
    return missing_of_connections(engine)

"""Table binding: trades and ledger belong together, and a recreated one is detected."""

from pathlib import Path

import pytest

from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_binding import bind_tables
from k2.model.errors import StateError, TableError
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from k2.storage.table_properties import LEDGER_ID
from tests.iceberg.trades_table import settings_in


def begin(settings: Settings, *, is_resumed: bool) -> LedgerSink:
    """Open both tables as a start of the job does."""
    events = LedgerSink(settings)
    bind_tables(TradesSink(settings).committer, events.committer, is_resumed=is_resumed)
    return events


def write_event(events: LedgerSink) -> None:
    """Write an event."""
    writer = events.build_part("out", "0", None)
    writer.write_batch([[SequenceEvent("x", "S", 1, EventKind.SESSION_STARTED, 1, 1, 1, "trades", 0, 0)]])
    writer.snapshot()


@pytest.mark.parametrize("is_resumed", [False, True])
def test_bound_tables_are_accepted(tmp_path: Path, *, is_resumed: bool) -> None:
    """New tables are bound to each other, and accepted together from then on."""
    settings = settings_in(tmp_path)
    write_event(begin(settings, is_resumed=False))
    events = begin(settings, is_resumed=is_resumed)
    assert TradesSink(settings).committer.table.properties[LEDGER_ID.key] == events.committer.table_id


def test_recreated_trades_reject_the_old_ledger(tmp_path: Path) -> None:
    """Its events are of trades that are gone: rejected, and no event is rolled back."""
    settings = settings_in(tmp_path)
    write_event(begin(settings, is_resumed=False))
    open_catalog(settings).drop_table("market_data.trades")
    with pytest.raises(TableError, match=r"market_data.sequence_events is not that of table market_data.trades.*drop"):
        begin(settings, is_resumed=False)


def test_a_recreated_ledger_is_rebuilt_without_a_store(tmp_path: Path) -> None:
    """A store's states count events as written: with it the job refuses and names the command; without it, it runs."""
    settings = settings_in(tmp_path)
    write_event(begin(settings, is_resumed=False))
    open_catalog(settings).drop_table("market_data.sequence_events")
    with pytest.raises(StateError, match=r"was dropped and recreated.*`k2 recovery init DIR`"):
        begin(settings, is_resumed=True)
    begin(settings, is_resumed=False)
    begin(settings, is_resumed=True)

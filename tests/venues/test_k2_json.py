"""The canonical message as a table."""

import json
from pathlib import Path

from k2.model.trade import BUY, NO_SIDE, SELL
from k2.venues import VENUES
from k2.venues.table_decoder import venue_of
from k2.venues.table_files import read_table


def test_a_feed_that_is_nearly_canonical_extends_the_canonical_table(tmp_path: Path) -> None:
    """Other units, words of the sides, and a list of trades; an id is the number's text if it has none."""
    page = Path("docs/messages.md").read_text(encoding="utf-8")
    text = page.partition("### A feed that is nearly canonical")[2].partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "ours.toml").write_text(text, encoding="utf-8")
    venue = venue_of(read_table(tmp_path / "ours.toml", VENUES.tables.get).table)
    one = {"exchange": "x", "symbol": "A", "price": 1, "quantity": "2"}
    sides = {"B": BUY, "sell": SELL, 1: BUY, -1: SELL, "": NO_SIDE, None: NO_SIDE}
    trades = [
        one | {"sequence": number, "timestamp": 1_723_161_255.25, "side": side} for number, side in enumerate(sides)
    ]
    found = venue.decode(
        json.dumps([*trades, one | {"sequence": 9, "trade_id": "a", "timestamp": 1_723_161_255}]).encode()
    )
    assert [trade.side for trade in found] == [*sides.values(), NO_SIDE]
    assert [trade.trade_id for trade in found] == ["0", "1", "2", "3", "4", "5", "a"]
    assert found[0].timestamp == 1_723_161_255_250_000
    assert venue.decode_compiled is not None

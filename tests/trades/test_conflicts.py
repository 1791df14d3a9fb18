"""Trades in conflict with stored ones, as dead letters."""

from dataclasses import replace

import numpy as np

from tests.trades.trade_slices import Row, slice_of
from trades.conflicts import conflict_letters
from trades.reasons import Reason


def test_each_conflict_has_its_letter() -> None:
    """It says by what the trade is known, number and session or id, whose it is, and where it came from."""
    piece = slice_of([Row(4), Row(5, symbol="X", exchange="a"), Row(trade_id="it's"), Row(9)], first_offset=50)
    columns = replace(piece.batch.columns, indexes=np.array([0, 3, 7, 0], dtype=np.int32))
    piece = replace(
        piece,
        batch=replace(piece.batch, columns=columns),
        rows=np.array([1, 2, 3], dtype=np.int32),
        sessions=np.array([2, 0, 1], dtype=np.int32),
    )
    first, second = conflict_letters(piece, np.array([0, 1]))
    what = "is stored with another price, quantity, side or time"
    assert first.error == f"sequence 5 in session 2 of a X {what}"
    assert second.error == f'trade id "it\'s" of kraken BTC-USD {what}'
    assert [(one.offset, one.index, one.topic, one.reason) for one in (first, second)] == [
        (51, 3, "trades", Reason.CONFLICT),
        (52, 7, "trades", Reason.CONFLICT),
    ]

"""Trades whose number or id is stored with other content, as dead letters."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trades.batch import TradeSlice
from trades.dead_letter import DeadLetter
from trades.reasons import Reason
from trades.symbols import SYMBOLS

__all__ = ["conflict_letters"]


def conflict_letters(piece: TradeSlice, places: NDArray[np.int64]) -> Iterator[DeadLetter]:
    """Give the letters of a slice's rows at `places`, int64[m], ascending."""
    columns, source = piece.batch.columns, piece.batch.source
    for place in places.tolist():
        row = int(piece.rows[place])
        exchange, symbol = SYMBOLS.name(int(columns.symbols[row]))
        what = (
            f"sequence {columns.sequences[row]} in session {piece.sessions[place]}"
            if piece.sessions[place]
            else f"trade id {columns.trade_id(row)!r}"
        )
        yield DeadLetter.of(
            source,
            int(columns.messages[row]),
            Reason.CONFLICT,
            f"{what} of {exchange} {symbol} is stored with another price, quantity, side or time",
            int(columns.indexes[row]),
        )

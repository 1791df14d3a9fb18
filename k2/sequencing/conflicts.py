"""Dead letters of conflicts: the stored content, the received content, and the remedy."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeColumns, TradeSlice
from k2.model.dead_letter import DeadLetter, as_time
from k2.model.decimals import from_words, spell_decimal
from k2.model.reasons import Reason
from k2.model.trade import SIDES

__all__ = ["Conflict", "Content", "NotFound", "StoredKey", "conflicts_in", "content_at"]


class StoredKey(NamedTuple):
    """Identifies the stored trade that a message contradicts."""

    exchange: str
    symbol: str
    session: int
    """0 for a conflict of trade ids."""
    number: int | str
    """Sequence number, or trade id if the session is 0."""


class Content(NamedTuple):
    """What all copies of a trade have in common. Times are not content."""

    price: int
    """decimal(38, 18), times 10**18."""
    quantity: int
    """decimal(38, 18), times 10**18."""
    side: int
    """Taker side, an index into `k2.model.trade.SIDES`."""
    trade_id: str | None


class NotFound(Enum):
    """Why the content of the stored trade is unknown."""

    ABSENT = auto()
    """All stored trades were read, and none has the key."""
    NOT_READ = auto()
    """Not all stored trades were read."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A trade that contradicts a stored trade, before the stored trade is looked up."""

    key: StoredKey
    content: Content
    message: DeadLetter
    """The dead letter without its error."""

    def dead_letter(self, stored: Content | NotFound) -> DeadLetter:
        """Return the dead letter; its error compares the trade with the stored one."""
        error = _number_error(self, stored) if self.key.session else _id_error(self, stored)
        return msgspec.structs.replace(self.message, error=error)


def conflicts_in(trade_slice: TradeSlice, indices: NDArray[np.int64]) -> Iterator[Conflict]:
    """Yield the conflicts of a slice: its rows at `indices`, int64[m], ascending."""
    columns, source = trade_slice.batch.columns, trade_slice.batch.source
    for index in indices.tolist():
        row, session = int(trade_slice.rows[index]), int(trade_slice.sessions[index])
        exchange, symbol = columns.name(row)
        sequence = int(columns.sequences[row]) if columns.has_sequence[row] else None
        content = content_at(columns, row)
        number = sequence if session else content.trade_id
        assert number is not None
        dead_letter = DeadLetter.of(
            source, int(columns.messages[row]), Reason.CONFLICT, error="", index=int(columns.indexes[row])
        )
        yield Conflict(
            StoredKey(exchange, symbol, session, number),
            content,
            msgspec.structs.replace(
                dead_letter,
                exchange=exchange,
                symbol=symbol,
                sequence=sequence,
                session=session,
                timestamp=as_time(int(columns.timestamps[row])),
            ),
        )


def content_at(columns: TradeColumns, row: int) -> Content:
    """Return the content of one row."""
    return Content(
        from_words(*columns.prices[row].tolist()),
        from_words(*columns.quantities[row].tolist()),
        int(columns.sides[row]),
        columns.trade_id(row),
    )


def _number_error(conflict: Conflict, stored: Content | NotFound) -> str:
    _, _, session, number = conflict.key
    what = f"sequence {number} of {_symbol_of(conflict.key)}"
    if stored == conflict.content:
        return (
            f"{what} is either a copy of the trade stored in session {session} or the next trade of a later session: "
            f"both have {_format_content(conflict.content)}. The next trades show it: if a later session continues "
            f"after {number}, replay this dead letter then; if not, it is a copy and the stored trade stands"
        )
    if stored is NotFound.ABSENT:
        return (
            f"{what} cannot be placed: session {session} stores no trade under it, and it may belong to another "
            f"numbering; this trade has {_format_content(conflict.content)}. The next trades show where it belongs: "
            "replay this dead letter then"
        )
    if isinstance(stored, Content):
        fact = f"{what} is stored in session {session} with {_compare(conflict, stored)}"
    else:
        fact = (
            f"{what} does not fit session {session}, whose stored trade was not read; "
            f"this trade has {_format_content(conflict.content)}"
        )
    return (
        f"{fact}. If numbering began again, the next trades show it: replay this dead letter then; "
        "if it is a correction, the stored trade stands"
    )


def _id_error(conflict: Conflict, stored: Content | NotFound) -> str:
    what = f"trade id {conflict.key.number!r} of {_symbol_of(conflict.key)} is stored"
    if isinstance(stored, Content):
        fact = f"{what} with {_compare(conflict, stored)}"
    else:
        fact = f"{what} with other content, which was not read; this trade has {_format_content(conflict.content)}"
    return (
        f"{fact}. If it is a correction, the stored trade stands; if the venue gave the id to another trade, replay "
        "this dead letter once the deduplication window has passed"
    )


def _symbol_of(key: StoredKey) -> str:
    return f"{key.exchange} {key.symbol}"


def _compare(conflict: Conflict, stored: Content) -> str:
    has_other_id = stored.trade_id != conflict.content.trade_id
    sides = (_format_content(content, with_id=has_other_id) for content in (stored, conflict.content))
    return "; this trade has ".join(sides)


def _format_content(content: Content, *, with_id: bool = False) -> str:
    side = SIDES[content.side]
    parts = [
        f"price {spell_decimal(content.price)}",
        f"quantity {spell_decimal(content.quantity)}",
        "no side" if side is None else f"side {side}",
    ]
    if with_id:
        parts.append("no trade id" if content.trade_id is None else f"trade id {content.trade_id!r}")
    return ", ".join(parts)

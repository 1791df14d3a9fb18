"""Trades that contradict stored ones, as dead letters."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from k2.model.dead_letter import DeadLetter
from k2.model.reasons import Reason
from k2.sequencing.conflicts import Conflict, Content, NotFound, StoredKey, conflicts_in
from tests.model.dead_letters import dead_letter
from tests.model.trade_slices import Row, slice_of

SCALE = 10**18
SETTLED = (
    "If numbering began again, the next trades show it: replay this dead letter then; "
    "if it is a correction, the stored trade stands"
)


def conflict(session: int = 1, trade_id: str | None = None) -> Conflict:
    """Return a conflict of a trade with price 101, quantity 2, side buy."""
    message = dead_letter(7, reason=Reason.CONFLICT, error="")
    key = StoredKey("kraken", "BTC-USD", session, 41 if session else "it's")
    return Conflict(key, Content(101 * SCALE, 2 * SCALE, 1, trade_id if session else "it's"), message)


def test_letters_carry_fields_to_group_by() -> None:
    """A dead letter has the exchange, symbol, sequence, session, venue time and coordinates of its trade."""
    rows = [Row(4), Row(5, symbol="X", exchange="a", timestamp=1_500_000), Row(trade_id="it's"), Row(9)]
    piece = slice_of(rows, first_offset=50)
    columns = replace(piece.batch.columns, indexes=np.array([0, 3, 7, 0], dtype=np.int32))
    piece = replace(
        piece,
        batch=replace(piece.batch, columns=columns),
        rows=np.array([1, 2, 3], dtype=np.int32),
        sessions=np.array([2, 0, 1], dtype=np.int32),
    )
    first, second = conflicts_in(piece, np.array([0, 1]))
    assert first.key == ("a", "X", 2, 5)
    assert second.key == ("kraken", "BTC-USD", 0, "it's")
    assert first.message.error == ""
    letters = [one.dead_letter(NotFound.NOT_READ) for one in (first, second)]
    assert [(one.offset, one.index, one.topic, one.reason) for one in letters] == [
        (51, 3, "trades", Reason.CONFLICT),
        (52, 7, "trades", Reason.CONFLICT),
    ]
    assert [(one.exchange, one.symbol, one.sequence, one.session, one.timestamp) for one in letters] == [
        ("a", "X", 5, 2, datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)),
        ("kraken", "BTC-USD", None, 0, datetime(1970, 1, 1, tzinfo=UTC)),
    ]
    assert b'"timestamp":"1970-01-01T00:00:01.500000Z"' in letters[0].line()
    assert DeadLetter.parse(letters[0].line()) == letters[0]


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (
            Content(100 * SCALE, 2 * SCALE, 1, None),
            (
                "sequence 41 of kraken BTC-USD is stored in session 1 with price 100, quantity 2, side buy; "
                f"this trade has price 101, quantity 2, side buy. {SETTLED}"
            ),
        ),
        (
            Content(101 * SCALE, SCALE // 2, 0, "a"),
            (
                "sequence 41 of kraken BTC-USD is stored in session 1 with price 101, quantity 0.5, no "
                "side, trade id 'a'; "
                f"this trade has price 101, quantity 2, side buy, no trade id. {SETTLED}"
            ),
        ),
        (
            Content(101 * SCALE, 2 * SCALE, 1, None),
            (
                "sequence 41 of kraken BTC-USD is either a copy of the trade stored in session 1 or the "
                "next trade of a "
                "later session: both have price 101, quantity 2, side buy. The next trades show it: if a later session "
                "continues after 41, replay this dead letter then; if not, it is a copy and the stored trade stands"
            ),
        ),
        (
            NotFound.ABSENT,
            (
                "sequence 41 of kraken BTC-USD cannot be placed: session 1 stores no trade under it, and "
                "it may belong to "
                "another numbering; this trade has price 101, quantity 2, side buy. The next trades show "
                "where it belongs: "
                "replay this dead letter then"
            ),
        ),
        (
            NotFound.NOT_READ,
            (
                "sequence 41 of kraken BTC-USD does not fit session 1, whose stored trade was not read; "
                f"this trade has price 101, quantity 2, side buy. {SETTLED}"
            ),
        ),
    ],
    ids=["other content", "another id", "a copy", "absent", "not read"],
)
def test_errors_of_numbers_compare_both_trades(stored: Content | NotFound, error: str) -> None:
    """The error says what is stored, what arrived, and how to resolve it."""
    assert conflict().dead_letter(stored).error == error


def test_errors_of_ids_compare_both_trades() -> None:
    """A conflict of trade ids names the id, and what is stored under it if that could be read."""
    settled = (
        "If it is a correction, the stored trade stands; if the venue gave the id to another trade, replay this "
        "dead letter once the deduplication window has passed"
    )
    assert conflict(session=0).dead_letter(Content(SCALE, SCALE, 2, "it's")).error == (
        'trade id "it\'s" of kraken BTC-USD is stored with price 1, quantity 1, side sell; '
        f"this trade has price 101, quantity 2, side buy. {settled}"
    )
    for unknown in NotFound:
        assert conflict(session=0).dead_letter(unknown).error == (
            'trade id "it\'s" of kraken BTC-USD is stored with other content, which was not read; '
            f"this trade has price 101, quantity 2, side buy. {settled}"
        )

"""The view `quality`, certificates of a day, of one symbol, and `k2 completeness` say the same of any table."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.model.decisions import NO_TOPIC
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query.certify import certify
from k2.query.completeness import CompletenessParameters, by_day
from k2.query.quality import quality
from k2.query.verify import verify
from tests.model.dead_letters import dead_letter
from tests.query.tables import (
    EPOCH,
    append,
    conflict,
    event,
    made,
    numbered,
    progress,
    session_started,
    set_progress,
    write_letters,
)

SYMBOLS = st.sampled_from(["A", "B/b"])
HOURS = st.integers(-60, 60).map(lambda halves: halves / 2)
Row = dict[str, Any]
COUNTS = ("stored", "expected", "missing", "accepted", "not_numbered", "conflicts")
JUDGED = ("condition", "reasons", "dead_letters", "unnamed_dead_letters", "connection_gaps", "sessions_started")

TRADES = st.lists(
    st.tuples(SYMBOLS, st.integers(0, 2), st.integers(1, 12), HOURS),
    min_size=1,
    max_size=12,
    unique_by=lambda one: one[:3],
)
ACCEPTED = st.lists(st.tuples(SYMBOLS, st.integers(1, 2), st.integers(2, 11)), max_size=3, unique=True)
STARTED = st.lists(st.tuples(SYMBOLS, st.integers(1, 3), HOURS), max_size=3)
LOST = st.lists(HOURS, max_size=1)
LETTERS = st.lists(st.tuples(st.sampled_from(["binance|A", "binance|B/b", "x", None]), st.integers(0, 12)), max_size=3)
CONFLICTS = st.lists(st.tuples(SYMBOLS, HOURS), max_size=2)


def _row(place: int, symbol: str, session: int, sequence: int, hours: float) -> Row:
    return {**numbered(sequence, hours, session, symbol=symbol), "offset": 2 * place}


def _events(accepted: list[Any], started: list[Any], lost: list[float]) -> list[Row]:
    decided: Row = {"topic": NO_TOPIC, "reason": "never given", "decided_by": "ops"}
    named: Row = {"symbol": "c1", "session": 1, "topic": "trades"}
    return [
        *(
            event("gap_accepted", number, number, symbol=name, session=session, **decided)
            for name, session, number in accepted
        ),
        *(session_started(session, hours, symbol=name) for name, session, hours in started),
        *(event("connection_gap", 5, 7, timestamp=EPOCH + timedelta(hours=hours), **named) for hours in lost),
    ]


def _letters(unread: list[tuple[str | None, int]], conflicts: list[tuple[str, float]]) -> list[Any]:
    found: list[Any] = [dead_letter(2 * at + 1, key=key, reason=Reason.MALFORMED) for key, at in unread]
    for number, (name, hours) in enumerate(conflicts, 500):
        found.append(conflict(number, EPOCH + timedelta(hours=hours), symbol=name))
    return found


def _store(place: Settings, trades: list[tuple[str, int, int, float]], events: list[Row], letters: list[Any]) -> None:
    append(made(place, TableName.TRADES), [_row(number, *one) for number, one in enumerate(trades)])
    set_progress(made(place, TableName.TRADES), progress(offset=1_000))
    append(made(place, TableName.SEQUENCE_EVENTS), events)
    write_letters(place, letters)


def _said(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: document[name] for name in names}


@pytest.mark.slow
@settings(max_examples=2)
@example([("A", 1, 1, 2), ("B/b", 1, 1, 3), ("A", 1, 3, 30)], [("A", 1, 2)], [], [], [("binance|B/b", 2)], [])
@given(trades=TRADES, accepted=ACCEPTED, started=STARTED, lost=LOST, letters=LETTERS, conflicts=CONFLICTS)
def test_all_reports_of_a_day_agree(
    trades: list[tuple[str, int, int, float]],
    accepted: list[tuple[str, int, int]],
    started: list[tuple[str, int, float]],
    lost: list[float],
    letters: list[tuple[str | None, int]],
    conflicts: list[tuple[str, float]],
) -> None:
    """Whatever is selected; and certificates that were just issued agree with the table, alone and among others."""
    with TemporaryDirectory() as folder:
        place, certificates = Settings(data_dir=Path(folder)), Path(folder) / "certificates"
        _store(place, trades, _events(accepted, started, lost), _letters(letters, conflicts))
        counted = {(one.symbol, one.day): asdict(one) for one in by_day(place, CompletenessParameters())}
        rows = {(row["symbol"], row["day"]): row for row in quality(place).to_pylist()}
        assert {key: _said(row, COUNTS) for key, row in rows.items()} == {
            key: _said(row, COUNTS) for key, row in counted.items()
        }
        day = max(day for _, day in rows)
        of_day = {symbol: _said(row, (*COUNTS, *JUDGED)) for (symbol, on), row in rows.items() if on == day}
        for symbol, row in of_day.items():
            (alone,) = certify(place, "binance", day, symbol, folder=certificates)
            assert _said(alone.document, row) == row
        issued = certify(place, "binance", day, folder=certificates)
        assert {one.document["symbol"]: one.is_new for one in issued} == dict.fromkeys(of_day, False)
        assert [text for one in verify(place, [certificates]) for text in one.differences] == []

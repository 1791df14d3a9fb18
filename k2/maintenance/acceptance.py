"""Accept missing numbers: record in the ledger that they never existed or will not come, or undo that.

This is a commit of its own to the ledger, next to the job, as those of the upkeep are. It changes no progress, so the
job rebases its own commits over it. Each attempt judges the ledger that it replaces: of two commands that accept the
same numbers at once, the second finds them accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.commit import Committer
from k2.iceberg.data_files import write_file
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.tables import TableName, connect
from k2.maintenance.commits import commit_change
from k2.model.columns import SEQUENCE_EVENTS
from k2.model.decisions import NO_OFFSET, NO_PARTITION, NO_TOPIC, Decision
from k2.model.errors import K2Error, SettingsError
from k2.model.sequence_events import EventKind
from k2.model.state_source import Ranges, SessionKey
from k2.model.times import time_of
from k2.ops.settings import Settings
from k2.query.decisions import accepted_by_session, newest_decision, register_decisions
from k2.query.gaps import missing_ranges
from k2.query.pool import open_engine
from k2.query.tables import existing_table
from k2.query.where_clauses import equal
from k2.sequencing.acceptance import AcceptedRange
from k2.sequencing.ranges import difference, intersection

__all__ = ["Decided", "Request", "decide"]


class NothingToDecideError(K2Error, LookupError):
    """None of the numbers can be accepted, or none of them is accepted."""


@dataclass(frozen=True, slots=True)
class Request:
    """Numbers to accept, or whose acceptance is to be undone: `first` to `last` inclusive."""

    exchange: str
    symbol: str
    first: int
    last: int
    reason: str
    decided_by: str
    session: int | None = None
    """None if only one session has such numbers."""
    is_undo: bool = False

    @property
    def sentence(self) -> str:
        """The numbers and their symbol in words."""
        numbers = f"number {self.first}" if self.first == self.last else f"numbers {self.first} to {self.last}"
        return f"{numbers} of {self.exchange} {self.symbol}"


@dataclass(frozen=True, slots=True)
class Decided:
    """The numbers of one session that were accepted, or whose acceptance was undone."""

    exchange: str
    symbol: str
    session: int
    numbers: int
    """How many numbers: only those of the requested ones that were missing, or accepted."""
    ranges: list[tuple[int, int]]
    """First and last number of each range, ascending."""
    event: EventKind
    reason: str
    decided_by: str
    decided_at: datetime


def decide(settings: Settings, request: Request, *, dry_run: bool = False) -> Decided:
    """Accept the missing ones of some numbers, or undo the acceptance of the accepted ones, in one commit.

    If the process is killed, all of the decision is in the ledger or nothing of it. A decision is later than every
    earlier one on the symbol, also if the clocks of two hosts differ. With `dry_run` nothing is changed.

    Raises:
        NothingToDecideError: none of the numbers is missing, or accepted.
        SettingsError: the range is empty, or numbers of several sessions could be meant.
        NoTableError: the ledger does not exist.
        TableError: the ledger is not the job's, or was rolled back behind the job's last commit.
        UnreachableError: the catalog or store did not answer, after retries.
    """
    if request.first > request.last:
        raise SettingsError(f"{request.first} to {request.last} has no number; give the lower number first")
    table, now_us = existing_table(settings, "sequence_events"), _now_us()
    if dry_run:
        return _summary(_decisions(settings, table, request, now_us))
    committer = Committer(connect(settings, TableName.SEQUENCE_EVENTS))
    written: dict[tuple[Decision, ...], DataFile] = {}

    def stage(table: Table) -> MetadataSwap:
        decisions = _decisions(settings, table, request, now_us)
        if decisions not in written:
            # Judged again after a conflict it is usually the same, and so is its file.
            written.clear()
            written[decisions] = write_file(table, _rows(table, decisions), (request.exchange,))
        swap = MetadataSwap(table)
        swap.append([written[decisions]], {})
        return swap

    commit_change(committer, "recording a decision", stage)
    (decisions,) = written
    return _summary(decisions)


def _decisions(settings: Settings, table: Table, request: Request, now_us: int) -> tuple[Decision, ...]:
    """Return the decisions that a request comes to, by the ledger as it was just read."""
    with open_engine(settings) as engine:
        where = equal(exchange=request.exchange, symbol=request.symbol)
        engine.register("sequence_events", table, row_filter=where)
        register_decisions(engine, table, request.exchange, request.symbol)
        missing = missing_ranges(engine)
        accepted = accepted_by_session(engine, request.exchange, request.symbol)
        newest = newest_decision(engine)
    at = now_us if newest is None else max(now_us, newest + 1)
    possible = {key: found for key, found in _possible(request, missing, accepted).items() if found}
    if not possible:
        raise NothingToDecideError(_refusal(request, accepted))
    if len(possible) > 1:
        sessions = ", ".join(str(key.session) for key in sorted(possible))
        raise SettingsError(f"{request.sentence}: several sessions have them; choose one of {sessions} with --session")
    ((key, ranges),) = possible.items()
    event = EventKind.GAP_ACCEPTANCE_UNDONE if request.is_undo else EventKind.GAP_ACCEPTED
    return tuple(Decision(*key, event, *one, at, request.reason, request.decided_by) for one in ranges)


def _possible(
    request: Request, missing: Mapping[SessionKey, Ranges], accepted: Mapping[SessionKey, list[AcceptedRange]]
) -> Mapping[SessionKey, Ranges]:
    """Return the requested numbers of each session that are missing and not accepted, or that are both."""
    found: dict[SessionKey, Ranges] = {}
    for key, ranges in missing.items():
        if key[:2] != (request.exchange, request.symbol) or request.session not in {None, key.session}:
            continue
        decided = tuple((one.first, one.last) for one in accepted.get(key, ()))
        wanted = intersection(ranges, decided) if request.is_undo else difference(ranges, decided)
        found[key] = intersection(wanted, ((request.first, request.last),))
    return found


def _refusal(request: Request, accepted: Mapping[SessionKey, list[AcceptedRange]]) -> str:
    options = f"--exchange {request.exchange} --symbol {request.symbol}"
    if request.is_undo:
        return f"{request.sentence}: none of them is accepted; see `k2 gaps --accepted {options}`"
    for key, ranges in accepted.items():
        if request.session not in {None, key.session}:
            continue
        for one in ranges:
            if one.first <= request.last and request.first <= one.last:
                return (
                    f"{request.sentence}: accepted already by {one.decided_by} at {time_of(one.at):%Y-%m-%d %H:%M} "
                    "UTC; --undo takes that back"
                )
    return f"{request.sentence}: none of them is missing; see `k2 gaps {options}`"


def _summary(decisions: tuple[Decision, ...]) -> Decided:
    first = decisions[0]
    return Decided(
        first.exchange,
        first.symbol,
        first.session,
        sum(one.numbers for one in decisions),
        [(one.first_sequence, one.last_sequence) for one in decisions],
        first.event,
        first.reason,
        first.decided_by,
        time_of(first.decided_at),
    )


def _rows(table: Table, decisions: tuple[Decision, ...]) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            **{name: value for name, value in one._asdict().items() if name != "decided_at"},
            "missing": one.numbers,
            "timestamp": one.decided_at,
            "topic": NO_TOPIC,
            "partition": NO_PARTITION,
            "offset": NO_OFFSET,
            "detected_at": one.decided_at,
        }
        for one in decisions
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(table.schema(), SEQUENCE_EVENTS, frozenset()))


def _now_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)

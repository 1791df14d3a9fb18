"""The routes of the integrity reports."""

from heapq import nlargest
from typing import Annotated

import structlog
from fastapi import APIRouter, Query

from k2.http.cancellation import AskForDocument, AskForRows
from k2.http.openapi import document_of, records_of
from k2.http.parameters import AuditAsked, CompletenessAsked, GapsAsked, Nothing
from k2.http.responses import Answer
from k2.query.audit import Audit
from k2.query.audit import audit as find_commits
from k2.query.completeness import Day, Hour, by_day, by_hour
from k2.query.dead_letters import Statistics, letters, statistics
from k2.query.gaps import Gap
from k2.query.gaps import gaps as find_gaps
from k2.query.partition_progress import PartitionState
from k2.query.partition_progress import progress as progress_of_all
from k2.query.pool import Caller
from k2.query.reconcile import Reconciliation
from k2.query.reconcile import reconcile as reconcile_all

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["integrity"])
log = structlog.get_logger()


@router.get("/gaps", responses=records_of(Gap))
async def gaps(asked: Annotated[GapsAsked, Query()], ask: AskForRows) -> Answer:
    """Return each range of sequence numbers that is missing now, or was at a time, or that came late."""

    def found(caller: Caller) -> list[Gap]:
        every = find_gaps(caller.settings, asked.exchange, asked.symbol, asked.as_of, asked.which, pool=caller)
        return every if asked.limit is None else nlargest(asked.limit, every, key=lambda gap: gap.missing)

    return ask.records(Gap, found, asked.limit)


@router.get("/completeness", responses=records_of(Day, Hour))
async def completeness(asked: Annotated[CompletenessAsked, Query()], ask: AskForRows) -> Answer:
    """Return, of each symbol and day or hour (UTC), how many trades are expected, stored and missing.

    A day also has its conflicts, the sessions started on it, and whether they leave the numbering in doubt.
    """
    if asked.by == "hour":
        return ask.records(Hour, lambda caller: by_hour(caller.settings, asked, pool=caller))
    return ask.records(Day, lambda caller: by_day(caller.settings, asked, pool=caller))


@router.get("/reconcile", responses=records_of(Reconciliation))
async def reconcile(_: Annotated[Nothing, Query()], ask: AskForRows) -> Answer:
    """Hold, for each topic partition, what was received against what became of it."""
    return ask.records(Reconciliation, lambda caller: reconcile_all(caller.settings, pool=caller))


@router.get("/progress", responses=records_of(PartitionState))
async def progress(_: Annotated[Nothing, Query()], ask: AskForRows) -> Answer:
    """Return, of each topic partition, how far the table is and how old its newest trades are; cheap to ask often."""
    return ask.records(PartitionState, lambda caller: progress_of_all(caller.settings, pool=caller))


@router.get("/audit", responses=document_of(Audit))
async def audit(asked: Annotated[AuditAsked, Query()], ask: AskForDocument) -> Answer:
    """Return the job's commits to the table of trades, the oldest first, and whether those of all time are complete."""

    def found(caller: Caller) -> Audit:
        return find_commits(caller.settings, asked.start, asked.end, asked.limit, pool=caller)

    return ask.document(found, asked.limit)


@router.get("/dead-letters", responses=document_of(Statistics))
async def dead_letters(_: Annotated[Nothing, Query()], ask: AskForDocument) -> Answer:
    """Count the dead letters by reason and by topic partition."""

    def found(caller: Caller) -> Statistics:
        return statistics(caller.each(letters(caller.settings, _unreadable)))

    return ask.document(found)


def _unreadable(line: str) -> None:
    log.warning("dead letter cannot be read", line=line)

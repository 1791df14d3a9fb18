"""Routes of the integrity reports: gaps, completeness, reconciliation, progress, commits, history and dead letters."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Query

from k2.http.dependencies import DocumentResponses, StatusSource, TabularResponses
from k2.http.openapi import document_of, records_of
from k2.http.parameters import (
    AuditRequest,
    CompletenessRequest,
    CorrectionsRequest,
    DeadLetterCountsRequest,
    DeadLettersRequest,
    EmptyRequest,
    FeedsRequest,
    GapsRequest,
    HistoryRequest,
)
from k2.http.responses import QueryResponse
from k2.query.audit import Audit
from k2.query.audit import audit as find_commits
from k2.query.completeness import (
    Day,
    DaySummary,
    Hour,
    HourSummary,
    by_day,
    by_hour,
    summary_by_day,
    summary_by_hour,
)
from k2.query.corrections import ReportedCorrection
from k2.query.corrections import corrections as find_corrections
from k2.query.days import DayRows
from k2.query.days import days as find_days
from k2.query.dead_letters import (
    DeadLetterExcerpt,
    ErrorStatistics,
    Statistics,
    count_by_error,
    count_dead_letters,
    count_with_replays,
    newest_dead_letters,
    open_dead_letters,
)
from k2.query.feeds import FeedDay, by_feed
from k2.query.gap_causes import explained
from k2.query.gaps import Gap, largest_gaps
from k2.query.gaps import gaps as find_gaps
from k2.query.history import Interval
from k2.query.history import history as find_history
from k2.query.parameters import QueryParameters
from k2.query.partition_progress import PartitionState
from k2.query.partition_progress import progress as progress_of_all
from k2.query.pool import CancellableSession
from k2.query.reconcile import Reconciliation
from k2.query.reconcile import reconcile as reconcile_all
from k2.status.reader import Status

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["integrity"])
log = structlog.get_logger()


@router.get("/status", responses=document_of(Status))
async def status(
    _: Annotated[EmptyRequest, Query()], reader: StatusSource, respond: DocumentResponses
) -> QueryResponse:
    """Return one verdict on the capture with its reasons, the worst first, and the state of each topic partition.

    It is complete, behind, missing, rejecting, in doubt, stopped or unknown. An unreadable table is a reason, not an
    error.
    """
    return respond.document(reader.read)


@router.get("/gaps", responses=records_of(Gap))
async def gaps(parameters: Annotated[GapsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return ranges of sequence numbers that are missing now, or at a time, were filled late, or were accepted."""

    def find(session: CancellableSession) -> list[Gap]:
        found = find_gaps(
            session.settings, parameters.exchange, parameters.symbol, parameters.as_of, parameters.which, pool=session
        )
        rows = found if parameters.limit is None else largest_gaps(found, parameters.limit)
        return explained(session.settings, rows, pool=session)

    return respond.records(Gap, find, parameters.limit)


@router.get("/completeness", responses=records_of(Day, Hour))
async def completeness(parameters: Annotated[CompletenessRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return how many trades are expected, stored and missing, by symbol and day or hour (UTC).

    A day also has its conflicts, the number of sessions that started on it, and whether its numbering is in doubt.
    `expected`, `missing` and `percent` are null for trades that are not numbered: it is unknown how many are missing.
    """
    if parameters.by == "hour":
        return respond.records(Hour, lambda session: by_hour(session.settings, parameters, pool=session))
    return respond.records(Day, lambda session: by_day(session.settings, parameters, pool=session))


@router.get("/completeness/summary", responses=document_of(DaySummary, HourSummary))
async def completeness_summary(
    parameters: Annotated[CompletenessRequest, Query()], respond: DocumentResponses
) -> QueryResponse:
    """Return the rows of /v1/completeness, and the totals of all symbols.

    The totals include symbols that `worst`, `containing` and `in_doubt` leave out.
    """
    if parameters.by == "hour":
        return respond.document(lambda session: summary_by_hour(session.settings, parameters, pool=session))
    return respond.document(lambda session: summary_by_day(session.settings, parameters, pool=session))


@router.get("/feeds", responses=records_of(FeedDay))
async def feeds(parameters: Annotated[FeedsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return what each feed brought and lost, by day and symbol, and of an exchange's symbols together.

    Only a row without a symbol compares times: how many trades the feed brought first, and how late the others were.
    Without `K2_FEEDS` there are no rows.
    """
    selected = QueryParameters(**parameters.model_dump(exclude={"by"}))

    def find(session: CancellableSession) -> list[FeedDay]:
        found = by_feed(session.settings, selected, pool=session)
        return found if parameters.by == "symbol" else [row for row in found if row.symbol is None]

    return respond.records(FeedDay, find)


@router.get("/reconcile", responses=records_of(Reconciliation))
async def reconcile(_: Annotated[EmptyRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return, for each topic partition, whether every received message is accounted for."""
    return respond.records(Reconciliation, lambda session: reconcile_all(session.settings, pool=session))


@router.get("/progress", responses=records_of(PartitionState))
async def progress(_: Annotated[EmptyRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return the next offset, the counts and the age of the newest trades of each topic partition; cheap to poll."""
    return respond.records(PartitionState, lambda session: progress_of_all(session.settings, pool=session))


@router.get("/audit", responses=document_of(Audit))
async def audit(parameters: Annotated[AuditRequest, Query()], respond: DocumentResponses) -> QueryResponse:
    """Return the job's commits to the trades table, oldest first, and whether the commit log is complete."""

    def find(session: CancellableSession) -> Audit:
        return find_commits(session.settings, parameters.start, parameters.end, parameters.limit, pool=session)

    return respond.document(find, parameters.limit)


@router.get("/corrections", responses=records_of(ReportedCorrection))
async def corrections(parameters: Annotated[CorrectionsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return corrections and cancels of trades, oldest first, and whether the trade that each names is stored."""

    def find(session: CancellableSession) -> list[ReportedCorrection]:
        names, span = (parameters.exchange, parameters.symbol), (parameters.start, parameters.end)
        return find_corrections(session.settings, *names, *span, parameters.limit, pool=session)

    return respond.records(ReportedCorrection, find, parameters.limit)


@router.get("/days", responses=records_of(DayRows))
async def days(_: Annotated[EmptyRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return the days (UTC) that have trades, oldest first, with the number of trades; cheap to poll."""
    return respond.records(DayRows, lambda session: find_days(session.settings, pool=session))


@router.get("/history", responses=records_of(Interval))
async def history(parameters: Annotated[HistoryRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return, for each interval of time, what the job committed, and the gaps that it found and filled."""

    def find(session: CancellableSession) -> list[Interval]:
        return find_history(
            session.settings, parameters.interval, parameters.start, parameters.end, parameters.limit, pool=session
        )

    return respond.records(Interval, find, parameters.limit)


@router.get("/dead-letters", responses=document_of(Statistics, ErrorStatistics))
async def dead_letters(
    parameters: Annotated[DeadLetterCountsRequest, Query()], respond: DocumentResponses
) -> QueryResponse:
    """Count the dead letters by reason and by topic partition, or by error, the commonest first."""
    count = count_by_error if parameters.by == "error" else count_dead_letters

    def find(session: CancellableSession) -> Statistics | ErrorStatistics:
        found = session.each(open_dead_letters(session.settings, _unreadable))
        return count_with_replays(count, session.settings, found, _unreadable_journal, pool=session)

    return respond.document(find)


@router.get("/dead-letters/list", responses=records_of(DeadLetterExcerpt))
async def list_dead_letters(
    parameters: Annotated[DeadLettersRequest, Query()], respond: TabularResponses
) -> QueryResponse:
    """Return the newest dead letters of a reason, error or topic partition, each with the start of its message."""

    def find(session: CancellableSession) -> list[DeadLetterExcerpt]:
        found = session.each(open_dead_letters(session.settings, _unreadable))
        selected = (
            one
            for one in found
            if parameters.topic in {None, one.topic} and parameters.partition in {None, one.partition}
        )
        return newest_dead_letters(selected, parameters.limit, reason=parameters.reason, error=parameters.error)

    return respond.records(DeadLetterExcerpt, find, parameters.limit)


def _unreadable(line: str) -> None:
    log.warning("dead_letter_unreadable", line=line)


def _unreadable_journal(file: str) -> None:
    log.warning("replay_journal_unreadable", file=file)

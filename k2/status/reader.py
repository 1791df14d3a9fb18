"""Read the status: gather the evidence from the tables, the files and the broker, and assess it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Final

import structlog
from pyiceberg.table import Table

from k2.model.dead_letter import Coordinates
from k2.model.errors import K2Error
from k2.model.partition_starts import left_out_text
from k2.model.progress import Counts, TopicPartition
from k2.model.times import time_of
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.query.audit import recorded_commits
from k2.query.connection_gaps import ConnectionLoss, connection_gaps, losses
from k2.query.gaps import gaps, missing_of_span
from k2.query.history import history
from k2.query.partition_progress import PartitionState, partition_states
from k2.query.pool import EnginePool, open_pool, retry_if_files_gone
from k2.query.recent_trades import SymbolActivity, read_activity
from k2.query.tables import NoTableError, existing_table, find_job_table
from k2.status.activity import INTERVAL, PERIOD, RecentActivity, recent_activity
from k2.status.assessment import assess
from k2.status.cached import Cached
from k2.status.evidence import BrokerState, Evidence, MissingNumbers, StoredCounts
from k2.status.feeds import dated_ahead, silent_symbols
from k2.status.findings import Cause, Finding, Verdict
from k2.status.gather import (
    PATIENCE_SECONDS_MIN,
    common_errors,
    configured_servers,
    conflicts_by_symbol,
    full_folders,
    is_left_out_gap,
    lag_at_commit,
    missing_numbers,
    partition_rates,
    patience_seconds,
    read_broker,
    recent_commits,
    topic_rejections,
    total_rows,
)
from k2.status.lag import is_read_until, partition_verdict
from k2.status.waiting import Waiting
from k2.storage.catalog import catalog_location
from k2.storage.commit_log import Commit
from k2.storage.dead_letters.files import lost_names
from k2.storage.dead_letters.folders import dead_letter_folder, replay_journal
from k2.storage.dead_letters.rejections import CommonError
from k2.storage.dead_letters.replay_journal import replayed_letters
from k2.storage.table_properties import DEAD_LETTER_POSITIONS, LEDGER_ID, PARTITION_STARTS, PROGRESS, REMOVED_ROWS

__all__ = ["DayStatus", "PartitionStatus", "Status", "StatusReader"]

SHARE_SECONDS: Final = 2.0
"""Time for which one status serves all clients of a reader."""
_LOG: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """The state of a topic partition."""

    topic: str
    partition: int
    verdict: Verdict
    """By its lag alone: complete, behind, stopped, or unknown if the broker was not asked."""
    offset: int | None
    """Next offset to read; None if nothing of it was committed yet."""
    end_offset: int | None
    """End of the partition at the broker; None if it is not known."""
    unread: int | None
    oldest_unread: datetime | None
    """Kafka timestamp of the next message to read."""
    messages_per_second: float | None
    """Rate in the newest commits; None if none of them advanced it."""
    committed_at: datetime | None
    kafka_timestamp: datetime | None
    """Newest Kafka timestamp of its trades in the newest commits."""
    timestamp: datetime | None
    """Newest venue time of these trades."""


@dataclass(frozen=True, slots=True)
class DayStatus:
    """What is known of a whole day, UTC."""

    day: date
    is_read: bool | None
    """Whether all messages are committed that Kafka received until its end; None if that is not known."""
    missing: int
    """Sequence numbers that are missing now, and were found missing by a trade of the day (venue time)."""
    sentence: str
    """The same in words."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the capture."""

    verdict: Verdict
    """That of the worst reason; complete if there is none."""
    reasons: list[Finding]
    """The worst first."""
    checked_at: datetime
    catalog: str
    location: str
    """Address of the catalog, without credentials."""
    namespace: str
    broker: str | None
    """The bootstrap servers that were asked; None if no broker is configured."""
    last_commit_at: datetime | None
    kafka_timestamp: datetime | None
    """Newest Kafka timestamp of the trades in the newest commits."""
    timestamp: datetime | None
    """Newest venue time of these trades."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    skipped: int
    corrections: int
    unread: int | None
    """Messages that the topics have and the table has not accounted for; None if it is not known."""
    missing: int
    """Sequence numbers that are missing now."""
    canary_left_out: int
    """Numbers that the canary left out on purpose; they are not in `missing`, and do not count for the verdict."""
    losses: list[ConnectionLoss]
    """Messages of connections that were lost between the venue and Kafka, by exchange; they do not count for the
    verdict, because it is not known whether they were trades."""
    conflicts: int
    yesterday: DayStatus
    activity: RecentActivity
    """Of the last hour and the 23 hours before; all 0 if nothing could be read."""
    left_out: str
    """The offsets that `K2_START` left out on purpose, by partition; empty if none. They do not count for the
    verdict."""
    partitions: list[PartitionStatus]


class StatusReader:
    """Reads statuses; what depends on a table version alone is read once per version. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        logs_changes: bool = False,
    ) -> None:
        """Read the tables of `settings`; with `logs_changes`, log each verdict that differs from the one before."""
        self._settings, self._clock, self._logs_changes = settings, clock, logs_changes
        self._lock = threading.Lock()
        self._shared: Status | None = None
        self._shared_until = 0.0
        self._waiting = Waiting()
        self._states: Cached[tuple[PartitionState, ...]] = Cached()
        self._errors: Cached[Mapping[str, CommonError]] = Cached()
        self._replayed: Cached[Mapping[Coordinates, int]] = Cached()
        self._missing: Cached[tuple[MissingNumbers | None, int, int]] = Cached()
        self._losses: Cached[tuple[ConnectionLoss, ...]] = Cached()
        self._conflicts: Cached[Mapping[str, int]] = Cached()
        self._symbols: Cached[Sequence[SymbolActivity]] = Cached()
        self._recent: Cached[RecentActivity] = Cached()

    def read(self, pool: EnginePool | None = None) -> Status:
        """Return the status now, or the one that another client has just read."""
        with self._lock:
            if self._shared is None or time.monotonic() > self._shared_until:
                before, self._shared = self._shared, self._read(pool)
                if self._logs_changes:
                    _log_change(before, self._shared)
                self._shared_until = time.monotonic() + SHARE_SECONDS
            return self._shared

    @property
    def is_certain(self) -> bool:
        """Whether it is known since when unread messages wait, by timestamps or since their partition advances.

        If not, the reader counts from when it first saw them; until then they count as new.
        """
        return self._waiting.is_certain

    def _read(self, pool: EnginePool | None) -> Status:
        try:
            with open_pool(self._settings, pool) as lent:
                return self._assess(self._gather(lent))
        except NoTableError as error:
            finding = Finding.of(Cause.NOTHING_STORED, str(error), "start the job")
        except K2Error as error:
            advice = "nothing else can be said until the tables can be read"
            finding = Finding.of(Cause.TABLE_UNREADABLE, str(error), advice)
        return self._status(self._no_evidence(), [finding])

    def _assess(self, evidence: Evidence) -> Status:
        return self._status(evidence, assess(evidence))

    def _no_evidence(self) -> Evidence:
        return Evidence(
            now=self._clock(),
            patience_seconds=PATIENCE_SECONDS_MIN,
            states=(),
            messages_per_second={},
            last_commit_at=None,
            broker=BrokerState(configured_servers(self._settings), error="not asked"),
            waiting_since={},
            stored=StoredCounts(None),
        )

    @retry_if_files_gone
    def _gather(self, pool: EnginePool) -> Evidence:
        settings, now = self._settings, self._clock()
        table = existing_table(settings, "trades", pool)
        recorded = PROGRESS.read(table.metadata.properties)
        commits = sorted(recorded_commits(table), key=lambda one: one.committed_at)
        states = self._states.get(table.metadata_location, lambda: tuple(partition_states(settings, table, pool=pool)))
        positions = DEAD_LETTER_POSITIONS.read_all(table.metadata.properties)
        symbols = self._symbols.get(table.metadata_location, lambda: self._read_symbols(table, commits, pool))
        conflicts = self._conflicts.get(str(positions), lambda: conflicts_by_symbol(settings, table))
        replayed = self._read_replayed()
        errors = self._errors.get(
            f"{positions} {len(replayed)}", lambda: common_errors(dead_letter_folder(settings), positions, replayed)
        )
        ledger = find_job_table(settings, "sequence_events", pool)
        missing, missing_yesterday, left_out = (
            (None, 0, 0) if ledger is None else self._read_missing(ledger, pool, _midnight(now))
        )
        lost = () if ledger is None else self._read_losses(ledger, pool)
        starts = PARTITION_STARTS.read(table.metadata.properties)
        broker = read_broker(settings, states, table, starts)
        committed_at = {TopicPartition(one.topic, one.partition): one.committed_at for one in states}
        return Evidence(
            now=now,
            patience_seconds=patience_seconds(commits),
            states=states,
            messages_per_second=partition_rates(commits),
            last_commit_at=time_of(commits[-1].committed_at) if commits else None,
            broker=broker,
            waiting_since=self._waiting.since(broker.ends, committed_at, lag_at_commit(commits), now),
            stored=StoredCounts(
                total_rows(table),
                tuple(lost_names(dead_letter_folder(settings), positions)),
                _is_ledger_lost(table, ledger),
                REMOVED_ROWS.read(table.metadata.properties).total,
            ),
            rejections=topic_rejections(recorded, commits, errors, replayed),
            missing=missing,
            missing_yesterday=missing_yesterday,
            canary_left_out=left_out,
            losses=lost,
            conflicts=sum(conflicts.values()),
            conflicting_symbols=tuple(conflicts),
            dated_ahead=tuple(dated_ahead(symbols)),
            silent=tuple(silent_symbols(symbols)),
            activity=self._read_activity(table, ledger, pool, now),
            full_folders=full_folders(settings),
            starts=starts,
        )

    def _read_replayed(self) -> Mapping[Coordinates, int]:
        """Return the dead letters that were replayed; a journal file that cannot be read has none."""
        journal = replay_journal(self._settings)
        return self._replayed.get(journal.version(), lambda: replayed_letters(journal.entries(lambda _: None)))

    def _read_activity(self, table: Table, ledger: Table | None, pool: EnginePool, now: datetime) -> RecentActivity:
        def read() -> RecentActivity:
            found = history(self._settings, INTERVAL, now - PERIOD, now, pool=pool)
            return recent_activity(found, now)

        locations = table.metadata_location, None if ledger is None else ledger.metadata_location
        return self._recent.get(f"{now:%H:%M} {locations}", read)

    def _read_symbols(self, table: Table, commits: Sequence[Commit], pool: EnginePool) -> Sequence[SymbolActivity]:
        newest = {one.snapshot_id for one in recent_commits(commits)}
        existing = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
        return read_activity(self._settings, table, newest & existing, pool=pool)

    def _read_missing(
        self, ledger: Table, pool: EnginePool, midnight: datetime
    ) -> tuple[MissingNumbers | None, int, int]:
        """Return what is missing now, how much of it was found missing on the day before `midnight`, and what is not.

        The last is how many numbers the canary left out, which are in neither of the others.
        """

        def read() -> tuple[MissingNumbers | None, int, int]:
            every = gaps(self._settings, pool=pool)
            found = [gap for gap in every if not is_left_out_gap(gap, self._settings.canary_exchange)]
            of_day = missing_of_span(self._settings, found, midnight - timedelta(days=1), midnight, pool=pool)
            return missing_numbers(found), of_day, len(every) - len(found)

        return self._missing.get(f"{midnight} {ledger.metadata_location}", read)

    def _read_losses(self, ledger: Table, pool: EnginePool) -> tuple[ConnectionLoss, ...]:
        def read() -> tuple[ConnectionLoss, ...]:
            return tuple(losses(connection_gaps(self._settings, pool=pool)))

        return self._losses.get(ledger.metadata_location, read)

    def _status(self, evidence: Evidence, reasons: list[Finding]) -> Status:
        states = {TopicPartition(one.topic, one.partition): one for one in evidence.states}
        partitions = sorted({*states, *evidence.broker.ends})
        counts = sum((_counts(one) for one in evidence.states), Counts())
        return Status(
            verdict=reasons[0].verdict if reasons else Verdict.COMPLETE,
            reasons=reasons,
            checked_at=evidence.now,
            catalog=self._settings.catalog,
            location=catalog_location(self._settings),
            namespace=self._settings.namespace,
            broker=evidence.broker.servers,
            last_commit_at=evidence.last_commit_at,
            kafka_timestamp=max((one.kafka_timestamp for one in evidence.states if one.kafka_timestamp), default=None),
            timestamp=max((one.timestamp for one in evidence.states if one.timestamp), default=None),
            received=counts.received,
            stored=counts.stored,
            duplicates=counts.duplicates,
            dead_letters=counts.dead_letters,
            skipped=counts.skipped,
            corrections=counts.corrections,
            unread=sum(end.unread for end in evidence.broker.ends.values()) if evidence.broker.is_known else None,
            missing=0 if evidence.missing is None else evidence.missing.numbers,
            canary_left_out=evidence.canary_left_out,
            losses=[*evidence.losses],
            conflicts=evidence.conflicts,
            yesterday=_yesterday(evidence),
            activity=evidence.activity,
            left_out=left_out_text(evidence.starts),
            partitions=[_partition_status(evidence, one, states.get(one)) for one in partitions],
        )


def _log_change(before: Status | None, now: Status) -> None:
    if before is not None and before.verdict is now.verdict:
        return
    fields: dict[str, object] = {"verdict": now.verdict.value}
    if before is not None:
        fields["before"] = before.verdict.value
    if not now.reasons:
        _LOG.info("verdict_changed", **fields)
        return
    worst = now.reasons[0]
    _LOG.warning("verdict_changed", **fields, cause=worst.cause.value, why=worst.sentence, hint=worst.next_step)


def _is_ledger_lost(table: Table, ledger: Table | None) -> bool:
    recorded = LEDGER_ID.read(table.metadata.properties)
    return recorded is not None and (ledger is None or str(ledger.metadata.table_uuid) != recorded)


def _midnight(now: datetime) -> datetime:
    """Return the last midnight, UTC."""
    return datetime.combine(now.astimezone(UTC), time_of_day(), UTC)


def _yesterday(evidence: Evidence) -> DayStatus:
    midnight = _midnight(evidence.now)
    day, missing = (midnight - timedelta(days=1)).date(), evidence.missing_yesterday
    is_read = is_read_until(evidence, midnight)
    verb = "may not be" if is_read is None else "is" if is_read else "is not"
    numbers = format_count(missing, "sequence number") if missing else "no sequence number"
    sentence = f"{day} {verb} read to its end; {numbers} of it {'are' if missing > 1 else 'is'} missing"
    return DayStatus(day, is_read, missing, sentence)


def _counts(state: PartitionState) -> Counts:
    counts = (state.received, state.stored, state.duplicates, state.dead_letters, state.skipped, state.corrections)
    return Counts(*counts)


def _partition_status(evidence: Evidence, partition: TopicPartition, state: PartitionState | None) -> PartitionStatus:
    end = evidence.broker.ends.get(partition)
    return PartitionStatus(
        partition.topic,
        partition.partition,
        partition_verdict(evidence, partition),
        None if state is None else state.offset,
        None if end is None else end.end_offset,
        None if end is None else end.unread,
        None if end is None else end.oldest_unread,
        evidence.messages_per_second.get(partition),
        None if state is None else state.committed_at,
        None if state is None else state.kafka_timestamp,
        None if state is None else state.timestamp,
    )

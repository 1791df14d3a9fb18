"""Bootstrap of the job: settings, logs, signals, recovery store, health endpoints and the job I/O."""

import gc
import os
import signal
import sys
from functools import partial
from types import TracebackType
from typing import Final, NoReturn

import structlog

from flows.job_io import JobIO
from k2.iceberg.last_commit import report_last_commit
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_binding import bind_tables
from k2.iceberg.table_progress import read_progress
from k2.kafka.canary import open_canary
from k2.kafka.offset_resolution import check_topic_ids
from k2.kafka.schema_registry import open_schema_registry
from k2.kafka.source import KafkaSource
from k2.model.errors import PartitionsAddedError
from k2.model.progress import Progress
from k2.model.symbols import Symbols
from k2.ops.compile_time import CompileTime
from k2.ops.error_boundary import exit_with_error, find_k2_error
from k2.ops.failpoints import arm, armed_by
from k2.ops.health import Health, serve_health
from k2.ops.logs import set_up_logs
from k2.ops.metrics import PROCESSES, RESTARTS, RETRIES, create_job_series
from k2.ops.peer_connections import check_hosts, limit_silence
from k2.ops.settings import Settings, read_settings
from k2.ops.signals import exit_on_signals, report_and_exit
from k2.ops.supervision import find_supervision, report_ending
from k2.restore.connections import TableConnectionSource
from k2.restore.feeds import TableFeedSource
from k2.restore.recovery_store import NO_STORE, Cluster, ResumeInfo, find_cluster, prepare_recovery_store
from k2.restore.tables import TableStateSource
from k2.storage.catalog_lock import share_catalog
from k2.storage.dead_letters.disk import report_disk
from k2.storage.dead_letters.folders import check_dead_letters
from k2.venues import VENUES

__all__ = ["bootstrap", "open_job_io"]

GC_THRESHOLD: Final = 10_000
"""Net new objects before a collection of the youngest generation. A poll of rejected messages makes tens of thousands,
all in use: with Python's default of 700, collections take a tenth of the time of a topic of tombstones."""
_LOG = structlog.get_logger()


def bootstrap() -> tuple[Settings, JobIO]:
    """Prepare the process and open the job I/O.

    From here on, a `K2Error` that reaches the top of the process is logged as one sentence, and the process exits
    with the error's exit code.
    """
    sys.excepthook = _report_uncaught
    set_up_logs()
    exit_on_signals(_log_signal)
    arm(armed_by(os.environ))
    settings, cluster = read_settings(), find_cluster()
    health = Health(on_joined=partial(_limit_silence, cluster, settings.stall_seconds_max))
    resume_info = prepare_recovery_store(settings)
    supervision = find_supervision()
    # A start that failed early is not in the store, and only one process of a cluster has one.
    RESTARTS.set(max(resume_info.executions, 0 if supervision is None else supervision.restarts))
    PROCESSES.set(cluster.size)
    create_job_series()
    share_catalog(settings)
    if settings.metrics_port:
        serve_health(health, settings.stall_seconds_max, settings.metrics_host, settings.metrics_port)
    job_io = open_job_io(settings, resume_info, health)
    check_hosts(cluster.addresses)
    # Nearly all objects that exist now live as long as the process: exclude them from garbage collection.
    gc.freeze()
    gc.enable()
    gc.set_threshold(GC_THRESHOLD)
    return settings, job_io


def open_job_io(settings: Settings, resume_info: ResumeInfo = NO_STORE, health: Health | None = None) -> JobIO:
    """Open the Kafka source and the Iceberg sinks, and check that they belong together.

    Raises:
        K2Error: a part of the job I/O cannot be opened, or does not fit the other parts.
    """
    check_dead_letters(settings)
    open_schema_registry(settings, _count_retry)
    report_disk(settings.dead_letter_folder if settings.dead_letter_address is None else None)
    progress = read_progress(settings)
    on_added = None if find_supervision() is None else _restart_for_partitions
    waits = find_cluster().size == 1
    source = KafkaSource(settings, progress, resume_info.sources, health, on_added, waits=waits)
    symbols, compile_time = Symbols(), CompileTime()

    canary = open_canary(settings)

    def on_commit(progress: Progress) -> None:
        compile_time.log()
        source.commit(progress)
        if canary is not None:
            canary.committed(progress)

    on_open = None if canary is None else canary.writer_opened
    trades = TradesSink(settings, progress, on_commit, _count_retry, symbols, health, source.lag, on_open)
    trades.open()
    report_last_commit(trades.committer.table, settings.canary_exchange)
    trades.check_dead_letter_locks()
    check_topic_ids(trades.remember_topics(source.topic_ids), source.topic_ids)
    source.use_starts(trades.remember_starts(source.decide_starts()))
    events = LedgerSink(settings, progress, _count_retry, trades)
    bind_tables(trades.committer, events.committer, is_resumed=resume_info.is_resumed)
    events.open()
    state_source = TableStateSource(settings, resume_info, symbols)
    is_numbered = any(VENUES[topic.venue].connection is not None for topic in settings.topics)
    connections = TableConnectionSource(settings, trades.committer.table) if is_numbered else None
    feeds = TableFeedSource(settings, trades.committer.table) if settings.feeds else None
    return JobIO(
        kafka=source,
        iceberg=trades,
        events=events,
        state_source=state_source,
        symbols=symbols,
        lag=source.lag,
        connections=connections,
        feeds=feeds,
    )


def _limit_silence(cluster: Cluster, seconds_max: int) -> None:
    if cluster.size > 1:
        limit_silence(cluster.addresses, cluster.process, seconds_max)


def _restart_for_partitions(topic: str, unread: int) -> NoReturn:
    """End this process, for its supervisor to start it again; as after a signal, nothing is lost or doubled."""
    error = PartitionsAddedError(
        f"topic {topic!r} has partitions that are not read: {unread}; the next start reads them"
    )
    report_ending(error)
    report_and_exit(error.exit_code, lambda: None)


def _log_signal(number: signal.Signals) -> None:
    _LOG.info("ended", signal=number.name)


def _count_retry(operation: str) -> None:
    RETRIES.labels(operation).inc()


def _report_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Log a `K2Error`, also one that Bytewax wrapped, and exit with its code; print the traceback of anything else."""
    k2_error = find_k2_error(error)
    if k2_error is None:
        sys.__excepthook__(kind, error, traceback)
        return
    exit_with_error(k2_error)

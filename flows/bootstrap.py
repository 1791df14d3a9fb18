"""What happens in a process before the dataflow runs: settings, logs, pages, and the real ends."""

import gc
import signal
import sys
from types import TracebackType

import structlog

from flows.job_io import JobIO
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_binding import pair
from k2.iceberg.table_progress import read_progress
from k2.kafka.offset_resolution import check_topics
from k2.kafka.source import KafkaSource
from k2.ops.error_boundary import end, error_in
from k2.ops.health import HEALTH, serve_health
from k2.ops.logs import set_up_logs
from k2.ops.metrics import RETRIES
from k2.ops.settings import Settings, read_settings
from k2.ops.signals import end_on_signals
from k2.restore.recovery_store import NO_STORE, Held, hold_store
from k2.restore.tables import TableStateSource
from k2.storage.dead_letters import check_folder

__all__ = ["start"]

_LOG = structlog.get_logger()


def start() -> tuple[Settings, JobIO]:
    """Make the process ready; where something is amiss, end it with one sentence and the documented exit code."""
    sys.excepthook = _say
    set_up_logs()
    end_on_signals(_tell_signal)
    settings = read_settings()
    held = hold_store(settings)
    if settings.metrics_port:
        serve_health(HEALTH, settings.stall_seconds_max, settings.metrics_host, settings.metrics_port)
    ends = _real_ends(settings, held)
    # What is alive now stays alive: the cyclic collector need not look at it again and again.
    gc.freeze()
    return settings, ends


def _real_ends(settings: Settings, held: Held = NO_STORE) -> JobIO:
    check_folder(settings.dead_letter_folder)
    progress = read_progress(settings)
    source = KafkaSource(settings, progress, held.sources)
    trades = TradesSink(settings, progress, source.commit, _count_retry)
    trades.open()
    trades.check_letters()
    check_topics(trades.remember_topics(source.topic_ids), source.topic_ids)
    events = LedgerSink(settings, progress, _count_retry, trades.set_fencing_token)
    pair(trades.committer, events.committer, is_resumed=held.is_resumed)
    events.open()
    history = TableStateSource(settings, held.written)
    return JobIO(kafka=source, iceberg=trades, events=events, history=history)


def _tell_signal(number: signal.Signals) -> None:
    _LOG.info("ended", signal=number.name)


def _count_retry(operation: str) -> None:
    RETRIES.labels(operation).inc()


def _say(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Say an error of ours, or one that Bytewax wrapped, in its sentence, and end with its code."""
    known = error_in(error)
    if known is None:
        sys.__excepthook__(kind, error, traceback)
        return
    end(known)

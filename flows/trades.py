"""The job: trades from Kafka to Iceberg, one statement an arrow.

Run it by ``python -m bytewax.run flows.trades``.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.bootstrap import start
from flows.job_io import JobIO
from k2.ops.settings import Settings
from operators.decode import decode
from operators.deduplicate import deduplicate
from operators.route import to_only_writer, to_writers
from operators.sequence import sequence

__all__ = ["flow", "trades_flow"]


def trades_flow(ends: JobIO, settings: Settings) -> Dataflow:
    """Join the ends; the names of the steps are the keys of the recovery store."""
    dataflow = Dataflow("trades")

    messages = op.input("kafka_in", dataflow, ends.kafka)
    decoded = decode("decode", messages, settings.time_ahead_seconds_max)
    tracked = sequence("sequence", decoded.trades, settings.gap_large_min, settings.dedup_window_seconds, ends.history)
    unique = deduplicate("deduplicate", tracked.trades, settings.dedup_window_seconds, ends.history)

    rows = to_writers("to_writers", unique, decoded.consumed, settings.writers)
    events = to_only_writer("to_ledger", tracked.events)

    op.output("iceberg_out", rows, ends.iceberg)
    op.output("events_out", events, ends.events)
    return dataflow


def flow() -> Dataflow:
    """Build the job with its real ends, as the environment's settings say."""
    settings, ends = start()
    return trades_flow(ends, settings)

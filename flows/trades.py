"""Dataflow of the job: trades from Kafka to Iceberg.

Run it with ``python -m bytewax.run flows.trades``.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.bootstrap import bootstrap
from flows.job_io import JobIO
from k2.ops.settings import Settings
from operators.connections import connections
from operators.decode import decode
from operators.deduplicate import deduplicate
from operators.feeds import feeds
from operators.route import to_only_writer, to_writers
from operators.sequence import sequence

__all__ = ["flow", "trades_flow"]


def trades_flow(job_io: JobIO, settings: Settings) -> Dataflow:
    """Build the dataflow on the given job I/O.

    The step ids are keys of the recovery store: a renamed step loses its state.
    """
    dataflow = Dataflow("trades")
    window_seconds, state_source, symbols = settings.dedup_window_seconds, job_io.state_source, job_io.symbols

    messages = op.input("kafka_in", dataflow, job_io.kafka)
    venues = {topic.venue for topic in settings.topics}
    decoded = decode("decode", messages, settings.time_ahead_seconds_max, symbols, venues, job_io.lag)
    connected = connections("connections", messages, job_io.connections)
    sequenced = sequence("sequence", decoded.trades, settings.gap_large_min, window_seconds, state_source, symbols)
    fed = feeds("feeds", sequenced.trades, job_io.feeds, symbols)
    deduplicated = deduplicate("deduplicate", sequenced.trades, window_seconds, state_source, symbols)

    rows = to_writers("to_writers", deduplicated, decoded.consumed, settings.writers, connected.states, fed.states)
    events = to_only_writer("to_ledger", sequenced.events, connected.events, fed.events)

    op.output("iceberg_out", rows, job_io.iceberg)
    op.output("events_out", events, job_io.events)
    return dataflow


def flow() -> Dataflow:
    """Build the dataflow on Kafka and Iceberg, as configured by the environment."""
    settings, job_io = bootstrap()
    return trades_flow(job_io, settings)

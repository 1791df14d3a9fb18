"""Dataflow of the job."""

from k2.ops.signals import exit_on_signals, is_job

# Before the imports of the dataflow, which take seconds.
if is_job():
    exit_on_signals()

"""The dataflow, one statement an arrow."""

from k2.ops.signals import end_on_signals, is_job

# Before the imports of the dataflow, which take their second or two.
if is_job():
    end_on_signals()

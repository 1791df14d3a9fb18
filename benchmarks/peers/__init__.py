"""The job and other engines on one topic: what each takes to land the same trades in Iceberg."""

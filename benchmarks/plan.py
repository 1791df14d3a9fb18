"""What a cluster takes for a rate of messages: `python -m benchmarks.plan --rate 1e6 --value-bytes 200`.

A model from measured costs (`MEASURED`), each with the command that measures it. What it says of one worker is
measured; that several workers and processes add up as it says is extrapolated. docs/performance.md explains it.
"""

import argparse
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from k2.iceberg.column_buffer import FLUSH_ROWS
from k2.model.key_groups import GROUPS

__all__ = ["MEASURED", "Measured", "Plan", "plan", "report"]

DAY_SECONDS: Final = 86_400
UTILIZATION: Final = 0.6
"""Share of a core that is planned for: the rest catches up after a pause, and takes bursts."""
CLOSING_SHARE_MAX: Final = 0.2
"""Share of an epoch that its end may take: meanwhile a writer takes no rows."""
STORE_MS: Final = 30.0
"""Assumed, not measured: the time of a request to the object store."""
STORE_REQUESTS: Final = 5
"""Of a try of a commit, one after the other: manifest, manifest list, metadata, and what they are read from."""
CATALOG_MS: Final = 5.0
"""Assumed: the transaction in the SQL catalog that replaces the metadata."""
STANDARD_BYTES: Final = 200
"""Size of the values of which `kafka_message_bytes` was measured; longer ones are taken to be compressed as well."""


class Measured(NamedTuple):
    """Measured costs; CPU in microseconds of one core of the machine of docs/performance.md."""

    message_us: float
    """CPU of a message of 10,000 symbols, its value not counted (`python -m benchmarks.scaling --rows symbols`)."""
    value_kilobyte_us: float
    """CPU of reading and decoding each thousand bytes of a value (`--rows values`)."""
    crossing_us: float
    """CPU of a row that another process tracks or writes than the one that has it (`--rows crossing`)."""
    crossing_bytes: float
    """Bytes of such a row beyond those of its value, likewise."""
    group_share: float
    """Share of a message's CPU in the steps of its key group: tracking, deduplication and its writer (a profile)."""
    commit_cpu_ms: float
    """CPU of a commit to a table of a thousand commits (`--rows commits`)."""
    kafka_message_bytes: float
    """Bytes of a message in Kafka's log, and on the network (200-byte values, lz4)."""
    row_bytes: float
    """Bytes of a row in the data files."""
    number_bytes: float
    """Memory of a sequence number in the window (`python -m benchmarks.fingerprints --numbers 100000000`)."""
    process_mb: float
    """Peak memory of a process with one worker that catches up (`--rows symbols`)."""
    commit_objects: float
    """Objects that a commit writes besides data files: metadata, manifest list, manifest, checkpoint."""
    commit_kb: float
    """Thousands of bytes of a commit that stay until orphan files are removed: manifest list and manifest."""


MEASURED: Final = Measured(
    message_us=2.0,
    value_kilobyte_us=1.1,
    crossing_us=0.76,
    crossing_bytes=160,
    group_share=0.65,
    commit_cpu_ms=25,
    kafka_message_bytes=56,
    row_bytes=15,
    number_bytes=7.1,
    process_mb=520,
    commit_objects=4,
    commit_kb=11.3,
)


class Plan(NamedTuple):
    """What a cluster takes; of all jobs together, unless it says otherwise."""

    jobs: int
    """Jobs with tables of their own (`K2_TOPICS` and `K2_NAMESPACE`). A cluster has at most 16 key groups."""
    cores_busy: float
    pods: int
    """Processes with one worker and one core each, with room to catch up."""
    partitions: int
    """Of the topics: four for each worker, so that they are evenly shared."""
    writers: int
    """`K2_WRITERS` of each job."""
    epoch_seconds: float
    closing_ms: float
    """Until all writers of a job have committed, if they end an epoch at once."""
    window_gb: float
    """Memory of the numbers of two deduplication windows, over all pods."""
    pod_gb: float
    """Memory of a pod."""
    commits_an_hour: float
    catalog_transactions_a_second: float
    """Tries of commits, those that met another included."""
    kafka_mb_a_second: float
    """Read from Kafka."""
    pods_mb_a_second: float
    """Between the pods."""
    objects_a_day: float
    """Written to the object store; a request each."""
    stored_gb_a_day: float
    metadata_gb_a_day: float
    """Until orphan files are removed."""


def plan(
    rate: float,
    value_bytes: int = 200,
    epoch_seconds: float = 10,
    window_seconds: float = 600,
    exchanges: int = 4,
    *,
    is_split: bool = False,
) -> Plan:
    """Plan for `rate` messages a second, of which each has one trade with a sequence number.

    `is_split`: the topics can be divided among jobs that are small enough for one worker each; otherwise as few jobs as
    possible are clusters. A data file has the rows of one day and exchange, so `exchanges` is the number of files of a
    commit, at least.
    """
    cost = MEASURED
    message_us = cost.message_us + cost.value_kilobyte_us * value_bytes / 1000
    group_us = message_us * cost.group_share
    is_cluster = not is_split and rate * message_us / 1e6 > UTILIZATION
    if is_cluster:
        # Nearly every message is tracked by another process than reads it, and written by a third.
        message_us += 2 * cost.crossing_us
        group_us += cost.crossing_us
        jobs = max(1, math.ceil(rate * group_us / 1e6 / (GROUPS * UTILIZATION)))
    else:
        jobs = max(1, math.ceil(rate * message_us / 1e6 / UTILIZATION))
    cores_busy = rate * message_us / 1e6
    workers = jobs * math.ceil(cores_busy / jobs / UTILIZATION)
    writers = min(GROUPS, _power_of_two(rate / jobs * group_us / 1e6 / UTILIZATION))
    # Writers that end an epoch together: one commit is taken at a time, and the others try again.
    closing_ms = writers * (cost.commit_cpu_ms + CATALOG_MS + STORE_REQUESTS * STORE_MS)
    epoch_seconds = max(epoch_seconds, closing_ms / 1000 / CLOSING_SHARE_MAX)
    commits_a_second = jobs * writers / epoch_seconds
    window_gb = 2 * window_seconds * rate * cost.number_bytes / 1e9
    files_a_second = max(commits_a_second * exchanges, rate / FLUSH_ROWS)
    return Plan(
        jobs=jobs,
        cores_busy=cores_busy,
        pods=workers,
        partitions=4 * workers,
        writers=writers,
        epoch_seconds=epoch_seconds,
        closing_ms=closing_ms,
        window_gb=window_gb,
        pod_gb=cost.process_mb / 1e3 + window_gb / workers,
        commits_an_hour=3600 * commits_a_second,
        # Of writers that end an epoch together, the last one has met all others in the worst case, half on average.
        catalog_transactions_a_second=commits_a_second * (1 + (writers - 1) / 2),
        kafka_mb_a_second=rate * cost.kafka_message_bytes * value_bytes / STANDARD_BYTES / 1e6,
        pods_mb_a_second=2 * is_cluster * rate * (value_bytes + cost.crossing_bytes) / 1e6,
        objects_a_day=DAY_SECONDS * (commits_a_second * cost.commit_objects + files_a_second),
        stored_gb_a_day=DAY_SECONDS * rate * cost.row_bytes / 1e9,
        metadata_gb_a_day=DAY_SECONDS * commits_a_second * cost.commit_kb / 1e6,
    )


def _power_of_two(share: float) -> int:
    """Return the smallest power of two that is not less, which divides the key groups evenly."""
    return 1 << max(0, math.ceil(math.log2(share))) if share > 0 else 1


_ROWS: Final = (
    ("Jobs, each with its own tables", "jobs", "{:,.0f}"),
    ("Cores busy", "cores_busy", "{:,.1f}"),
    ("Pods of one worker and one core", "pods", "{:,.0f}"),
    ("Partitions of the topics", "partitions", "{:,.0f}"),
    ("`K2_WRITERS` of each job", "writers", "{:,.0f}"),
    ("Epoch, s", "epoch_seconds", "{:,.0f}"),
    ("End of an epoch, ms", "closing_ms", "{:,.0f}"),
    ("Memory of two windows, GB", "window_gb", "{:,.1f}"),
    ("Memory of a pod, GB", "pod_gb", "{:,.1f}"),
    ("Commits an hour", "commits_an_hour", "{:,.0f}"),
    ("Catalog transactions a second", "catalog_transactions_a_second", "{:,.1f}"),
    ("Read from Kafka, MB/s", "kafka_mb_a_second", "{:,.0f}"),
    ("Between pods, MB/s", "pods_mb_a_second", "{:,.0f}"),
    ("Objects written a day", "objects_a_day", "{:,.0f}"),
    ("Rows, GB a day", "stored_gb_a_day", "{:,.0f}"),
    ("Metadata, GB a day", "metadata_gb_a_day", "{:,.1f}"),
)


def report(rates: Sequence[float], value_bytes: int, epoch_seconds: float, window_seconds: float) -> str:
    """Return a table in Markdown: two columns for each rate, of clusters and of jobs of one worker."""
    kinds = [(rate, is_split) for rate in rates for is_split in (False, True)]
    plans = [plan(rate, value_bytes, epoch_seconds, window_seconds, is_split=is_split) for rate, is_split in kinds]
    heads = [f"{rate:,.0f}, {'split' if is_split else 'cluster'}" for rate, is_split in kinds]
    lines = ["| Messages a second | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(plans)]
    lines += [
        f"| {label} | " + " | ".join(form.format(getattr(one, field)) for one in plans) + " |"
        for label, field, form in _ROWS
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the plan of each rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, nargs="*", default=[1e6, 1e7], help="messages a second")
    parser.add_argument("--value-bytes", type=int, default=200)
    parser.add_argument("--epoch-seconds", type=float, default=10)
    parser.add_argument("--window-seconds", type=float, default=600, help="K2_DEDUP_WINDOW_SECONDS")
    chosen = parser.parse_args()
    print(report(chosen.rate, chosen.value_bytes, chosen.epoch_seconds, chosen.window_seconds))


if __name__ == "__main__":
    main()

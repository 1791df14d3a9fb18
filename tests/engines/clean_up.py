"""Spark reads the job's tables, and tends them as it does by default: `python -m tests.engines.clean_up`.

The tables have checkpoints in their metadata folder, compacted files and expired snapshots, in Apache's REST catalog.
After Spark's `rewrite_data_files`, `expire_snapshots` and `remove_orphan_files` the job is started again, without a
recovery store. Prints a line for each step, and fails if a row is lost or the job does not go on. Needs Java with its
compiler, Maven and 2 GB.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from k2.iceberg.tables import TableName
from k2.maintenance.compaction import compact
from k2.maintenance.expiry import expire
from k2.query.audit import audit
from tests.brokers import own_broker
from tests.catalogs.fixtures import variables_of
from tests.catalogs.servers import Server, running_rest
from tests.engines.spark import Spark
from tests.flows.job import Job
from tests.flows.market import assert_reconciled, publish, trade
from tests.query.tables import missing_now

RUNS: Final = 6
RUNS_A_DAY: Final = 3
"""Runs whose trades are of one venue day, so that there are files to join."""
FIRST_US: Final = 1_728_000_000_000_000
TRADES: Final = 100
"""Of each symbol and run; one of them is left out."""
SYMBOLS: Final = 4
AGE_SECONDS: Final = 4 * 86_400.0
"""Age that the files are given: beyond the three days of `remove_orphan_files`."""
DAY_US: Final = 86_400_000_000
EVENT: Final = re.compile(r'"event": "(checkpoint\w*|failed|ended|ledger_\w+)"')
MISSING_NUMBER: Final = 50


def run_job(job: Job, number: int) -> str:
    """Publish trades, with a number left out; run the job to their end, and return its output."""
    numbers = [one for one in range(number * TRADES + 1, (number + 1) * TRADES + 1) if one % TRADES != MISSING_NUMBER]
    first_us = FIRST_US + number // RUNS_A_DAY * DAY_US
    messages = [trade(one, f"S{symbol}", first_us + one) for one in numbers for symbol in range(SYMBOLS)]
    publish(job.bootstrap_servers, job.topics, messages)
    return job.run(recovery=False)


def check(job: Job, runs: int) -> int:
    """Check that all runs are stored, with one gap for each run and symbol; return the number of rows."""
    assert_reconciled(job)
    assert audit(job.settings).adds_up
    assert len(missing_now(job.settings)) == runs * SYMBOLS
    rows = job.table().num_rows
    assert rows == runs * (TRADES - 1) * SYMBOLS
    return rows


def tend(job: Job) -> None:
    """Compact all tables, and expire all snapshots that may be."""
    tomorrow_ms = int((time.time() + 86_400) * 1000)
    for which in TableName:
        [*compact(job.settings, which)]
        expire(job.settings, which, timedelta(hours=1), now_ms=tomorrow_ms)


def age(catalog: Server) -> None:
    """Make all files of the warehouse four days old."""
    then = time.time() - AGE_SECONDS
    for file in catalog.warehouse.rglob("*.*"):
        os.utime(file, (then, then))


def read(spark: Spark, job: Job) -> dict[str, Any]:
    """Compare what Spark reads with what is stored."""
    trades = f"k2.{job.settings.namespace}.trades"
    (found,) = spark.sql(f"SELECT count(*) AS rows, sum(price) AS price, max(sequence) AS last FROM {trades}")
    rows = job.table()
    # Spark's vectorized reader does not know the encoding of this column.
    assert spark.sql(f"SELECT max(trade_id) AS id FROM {trades}") == [{"id": pc.max(rows["trade_id"]).as_py()}]
    assert (found["rows"], found["last"]) == (rows.num_rows, pc.max(rows["sequence"]).as_py())
    (ledger,) = spark.sql(f"SELECT count(*) AS events FROM k2.{job.settings.namespace}.sequence_events")
    assert ledger["events"] == job.table("sequence_events").num_rows
    (files,) = spark.sql(f"SELECT count(*) AS files FROM {trades}.files")
    (snapshots,) = spark.sql(f"SELECT count(*) AS snapshots FROM {trades}.snapshots")
    return {**found, **ledger, **files, **snapshots}


def clean_up(spark: Spark, job: Job, catalog: Server) -> dict[str, Any]:
    """Rewrite data files, expire snapshots and remove orphan files by Spark; return what it did."""
    found: dict[str, Any] = {}
    for which in TableName:
        name = f"{job.settings.namespace}.{which}"
        (rewritten,) = spark.sql(
            f"CALL k2.system.rewrite_data_files(table => '{name}', options => map('rewrite-all', 'true'))"
        )
        (by_default,) = spark.sql(f"CALL k2.system.expire_snapshots(table => '{name}')")
        (expired,) = spark.sql(
            f"CALL k2.system.expire_snapshots(table => '{name}', older_than => now(), retain_last => 1)"
        )
        age(catalog)
        removed = spark.sql(f"CALL k2.system.remove_orphan_files(table => '{name}')")
        kinds = Counter(_kind(row["orphan_file_location"]) for row in removed)
        steps = {"rewritten": rewritten, "expired by default": by_default, "expired": expired}
        found[which.value] = {**steps, "orphan files": dict(kinds)}
    return found


def _kind(location: str) -> str:
    name = location.rpartition("/")[2]
    return "checkpoints" if name.startswith("checkpoints-") else name.rpartition(".")[2]


def main() -> int:
    """Run all steps."""
    with own_broker() as broker, running_rest() as catalog, tempfile.TemporaryDirectory(prefix="k2-spark-") as name:
        folder = Path(name)
        os.environ.update(variables_of("rest", catalog.port, catalog.warehouse))
        job = Job(broker.bootstrap_servers, folder, broker.topic(2), {"K2_NAMESPACE": "spark"})
        for number in range(RUNS):
            run_job(job, number)
        tend(job)
        run_job(job, RUNS)
        _write("rows before", check(job, RUNS + 1))
        spark = Spark(catalog, folder)
        try:
            _write("read by Spark", read(spark, job))
            _write("cleaned up by Spark", clean_up(spark, job, catalog))
            _write("read by Spark", read(spark, job))
            said = run_job(job, RUNS + 1)
            _write("events of the next start", dict(Counter(EVENT.findall(said))))
            _write("rows after", check(job, RUNS + 2))
            said = run_job(job, RUNS + 2)
            _write("events of the start after it", dict(Counter(EVENT.findall(said))))
            _write("rows after", check(job, RUNS + 3))
            _write("read by Spark", read(spark, job))
        finally:
            spark.close()
    return 0


def _write(what: str, found: object) -> None:
    sys.stdout.write(f"{what}: {json.dumps(found)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

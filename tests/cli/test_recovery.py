"""`k2 recovery` with the job as its users run it: inspect, back up under load, restore, never run twice."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.cli.recovery import Verdict, verdict
from k2.kafka.producer import TradeProducer
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.child_process import free_port
from k2.query.gaps import gaps
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from k2.storage.recovery.store import Store, read_store
from tests.brokers import Broker
from tests.flows.job import Job

SECONDS_MAX = 120
WHERE = TopicPartition("trades", 0)


def k2(*arguments: object, **environment: str) -> Result:
    """Run `k2 recovery`."""
    return CliRunner().invoke(app, ["recovery", *map(str, arguments)], env={"COLUMNS": "200", **environment})


def k2_json(*arguments: object, **environment: str) -> Any:
    """Run it with --json and return what it printed."""
    result = k2(*arguments, "--json", **environment)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def publish(job: Job, first: int, last: int) -> None:
    """Publish trades with these numbers of six symbols, each 50th number of them twice."""
    with TradeProducer(job.settings, job.topics) as producer:
        for number in range(first, last):
            for symbol in "ABCDEF":
                trade = {"exchange": "x", "symbol": symbol, "sequence": number, "price": "1.5", "quantity": "2"}
                value = json.dumps({**trade, "timestamp": 1_700_000_000_000_000 + number}).encode()
                for _ in range(1 + (number % 50 == 0)):
                    producer.send(f"x|{symbol}".encode(), value)


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait while the job runs."""
    deadline = time.monotonic() + SECONDS_MAX
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.25)


@contextmanager
def running(job: Job, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the job until the block ends, then kill it."""
    live = replace(job, environment={**job.environment, "K2_RUN_TO_END": "false"})
    # made before the job and its observer may both do so
    open_catalog(job.settings)
    process = live.start(**options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS_MAX)


def assert_all_stored(job: Job, numbers: int) -> None:
    """Check that each number of each symbol is stored once, none is missing, and every equation holds."""
    rows = job.table().select(["symbol", "sequence"]).to_pylist()
    assert len(rows) == len({(row["symbol"], row["sequence"]) for row in rows}) == 6 * numbers
    assert gaps(job.settings) == []
    sums = reconcile(job.settings)
    assert all(row.holds for row in sums)
    assert sum(row.duplicates for row in sums) == 6 * len(range(50, numbers + 1, 50))


def test_init_creates_a_store_and_overwrites_none(tmp_path: Path) -> None:
    """The second time: exit code 2 and one sentence."""
    folder = tmp_path / "deep" / "recovery"
    assert k2_json("init", folder, "--partitions", 3) == {"store": str(folder), "partitions": 3}
    again = k2("init", folder)
    assert again.exit_code == 2
    assert again.stdout == ""
    assert again.stderr == f"k2: {folder} already holds a recovery store; use another folder\n"
    assert k2("init", tmp_path / "zero", "--partitions", 0).exit_code == 2


def test_status_of_an_empty_store(tmp_path: Path) -> None:
    """A table for people, one document for programs, and no catalog is created."""
    folder = tmp_path / "recovery"
    k2("init", folder)
    data = str(tmp_path / "data")
    assert k2_json("status", folder, K2_DATA_DIR=data) == {
        "store": str(folder),
        "flow": None,
        "partitions": 4,
        "partitions_expected": 4,
        "execution": None,
        "workers": None,
        "resume_epoch": 1,
        "bytes": 131_072,
        "in_use": False,
        "problem": None,
        "without_store": "reads the topics from their beginning",
        "topics": [],
    }
    assert "resume epoch         1" in k2("status", folder, K2_DATA_DIR=data).stdout
    assert not (tmp_path / "data").exists()


def test_status_reports_a_missing_table(tmp_path: Path) -> None:
    """A note on stderr, because there is none before the first run; stdout is only about the store."""
    folder = tmp_path / "recovery"
    k2("init", folder)
    found = k2("status", folder, "--json", K2_DATA_DIR=str(tmp_path / "data"))
    assert found.exit_code == 0
    assert f"K2_DATA_DIR={tmp_path / 'data'}: there is no catalog in it" in found.stderr
    assert json.loads(found.stdout)["topics"] == []


@pytest.mark.parametrize("arguments", [["init", ""], ["status", ""], ["backup", "a", ""], ["restore", "", "a"]])
def test_an_empty_name_is_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """As from an unset shell variable: exit code 2, and nothing is created there."""
    monkeypatch.chdir(tmp_path)
    result = k2(*arguments)
    assert result.exit_code == 2
    assert "is empty" in result.stderr
    assert not any(tmp_path.iterdir())


def test_an_invalid_backup_is_named(tmp_path: Path) -> None:
    """Exit code 2, and the command that makes one."""
    result = k2("restore", tmp_path / "absent", tmp_path / "recovery")
    assert result.exit_code == 2
    assert result.stderr == (
        f"k2: {tmp_path / 'absent'} holds no backup of a recovery store; `k2 recovery backup` makes one\n"
    )


def test_a_name_that_is_not_text_is_valid_in_json(tmp_path: Path) -> None:
    """Folder names may contain any bytes."""
    found = k2_json("init", f"{tmp_path}/\udcff")
    assert found["store"] == f"{tmp_path}/\N{REPLACEMENT CHARACTER}"


def test_status_names_what_is_wrong(tmp_path: Path) -> None:
    """Exit code 2 for a folder that is not a store, 1 for a store that the job would reject."""
    assert k2("status", tmp_path).exit_code == 2
    folder = tmp_path / "recovery"
    k2("init", folder)
    (folder / "part-3.sqlite3").unlink()
    found = k2("status", folder, "--json", K2_DATA_DIR=str(tmp_path / "data"))
    assert found.exit_code == 1
    assert json.loads(found.stdout)["problem"].startswith(f"{folder} lacks partition 3 of 4")
    assert k2("backup", folder, tmp_path / "backup").exit_code == 1
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    ("offset", "written", "table", "expected"),
    [
        (10, None, [10], Verdict.EQUAL),
        (9, 9, [10], Verdict.OLDER),
        (10, 10, [10, 12], Verdict.EQUAL),
        (11, None, [10], Verdict.AHEAD),
        (10, 11, [10], Verdict.AHEAD),
        (10, 10, [], Verdict.AHEAD),
        (0, None, [], Verdict.UNREAD),
        (None, None, [10], Verdict.UNKNOWN),
    ],
)
def test_verdicts_of_store_and_table(
    offset: int | None, written: int | None, table: list[int], expected: Verdict
) -> None:
    """The state of the store compared with the table: by the offset to read, and by the writers' progress."""
    store = Store(
        folder=Path(),
        bytes=0,
        partitions=1,
        partitions_expected=1,
        missing=(),
        flow="trades",
        execution=0,
        workers=1,
        resume_epoch=2,
        offsets={} if offset is None else {WHERE: offset},
        written={} if written is None else {"0": {WHERE: written}},
        sources=frozenset(),
        problem=None,
    )
    progress = Progress({str(writer): {WHERE: PartitionProgress(there)} for writer, there in enumerate(table)})
    assert verdict(store, progress, WHERE) is expected


def test_a_backup_taken_while_the_job_runs_resumes_correctly(broker: Broker, tmp_path: Path) -> None:
    """Backups between commits; one replaces a newer store, and the table is that of an undisturbed run."""
    topic = broker.topic(partitions=2)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    publisher = threading.Thread(target=publish, args=(job, 1, 2_001))
    publisher.start()
    backups: list[dict[str, Any]] = []
    with running(job, workers=2) as process:
        for number in range(3):
            before = job.committed()
            wait_until(lambda before=before: job.committed() > before or before > 11_000, process)  # type: ignore[misc]
            backups.append(k2_json("backup", job.recovery, tmp_path / f"backup-{number}"))
            assert k2_json("status", job.recovery, **job.variables)["in_use"]
        publisher.join()
        publish(job, 2_001, 3_001)
        # The numbers, each 50th of them twice: then every partition has more than the backups do.
        wait_until(lambda: job.committed() == 6 * (3_000 + 60), process)
    refused = k2("restore", tmp_path / "backup-1", job.recovery)
    assert refused.exit_code == 2
    assert "--replace" in refused.stderr
    restored = k2_json("restore", tmp_path / "backup-1", job.recovery, "--replace")
    assert restored["offsets"] == backups[1]["offsets"]
    assert read_store(Path(restored["replaced"])).resume_epoch > restored["resume_epoch"]
    shown = k2_json("status", job.recovery, **job.variables)
    assert {row["verdict"] for row in shown["topics"]} == {Verdict.OLDER}
    said = job.run(workers=3)
    assert '"origin": "recovery store"' in said
    assert_all_stored(job, 3_000)
    after = k2_json("status", job.recovery, **job.variables)
    assert [(row["topic"], row["verdict"]) for row in after["topics"]] == [(topic, Verdict.EQUAL)] * 2
    assert "will be replayed" not in k2("status", job.recovery, **job.variables).stdout


def test_a_second_execution_is_rejected(broker: Broker, tmp_path: Path) -> None:
    """Exit code 1 and one sentence, before a port or table is used; the first continues, and `status` still works."""
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    publish(job, 1, 101)
    with running(job) as process:
        wait_until(lambda: job.committed() > 0, process)
        elsewhere = replace(job, environment={"K2_DATA_DIR": str(tmp_path / "elsewhere")})
        code, said = elsewhere.outcome()
        assert code == 1, said
        assert f"another execution (process {process.pid}) runs on the recovery store {job.recovery}" in said
        assert "Traceback" not in said
        assert not (tmp_path / "elsewhere").exists()
        k2("backup", job.recovery, tmp_path / "backup")
        refused = k2("restore", tmp_path / "backup", job.recovery, "--replace")
        assert refused.exit_code == 1
        assert "another execution" in refused.stderr
        assert process.poll() is None
    job.run()
    assert_all_stored(job, 100)


def test_processes_of_one_cluster_share_a_folder(broker: Broker, tmp_path: Path) -> None:
    """Both get the same folder, here from the environment; a second cluster on it is still rejected."""
    topic = broker.topic(partitions=2)
    single = Job(broker.bootstrap_servers, tmp_path, topic)
    environment = {
        "BYTEWAX_RECOVERY_DIRECTORY": str(single.recovery),
        "BYTEWAX_SNAPSHOT_INTERVAL": "1",
        "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "0",
    }
    job = replace(single, environment=environment)
    publish(job, 1, 201)
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    with (
        running(job, recovery=False, process=1, addresses=addresses),
        running(job, recovery=False, process=0, addresses=addresses) as first,
    ):
        wait_until(lambda: job.committed() > 0, first)
        others = ";".join(f"127.0.0.1:{free_port()}" for _ in range(2))
        for process in (0, 1):
            code, said = job.outcome(recovery=False, process=process, addresses=others)
            assert code == 1, said
            assert "another execution" in said
        assert first.poll() is None
    single.run()
    assert_all_stored(single, 200)


def test_a_folder_without_a_store_is_rejected(broker: Broker, tmp_path: Path) -> None:
    """An empty or missing folder: exit code 2, with the command that creates a store."""
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    (tmp_path / "recovery").mkdir()
    code, said = job.outcome()
    assert code == 2, said
    assert f"k2 recovery init {job.recovery}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "data").exists()


def test_an_incomplete_store_is_rejected(broker: Broker, tmp_path: Path) -> None:
    """A missing partition: exit code 1, named, instead of Bytewax's traceback."""
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    (job.recovery / "part-1.sqlite3").unlink()
    code, said = job.outcome()
    assert code == 1, said
    assert f"{job.recovery} lacks partition 1 of 2" in said
    assert "Traceback" not in said


def test_a_lost_store_is_reported(broker: Broker, tmp_path: Path) -> None:
    """Created again or omitted while the table has progress: a warning, and nothing is doubled."""
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    publish(job, 1, 101)
    assert "the table has progress" not in job.run()
    assert "recovery_store_absent" in job.run(recovery=False)
    shutil.rmtree(job.recovery)
    k2("init", job.recovery, "--partitions", 1)
    assert "recovery_store_empty" in job.run()
    assert_all_stored(job, 100)

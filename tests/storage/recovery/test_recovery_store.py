"""The recovery store as Bytewax writes it: read, rejected, copied while it is written, and locked."""

import fcntl
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from k2.model.errors import SettingsError, StateError
from k2.storage.files import lock_file
from k2.storage.recovery.backup import back_up, delete_unfinished_epoch, make_store, restore
from k2.storage.recovery.lock import exclusive_lock, is_locked, lock_store
from k2.storage.recovery.snapshots import offset_in
from k2.storage.recovery.store import Store, check_store, partition_files, pin_store, read_store
from tests.storage.recovery.small_flow import abort_at, expected, run

END = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a store of three partitions that no flow has used."""
    make_store(tmp_path / "store", 3)
    return tmp_path / "store"


def execute(file: Path, statement: str, *values: object) -> None:
    """Run a statement on a partition, outside the store's code."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(statement, values)


def offsets(store: Store) -> dict[str, int]:
    """Return the offsets by partition name."""
    return {str(where): offset for where, offset in store.offsets.items()}


def refusal(folder: Path) -> str:
    """Return the message with which a store is rejected."""
    with pytest.raises(StateError) as refused:
        check_store(read_store(folder))
    return str(refused.value)


def test_a_new_store_is_valid(folder: Path) -> None:
    """It is complete and belongs to no flow."""
    store = read_store(folder)
    check_store(store)
    assert (store.partitions, store.partitions_expected, store.missing) == (3, 3, ())
    assert (store.flow, store.execution, store.workers, store.resume_epoch) == (None, None, None, 1)
    assert offsets(store) == {}
    assert store.bytes == sum(file.stat().st_size for file in partition_files(folder))


@pytest.mark.parametrize("workers", [(1,), (3,), (1, 3, 2), (2, 1, 3, 1)])
def test_offsets_are_those_that_bytewax_resumes_from(folder: Path, workers: Sequence[int]) -> None:
    """After every rescale, and after a single worker crashed, the store reports what the next execution reads first."""
    for execution, count in enumerate(workers):
        begun: list[int] = []

        def hook(offset: int, begun: list[int] = begun, crash: int = execution * 4 + 3, count: int = count) -> None:
            begun.append(offset)
            if count == 1:
                abort_at(crash)(offset)

        reported = offsets(read_store(folder)).get("trades:0", 0)
        run(folder, execution * 4 + 4, count, hook)
        assert begun[0] == reported
        store = read_store(folder)
        check_store(store)
        assert (store.flow, store.execution, store.workers) == ("trades", execution, count)
        assert reported < offsets(store)["trades:0"] <= begun[-1] + 1
    assert run(folder, 20) == expected(20)
    assert offsets(read_store(folder)) == {"trades:0": 20, "trades:1": 20, "trades:2": 20}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_backups_under_load_are_consistent(folder: Path, tmp_path: Path, workers: int) -> None:
    """Copies made by another process while epochs close, as by `k2`: every key's count equals that of a single run."""
    code = f"""
from pathlib import Path
from k2.storage.recovery.backup import back_up
for number in range(4):
    back_up(Path({str(folder)!r}), Path({str(tmp_path)!r}) / f"copy-{{number}}")
"""
    run(folder, 4)
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3]) as other:
        for end in range(12, 1_000, 8):
            run(folder, end, workers)
            if other.poll() is not None:
                break
        assert other.returncode == 0
    copies = sorted(tmp_path.glob("copy-*"))
    assert len(copies) == 4
    for copy in copies:
        saved, restored = read_store(copy), tmp_path / f"restored-{copy.name}"
        store, replaced = restore(copy, restored)
        assert (store.offsets, store.resume_epoch, replaced) == (saved.offsets, saved.resume_epoch, None)
        assert run(restored, end + 4, 4 - workers) == expected(end + 4)


class EventfulFiles(list[Path]):
    """Partitions; something happens after the first one in one of the passes over them."""

    passes = 0

    def __init__(self, files: Sequence[Path], event: Callable[[], None], at_pass: int) -> None:
        super().__init__(files)
        self._event, self._at_pass = event, at_pass

    def __iter__(self) -> Iterator[Path]:
        self.passes += 1
        for number, file in enumerate(super().__iter__()):
            if number == 1 and self.passes == self._at_pass:
                self._event()
            yield file


def front_of(file: Path) -> int | None:
    """Return the epoch that a partition says the only worker has reached; None if another one says so."""
    with closing(sqlite3.connect(file)) as connection:
        row = connection.execute("SELECT worker_frontier FROM fronts").fetchone()
    return None if row is None else int(row[0])


@pytest.mark.parametrize("at_pass", [2, 3, 4, 5, 6])
def test_an_epoch_that_closes_between_two_partitions_is_not_resumed_after(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_pass: int
) -> None:
    """The first partition may be read before the snapshots of an epoch, and another say that the epoch has closed."""
    run(folder, END)
    first, *others = partition_files(folder)
    (marked,) = [file for file in others if front_of(file) is not None]
    before = read_store(folder).resume_epoch

    def close_an_epoch() -> None:
        execute(first, "INSERT INTO snaps VALUES ('', 'trades.count', 'new', ?, NULL)", before)
        execute(marked, "UPDATE fronts SET worker_frontier = ?", before + 1)

    files = EventfulFiles([first, *others], close_an_epoch, at_pass)
    monkeypatch.setattr("k2.storage.recovery.store.partition_files", lambda _: files)
    with pin_store(folder) as pinned:
        seen = pinned.connections[0].execute("SELECT count(*) FROM snaps WHERE state_key = 'new'").fetchone()[0]
    assert pinned.store.resume_epoch in {before, before + seen}


def test_state_of_an_unfinished_epoch_is_never_restored(folder: Path) -> None:
    """If an epoch is replayed with fewer items, its first state must not be resumed two executions later."""
    run(folder, END, hook=abort_at(6))
    store = read_store(folder)
    for file in partition_files(folder):
        execute(
            file,
            "INSERT OR REPLACE INTO snaps (step_id, state_key, snap_epoch, ser_change) "
            "SELECT step_id, state_key, ?, ? FROM snaps WHERE step_id LIKE 'trades.count.%'",
            store.resume_epoch,
            pickle.dumps(1_000_000),
        )
    assert read_store(folder).offsets == store.offsets
    assert delete_unfinished_epoch(store) > 0
    assert delete_unfinished_epoch(store) == 0
    assert read_store(folder).offsets == store.offsets
    run(folder, END, hook=abort_at(8))
    assert run(folder, END) == expected(END)


def test_a_folder_without_a_store_is_rejected(tmp_path: Path) -> None:
    """An empty folder, a missing one, and a file are rejected with the command that creates a store."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(SettingsError, match=f"{path} .*k2 recovery init {path}"):
            read_store(path)


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at" * 40])
def test_a_damaged_partition_is_named(folder: Path, content: bytes) -> None:
    """A partition that SQLite cannot read, or that has none of the tables."""
    file = folder / "part-1.sqlite3"
    file.write_bytes(content)
    with pytest.raises(StateError, match=r"part-1\.sqlite3 is not a partition .*restore a backup"):
        read_store(folder)


def test_a_locked_partition_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has locked a partition exclusively."""
    monkeypatch.setattr("k2.storage.recovery.store.STORE_LOCKED_SECONDS_MAX", 0.05)
    with closing(sqlite3.connect(folder / "part-2.sqlite3", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError, match=r"part-2\.sqlite3 is locked by another process"):
            read_store(folder)


def test_missing_partitions_are_named(folder: Path) -> None:
    """By number, with the command that helps."""
    run(folder, 5)
    (folder / "part-0.sqlite3").unlink()
    (folder / "part-2.sqlite3").unlink()
    store = read_store(folder)
    assert (store.partitions, store.partitions_expected, store.missing) == (1, 3, (0, 2))
    assert "lacks partition 0, 2 of 3" in refusal(folder)
    assert f"k2 recovery restore BACKUP {folder} --replace" in refusal(folder)


def test_another_flows_store_is_rejected(folder: Path) -> None:
    """Its step ids start with another name."""
    run(folder, 5, name="orders")
    assert "of flow 'orders', not of 'trades'" in refusal(folder)
    assert "k2 recovery init" in refusal(folder)


def test_partitions_of_two_stores_are_rejected(folder: Path, tmp_path: Path) -> None:
    """A partition of a store of another size, or the same one twice."""
    make_store(tmp_path / "other", 5)
    shutil.copy(tmp_path / "other" / "part-4.sqlite3", folder)
    assert "several recovery stores" in refusal(folder)
    (folder / "part-4.sqlite3").unlink()
    shutil.copy(folder / "part-1.sqlite3", folder / "part-1 (copy).sqlite3")
    assert "several recovery stores" in refusal(folder)


@pytest.mark.parametrize("partition", [0, 1, 2])
def test_a_copy_without_its_log_is_rejected(folder: Path, tmp_path: Path, partition: int) -> None:
    """One partition copied without its `-wal` while the job runs is detected by comparison with the others."""
    copy = tmp_path / "copy"

    def hook(offset: int) -> None:
        if offset == 11:
            shutil.copytree(folder, copy)
            (copy / f"part-{partition}.sqlite3-wal").unlink()
            (copy / f"part-{partition}.sqlite3-shm").unlink()

    run(folder, END, 3, hook)
    assert "without its -wal" in refusal(copy) or "different age" in refusal(copy)


def test_partitions_of_different_age_are_rejected(folder: Path, tmp_path: Path) -> None:
    """One partition comes from an earlier, complete copy."""
    run(folder, 2, 2)
    back_up(folder, tmp_path / "earlier")
    run(folder, END, 2)
    for file in partition_files(tmp_path / "earlier"):
        mixed = tmp_path / f"mixed-{file.stem}"
        back_up(folder, mixed)
        shutil.copy(file, mixed)
        assert refusal(mixed)
        with pytest.raises(StateError):
            restore(mixed, tmp_path / "target")
    assert not (tmp_path / "target").exists()


class _Trap:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch trapped",)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (pickle.dumps(_Trap()), "cannot be read"),
        (b"no pickle", "cannot be read"),
        (b"", "cannot be read"),
        (pickle.dumps([1]), "not from this job"),
        (pickle.dumps({"format": 1, "offset": "7"}), "not from this job"),
        (pickle.dumps({"format": 2, "offset": 7}), "has format 2, this version reads 1"),
    ],
)
def test_states_are_read_without_executing_pickles(
    state: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle that names a function is rejected, not called; an invalid offset differs from a later format."""
    monkeypatch.chdir(tmp_path)
    assert offset_in("trades:0", pickle.dumps({"format": 1, "offset": 7})) == 7
    with pytest.raises(StateError, match=words):
        offset_in("trades:0", state)
    assert not (tmp_path / "trapped").exists()


def test_init_never_changes_a_store(folder: Path, tmp_path: Path) -> None:
    """Nor a store of which only a log remains, which SQLite would apply to the new partition."""
    before = {file: file.read_bytes() for file in partition_files(folder)}
    with pytest.raises(SettingsError, match="already holds a recovery store"):
        make_store(folder, 8)
    assert {file: file.read_bytes() for file in partition_files(folder)} == before
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "part-0.sqlite3-wal").touch()
    with pytest.raises(SettingsError, match="already holds a recovery store"):
        make_store(tmp_path / "half", 1)


def test_a_backup_replaces_nothing(folder: Path, tmp_path: Path) -> None:
    """Its target may be an empty folder, but not a file or a folder with content."""
    (tmp_path / "empty").mkdir()
    assert back_up(folder, tmp_path / "empty").partitions == 3
    (tmp_path / "file").touch()
    for target in (tmp_path / "empty", tmp_path / "file", folder):
        with pytest.raises(SettingsError, match="already exists"):
            back_up(folder, target)
    assert not list(tmp_path.glob(".*"))


def test_restore_moves_the_former_store_aside(folder: Path, tmp_path: Path) -> None:
    """Only on request, and complete: it can be read at its new path."""
    run(folder, 5)
    back_up(folder, tmp_path / "backup")
    run(folder, END)
    former = read_store(folder)
    with pytest.raises(SettingsError, match="--replace"):
        restore(tmp_path / "backup", folder)
    assert read_store(folder) == former
    store, replaced = restore(tmp_path / "backup", folder, replace=True)
    assert replaced is not None
    assert offsets(store) == {"trades:0": 5, "trades:1": 5, "trades:2": 5}
    assert read_store(replaced).offsets == former.offsets
    assert run(folder, END, 2) == expected(END)


def test_a_lock_excludes_other_executions(folder: Path, tmp_path: Path) -> None:
    """One holder for each process number; `restore` and `init` are rejected as well, reads and backups are not."""
    back_up(folder, tmp_path / "backup")
    assert not is_locked(folder)
    descriptor = lock_store(folder, 1)
    try:
        assert is_locked(folder)
        os.close(lock_store(folder, 0))
        with pytest.raises(StateError, match=f"another execution .process {os.getpid()}. runs on .*{folder}"):
            lock_store(folder, 1)
        with pytest.raises(StateError, match="another execution"):
            restore(tmp_path / "backup", folder, replace=True)
        assert not list(folder.glob("replaced-*"))
        assert read_store(folder).partitions == back_up(folder, tmp_path / "second").partitions
    finally:
        os.close(descriptor)
    assert not is_locked(folder)
    with exclusive_lock(folder), pytest.raises(StateError, match="another execution"):
        lock_store(folder, 0)


def test_asking_for_a_lock_does_not_refuse_a_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that asks holds a shared lock for a moment."""
    os.close(lock_store(folder, 0))
    asking = lock_file(folder / "process-0.lock", fcntl.LOCK_SH, os.O_RDONLY)
    monkeypatch.setattr("k2.storage.recovery.lock.time.sleep", lambda _: os.close(asking))
    os.close(lock_store(folder, 0))


def test_a_lock_ends_with_its_process(folder: Path) -> None:
    """Also after SIGKILL, without a cleanup."""
    code = f"""
import time
from pathlib import Path
from k2.storage.recovery.lock import lock_store
lock_store(Path({str(folder)!r}), 0)
print(flush=True)
time.sleep(60)
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StateError, match=f"process {other.pid}"):
            lock_store(folder, 0)
        other.send_signal(signal.SIGKILL)
        other.wait()
        os.close(lock_store(folder, 0))

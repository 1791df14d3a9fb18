"""A writer's dead letters: each once, byte for byte, exactly those that commits count, after any crash."""

import errno
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from k2.model.batch import MessageBatch
from k2.model.dead_letter import DeadLetter
from k2.model.errors import SettingsError, StateError, UnreachableError
from k2.model.reasons import Reason
from k2.ops.retry import retried
from k2.storage.dead_letters import append_log, queue
from k2.storage.dead_letters.disk import report_disk
from k2.storage.dead_letters.files import (
    Position,
    read_dead_letters,
    series_in,
    series_prefix,
)
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.dead_letters.local_log import LocalLog
from k2.storage.dead_letters.lock import check_folder, check_free, lock_series
from k2.storage.dead_letters.queue import DeadLetterQueue
from tests.model.dead_letters import dead_letter

NOW = datetime(2024, 8, 9, 1, 2, 3, tzinfo=UTC)
PREFIX = series_prefix("9c1f03aa-0b52-4d0e-8f7e-3a8f6c1f9d10", "0")
OTHER = series_prefix("9c1f03aa-0b52-4d0e-8f7e-3a8f6c1f9d10", "1")


def batch(value: bytes | None, *, key: bytes | None = None) -> MessageBatch:
    """Return a batch of one message."""
    data = np.frombuffer((value or b"") + (key or b""), np.uint8)
    sizes = [np.array([-1 if part is None else len(part)], np.int32) for part in (value, key)]
    starts = [np.array([0], np.int64), np.array([len(value or b"")], np.int64)]
    times = np.array([0], np.int64)
    offsets = np.array([7], np.int64)
    return MessageBatch("trades", 0, "k2", 7, 8, offsets, times, data, starts[0], sizes[0], starts[1], sizes[1])


def unwritten(offset: int, value: str = "{") -> DeadLetter:
    """Return a dead letter as a writer gets it: without the time of writing."""
    return dead_letter(offset, value=value, dead_lettered_at=None)


def offsets(folder: Path) -> list[int]:
    """Return the offsets of a folder's dead letters, in order; every line must be readable."""
    return [one.offset for one in read_dead_letters(LocalFolder(folder), pytest.fail)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every dead-letter file."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("dlq-*"))}


def only_file(folder: Path) -> Path:
    """Return the folder's one file of dead letters."""
    (path,) = folder.glob("dlq-*")
    return path


@contextmanager
def opened(
    folder: Path,
    recorded: Mapping[str, Position] | None = None,
    *,
    prefix: str = PREFIX,
    file_bytes_max: int = 1_000_000,
) -> Iterator[DeadLetterQueue]:
    """Yield a writer's DLQ, and release the folder as a killed process does."""
    log = LocalLog(folder, prefix, recorded or {}, file_bytes_max)
    try:
        yield DeadLetterQueue(log, lambda: NOW)
    finally:
        os.close(log._lock)
        if log._append_log._descriptor is not None:
            os.close(log._append_log._descriptor)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync in a thousand small runs, none of which depends on it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        "日本 \u2028 é".encode(),
        b"\xff\xfe{",
        b"a\nb\r\n\x00c",
        b"",
        None,
        b"x" * 1_000_000,
        b"\xff" * 1_000_000,
        b'\\ud800 "quoted"',
        "\ufeff{}".encode(),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_bytes_survive_a_round_trip(tmp_path: Path, value: bytes | None) -> None:
    """Key and value of the message are read back byte for byte."""
    with opened(tmp_path) as part:
        part.append([DeadLetter.of(batch(value, key=value), 0, Reason.MALFORMED, "bad")])
        part.sync()
    (found,) = read_dead_letters(LocalFolder(tmp_path), pytest.fail)
    assert found.value_bytes() == value
    assert found.key_bytes() == value
    assert found.dead_lettered_at == NOW


def test_fields_are_the_documented_ones(tmp_path: Path) -> None:
    """A line has the fields that users rely on."""
    with opened(tmp_path) as part:
        part.append([DeadLetter.of(batch(b"\xff", key=b"k"), 0, Reason.MALFORMED, "not UTF-8")])
        part.sync()
    assert json.loads(only_file(tmp_path).read_bytes()) == {
        "topic": "trades",
        "partition": 0,
        "offset": 7,
        "kafka_timestamp": "1970-01-01T00:00:00Z",
        "key": "k",
        "value": "/w==",
        "value_encoding": "base64",
        "reason": "malformed",
        "error": "not UTF-8",
        "error_type": "ValueError",
        "venue": "k2",
        "dead_lettered_at": "2024-08-09T01:02:03Z",
    }


@given(sizes=st.lists(st.integers(0, 400), max_size=20), cuts=st.integers(1, 5), limit=st.integers(1, 900))
def test_rotation(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], cuts: int, limit: int) -> None:
    """No file exceeds its limit except with a single large dead letter; none is lost, split or out of order."""
    folder = tmp_path_factory.mktemp("dlq")
    with opened(folder, file_bytes_max=limit) as part:
        some = [unwritten(offset, "x" * size) for offset, size in enumerate(sizes)]
        for start in range(0, len(some), cuts):
            part.append(some[start : start + cuts])
            part.sync()
    assert offsets(folder) == list(range(len(sizes)))
    for data in contents(folder).values():
        assert data.endswith(b"\n")
        assert len(data) <= limit or data.count(b"\n") == 1


def test_a_file_is_filled_to_its_last_byte(tmp_path: Path) -> None:
    """Rotation happens before the line that would exceed the limit, not before one that just fits."""
    size = len(unwritten(0).line()) + len(f', "dead_lettered_at":"{NOW:%Y-%m-%dT%H:%M:%SZ}"') - 1
    for limit, files in ((2 * size, 1), (2 * size - 1, 2)):
        folder = tmp_path / str(limit)
        with opened(folder, file_bytes_max=limit) as part:
            part.append([unwritten(0), unwritten(1)])
            part.sync()
        assert sum(map(len, contents(folder).values())) == 2 * size
        assert len(contents(folder)) == files


@pytest.mark.parametrize("file_bytes_max", [1, 500, 1_000_000])
def test_a_restart_repairs_a_cut_at_any_byte(quick_disk: None, tmp_path: Path, file_bytes_max: int) -> None:
    """Wherever a crash cut the bytes after the last commit, a replay writes the same files as a run without one."""
    with opened(tmp_path / "whole", file_bytes_max=file_bytes_max) as part:
        part.append([unwritten(0), unwritten(1)])
        recorded = dict(part.sync())
        before = sum(map(len, contents(tmp_path / "whole").values()))
        part.append([unwritten(2), unwritten(3)])
        part.sync()
    whole = contents(tmp_path / "whole")
    size = sum(map(len, whole.values()))
    for cut in range(before, size + 1, 7 if file_bytes_max == 500 else 1):
        folder = tmp_path / str(cut)
        _lay_out(folder, whole, cut)
        with opened(folder, recorded, file_bytes_max=file_bytes_max) as part:
            part.append([unwritten(2), unwritten(3)])
            part.sync()
        assert contents(folder) == whole


def _lay_out(folder: Path, files: Mapping[str, bytes], size: int) -> None:
    folder.mkdir()
    for name, data in files.items():
        if size > 0:
            (folder / name).write_bytes(data[:size])
        size -= len(data)


def test_uncommitted_dead_letters_are_removed(tmp_path: Path) -> None:
    """The first epoch was never committed: its lines are removed, in any number of files, and the series continues."""
    with opened(tmp_path, file_bytes_max=1) as part:
        part.append([unwritten(0), unwritten(1), unwritten(2)])
        part.sync()
    with opened(tmp_path, file_bytes_max=1) as part:
        assert offsets(tmp_path) == []
        part.append([unwritten(1)])
        part.sync()
    assert offsets(tmp_path) == [1]
    assert len(series_in(LocalFolder(tmp_path), PREFIX)) == 1


def test_pending_dead_letters_are_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for the end of the epoch, so a crash before leaves none; very many are written earlier."""
    with opened(tmp_path) as part:
        part.append([unwritten(0)])
        assert contents(tmp_path) == {}
        monkeypatch.setattr(queue, "PENDING_BYTES_MAX", 1_500)
        part.append([unwritten(number) for number in range(1, 10)])
        assert 0 < len(offsets(tmp_path)) < 10
        part.sync()
    assert offsets(tmp_path) == list(range(10))


def test_another_machine_starts_its_own_series(tmp_path: Path) -> None:
    """In a folder without files of the writer a new series starts, with a log line; both series are recorded."""
    with opened(tmp_path / "first") as part:
        part.append([unwritten(0)])
        first = dict(part.sync())
    with structlog.testing.capture_logs() as logs, opened(tmp_path / "second", first) as part:
        part.append([unwritten(1)])
        second = dict(part.sync())
    assert [(entry["event"], entry["series"]) for entry in logs] == [("dead_letters_elsewhere", [*first])]
    assert first.items() < second.items()
    with structlog.testing.capture_logs() as logs, opened(tmp_path / "first", second) as part:
        part.append([unwritten(2)])
        third = dict(part.sync())
    assert logs == []
    assert third.keys() == second.keys()
    assert offsets(tmp_path / "first") == [0, 2]
    assert offsets(tmp_path / "second") == [1]


def test_a_start_without_dead_letters_records_nothing(tmp_path: Path) -> None:
    """A machine without dead letters adds nothing to the table, so that moves between machines do not make it grow."""
    with opened(tmp_path) as part:
        assert part.sync() == {}


def test_series_of_other_writers_are_unchanged(tmp_path: Path) -> None:
    """Writers and tables share a folder: a start truncates only its own series."""
    with opened(tmp_path, prefix=OTHER) as part:
        part.append([unwritten(7)])
        part.sync()
        before = contents(tmp_path)
        with opened(tmp_path) as own:
            own.append([unwritten(8)])
            own.sync()
    assert before.items() < contents(tmp_path).items()


@pytest.mark.parametrize("harm", ["shorter", "gone"])
def test_missing_committed_dead_letters_are_rejected(tmp_path: Path, harm: str) -> None:
    """If lines that the table counts are missing, the job stops and changes nothing else."""
    with opened(tmp_path, file_bytes_max=1) as part:
        part.append([unwritten(0), unwritten(1)])
        recorded = dict(part.sync())
    last = max(tmp_path.glob("dlq-*"))
    os.truncate(last, 5) if harm == "shorter" else last.unlink()
    before = contents(tmp_path)
    with pytest.raises(StateError, match="restore it"), opened(tmp_path, recorded):
        pass
    assert contents(tmp_path) == before


def test_files_before_the_position_may_be_archived(tmp_path: Path) -> None:
    """A rotated file that was moved away is not required: the next one continues."""
    with opened(tmp_path, file_bytes_max=1) as part:
        part.append([unwritten(0), unwritten(1)])
        recorded = dict(part.sync())
    min(tmp_path.glob("dlq-*")).unlink()
    with opened(tmp_path, recorded, file_bytes_max=1) as part:
        part.append([unwritten(2)])
        part.sync()
    assert offsets(tmp_path) == [1, 2]


def test_another_process_is_rejected(tmp_path: Path) -> None:
    """One process holds a writer's dead letters; when it has ended the folder is free."""
    with opened(tmp_path), pytest.raises(StateError, match="another process"), opened(tmp_path):
        pass
    with opened(tmp_path):
        pass


def test_several_processes_can_check_the_lock(tmp_path: Path) -> None:
    """Processes of one cluster that start together do not reject each other; a running one rejects both."""
    asking = lock_series(tmp_path, PREFIX, fcntl.LOCK_SH)
    check_free(tmp_path, PREFIX)
    os.close(asking)
    with opened(tmp_path), pytest.raises(StateError, match="another process"):
        check_free(tmp_path, PREFIX)
    check_free(tmp_path, PREFIX)


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, name: str) -> None:
    """A folder that cannot be created is a wrong setting, and the error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="K2_DLQ_DIR"):
        check_folder(tmp_path / name)


@pytest.mark.parametrize("failures", [1, 3, 4])
def test_a_full_disk_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """A write that fails half-way is retried three times, and leaves no partial line."""
    pwrite, left = os.pwrite, [failures]

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        if not left[0]:
            return pwrite(descriptor, data, offset)
        left[0] -= 1
        pwrite(descriptor, data[:9], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as part:
        part.append([unwritten(0, "long" * 50)])
        part.sync()
        monkeypatch.setattr(os, "pwrite", full)
        monkeypatch.setattr(append_log, "retried", partial(retried, sleep=lambda _: None))
        part.append([unwritten(1)])
        if failures > 3:
            with pytest.raises(UnreachableError, match=r"dlq-.*No space left"):
                part.sync()
        part.sync()
    assert offsets(tmp_path) == [0, 1]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may accept fewer bytes than given; the rest is written next."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:7], offset))
    with opened(tmp_path) as part:
        part.append([unwritten(0), unwritten(1)])
        part.sync()
    assert offsets(tmp_path) == [0, 1]


def test_a_failed_fsync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fails to flush accepted bytes, the epoch ends before its commit."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with opened(tmp_path) as part:
        part.append([unwritten(0)])
        part.sync()
        part.append([unwritten(1)])
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(UnreachableError, match="Input/output error"):
            part.sync()


def test_a_truncated_file_stops_the_job(tmp_path: Path) -> None:
    """A file that lost bytes while the job runs is never filled with null bytes."""
    with opened(tmp_path) as part:
        part.append([unwritten(0)])
        part.sync()
        os.truncate(only_file(tmp_path), 5)
        part.append([unwritten(1)])
        with pytest.raises(StateError, match="has 5 bytes"):
            part.sync()


def test_the_free_space_of_the_disk_is_a_metric(tmp_path: Path) -> None:
    """It is read at each scrape; no folder, or one that is gone, gives NaN, and no error."""
    folder = tmp_path / "dlq"
    folder.mkdir()
    report_disk(folder)
    free, size = (REGISTRY.get_sample_value(f"k2_dead_letter_disk_{name}bytes") for name in ("free_", ""))
    assert free is not None
    assert size is not None
    assert 0 < free <= size
    folder.rmdir()
    assert math.isnan(REGISTRY.get_sample_value("k2_dead_letter_disk_free_bytes") or 0)
    report_disk(tmp_path)
    report_disk(None)
    assert math.isnan(REGISTRY.get_sample_value("k2_dead_letter_disk_free_bytes") or 0)

"""The dead-letter sink: each letter once, byte for byte, whatever the crash left on the disk."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
import structlog
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from connectors.dead_letters import DeadLettersSink, writer
from runtime.dead_letter_files import letters_in
from runtime.retry import retried
from runtime.settings import Settings
from trades.batch import MessageBatch
from trades.dead_letter import DeadLetter
from trades.errors import SettingsError, StateError, UnreachableError
from trades.progress import PartitionProgress, Progress, TopicPartition
from trades.reasons import Reason

NOW = datetime(2024, 8, 9, 1, 2, 3, tzinfo=UTC)
State = dict[str, Any]


def batch(value: bytes | None, *, key: bytes | None = None) -> MessageBatch:
    """Make a batch of one message."""
    data = np.frombuffer((value or b"") + (key or b""), np.uint8)
    sizes = [np.array([-1 if part is None else len(part)], np.int32) for part in (value, key)]
    starts = [np.array([0], np.int64), np.array([len(value or b"")], np.int64)]
    times = np.array([0], np.int64)
    offsets = np.array([7], np.int64)
    return MessageBatch("trades", 0, "k2", 7, 8, offsets, times, data, starts[0], sizes[0], starts[1], sizes[1])


def letter(offset: int, value: str = "{", index: int = 0, partition: int = 0) -> DeadLetter:
    """Make a letter."""
    return DeadLetter(
        topic="trades",
        partition=partition,
        offset=offset,
        index=index,
        kafka_timestamp=NOW,
        key=None,
        value=value,
        reason=Reason.MALFORMED,
        error="not JSON",
        error_type="ValueError",
        venue="k2",
    )


def offsets(folder: Path) -> list[int]:
    """Read the offsets of a folder's letters, in order; every line must be readable."""
    return [one.offset for one in letters_in(folder, pytest.fail)]


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file of dead letters."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("dlq-*"))}


def settings_of(folder: Path, file_bytes_max: int = 1_000_000) -> Settings:
    """Make settings whose dead letters go to a folder."""
    return Settings(dlq_dir=folder, dlq_file_bytes_max=file_bytes_max)


@contextmanager
def opened(
    folder: Path,
    state: State | None = None,
    *,
    file_bytes_max: int = 1_000_000,
    committed: Progress | None = None,
) -> Iterator[Any]:
    """Give a partition as Bytewax makes it, and let go of the folder as a killed process does."""
    sink = DeadLettersSink(settings_of(folder, file_bytes_max), lambda: committed or Progress(), lambda: NOW)
    part = sink.build_part("dead_letters_out", "0", state)
    try:
        yield part
    finally:
        part._lock.release()
        if part._writer._descriptor is not None:
            os.close(part._writer._descriptor)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a thousand small runs the waiting for the disk, which none of them looks at."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def progress(offset: int) -> Progress:
    """Make the table's progress of one partition."""
    return Progress({"0": {TopicPartition("trades", 0): PartitionProgress(offset)}})


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
def test_bytes_come_back_exactly(tmp_path: Path, value: bytes | None) -> None:
    """What was in the message, key and value, comes back byte for byte."""
    with opened(tmp_path) as part:
        part.write_batch([[DeadLetter.of(batch(value, key=value), 0, Reason.MALFORMED, "bad")]])
    (found,) = letters_in(tmp_path, pytest.fail)
    assert found.value_bytes() == value
    assert found.key_bytes() == value
    assert found.dead_lettered_at == NOW


def test_fields_are_the_documented_ones(tmp_path: Path) -> None:
    """A line bears the fields that users rely on."""
    with opened(tmp_path) as part:
        part.write_batch([[DeadLetter.of(batch(b"\xff", key=b"k"), 0, Reason.MALFORMED, "not UTF-8")]])
    assert json.loads(contents(tmp_path)["dlq-00000001.jsonl"]) == {
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
    """No file exceeds its limit but by a single letter of its own; none is lost, split or out of order."""
    folder = tmp_path_factory.mktemp("dlq")
    with opened(folder, file_bytes_max=limit) as part:
        letters = [letter(offset, "x" * size) for offset, size in enumerate(sizes)]
        for start in range(0, len(letters), cuts):
            part.write_batch([letters[start : start + cuts]])
            part.snapshot()
    assert offsets(folder) == list(range(len(sizes)))
    for data in contents(folder).values():
        assert data.endswith(b"\n")
        assert len(data) <= limit or data.count(b"\n") == 1


def test_a_file_is_filled_to_its_last_byte(tmp_path: Path) -> None:
    """Rotation begins with the letter that would exceed the limit, not with one that just fits."""
    with opened(tmp_path) as part:
        part.write_batch([[letter(0)]])
    size = len(contents(tmp_path)["dlq-00000001.jsonl"])
    for limit, files in ((2 * size, 1), (2 * size - 1, 2)):
        folder = tmp_path / str(limit)
        with opened(folder, file_bytes_max=limit) as part:
            part.write_batch([[letter(0)], [letter(1)]])
        assert len(contents(folder)) == files


@pytest.mark.parametrize("file_bytes_max", [1, 500, 1_000_000])
def test_resume_from_every_byte(quick_disk: None, tmp_path: Path, file_bytes_max: int) -> None:
    """Wherever a crash cut what came after the snapshot, a replay makes the files of a run without one."""
    with opened(tmp_path / "whole", file_bytes_max=file_bytes_max) as part:
        part.write_batch([[letter(0), letter(1)]])
        part.snapshot()
        part.write_batch([[letter(2)], [letter(3)]])
    whole = contents(tmp_path / "whole")
    with opened(tmp_path / "before", file_bytes_max=file_bytes_max) as part:
        part.write_batch([[letter(0), letter(1)]])
        state = part.snapshot()
    after = b"".join(whole.values())
    recorded = sum(map(len, contents(tmp_path / "before").values()))
    for cut in range(recorded, len(after) + 1, 7 if file_bytes_max == 500 else 1):
        folder = tmp_path / str(cut)
        _lay_out(folder, whole, cut)
        with opened(folder, state, file_bytes_max=file_bytes_max) as part:
            part.write_batch([[letter(2)], [letter(3)]])
            part.snapshot()
        assert contents(folder) == whole


def _lay_out(folder: Path, files: dict[str, bytes], size: int) -> None:
    folder.mkdir()
    for name, data in files.items():
        if size > 0:
            (folder / name).write_bytes(data[:size])
        size -= len(data)


@pytest.mark.parametrize("file_bytes_max", [1, 1_000_000])
def test_resume_without_a_store_from_every_byte(quick_disk: None, tmp_path: Path, file_bytes_max: int) -> None:
    """Without a recovered position, letters that are there are not written again, and half a line goes."""
    with opened(tmp_path / "whole", file_bytes_max=file_bytes_max) as part:
        part.write_batch([[letter(0), letter(1), letter(1, index=1), letter(1, partition=1)]])
    whole = contents(tmp_path / "whole")
    for cut in range(sum(map(len, whole.values())) + 1):
        folder = tmp_path / str(cut)
        _lay_out(folder, whole, cut)
        with opened(folder, file_bytes_max=file_bytes_max) as part:
            part.write_batch([[letter(0), letter(1)], [letter(1, index=1), letter(1, partition=1)]])
        assert b"".join(contents(folder).values()) == b"".join(whole.values())


def test_state_is_made_of_builtins(tmp_path: Path) -> None:
    """The snapshot is a plain dictionary, as documented, and stays readable by later versions."""
    with opened(tmp_path) as part:
        assert part.snapshot() == {"format": 1, "file": "dlq-00000001.jsonl", "position": 0}
        part.write_batch([[letter(0)]])
        size = (tmp_path / "dlq-00000001.jsonl").stat().st_size
        assert part.snapshot() == {"format": 1, "file": "dlq-00000001.jsonl", "position": size}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"format": 1, "file": "dlq-00000001.jsonl", "position": 10_000}, "10000"),
        ({"format": 1, "file": "dlq-00000009.jsonl", "position": 1}, "dlq-00000009.jsonl is missing"),
        ({"format": 2, "file": "dlq-00000001.jsonl", "position": 0}, "format 2"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, state: State, says: str) -> None:
    """Files that hold less than was recorded stop the job, and nothing of them is touched."""
    with opened(tmp_path) as part:
        part.write_batch([[letter(0)]])
    before = contents(tmp_path)
    with pytest.raises(StateError, match=says), opened(tmp_path, state):
        pass
    assert contents(tmp_path) == before
    with opened(tmp_path):
        pass


@pytest.mark.parametrize("file_bytes_max", [1, 1_000_000])
def test_letters_below_the_progress_stay(tmp_path: Path, file_bytes_max: int) -> None:
    """A letter committed with the table outlives a resume from before it, also if the replay lacks it."""
    with opened(tmp_path, file_bytes_max=file_bytes_max) as part:
        part.write_batch([[letter(0)]])
        state = part.snapshot()
        part.write_batch([[letter(3), letter(1)], [letter(2)]])
    later = state
    for replayed in ([letter(2)], [letter(1), letter(2)]):
        with opened(tmp_path, state, file_bytes_max=file_bytes_max, committed=progress(2)) as part:
            part.write_batch([replayed])
            assert sorted(offsets(tmp_path)) == [0, 1, 2]
            later = part.snapshot()
    with opened(tmp_path, later, file_bytes_max=file_bytes_max, committed=progress(4)):
        assert sorted(offsets(tmp_path)) == [0, 1, 2]


def test_a_crash_while_keeping_doubles_none(tmp_path: Path) -> None:
    """Killed between copying the kept letters and removing the rest: the next resume keeps each once."""
    with opened(tmp_path) as part:
        state = part.snapshot()
        part.write_batch([[letter(0), letter(1), letter(5)]])
    copied = (tmp_path / "dlq-00000001.jsonl").read_bytes()
    (tmp_path / "dlq-00000002.jsonl").write_bytes(copied[: len(copied) // 2])
    with opened(tmp_path, state, committed=progress(3)):
        pass
    assert offsets(tmp_path) == [0, 1]


def test_letters_from_before_the_store_are_not_doubled(tmp_path: Path) -> None:
    """A lost store's letters, ahead of the table, are left out by a start without state and by the resume after it."""
    with opened(tmp_path) as part:
        part.write_batch([[letter(7), letter(8)]])
    with opened(tmp_path, committed=progress(7)) as part:
        state = part.snapshot()
    with opened(tmp_path, state, committed=progress(7)) as part:
        part.write_batch([[letter(7), letter(8), letter(9)]])
    assert offsets(tmp_path) == [7, 8, 9]


def test_another_process_is_refused(tmp_path: Path) -> None:
    """One folder has one writer; when that one is gone the folder is free."""
    with opened(tmp_path), pytest.raises(StateError, match="another process"), opened(tmp_path):
        pass
    with opened(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    """A folder that cannot be had is a wrong setting, and the sentence names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="K2_DLQ_DIR"), opened(tmp_path / name):
        pass


@pytest.mark.parametrize("failures", [1, 3, 4])
def test_a_full_disk_is_ridden_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """A write that fails half-way is tried again three times, and leaves no half line behind it."""
    pwrite, left = os.pwrite, [failures]

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        if not left[0]:
            return pwrite(descriptor, data, offset)
        left[0] -= 1
        pwrite(descriptor, data[:9], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path) as part:
        part.write_batch([[letter(0, "long" * 50)]])
        monkeypatch.setattr(os, "pwrite", full)
        monkeypatch.setattr(writer, "retried", partial(retried, sleep=lambda _: None))
        if failures > 3:
            with pytest.raises(UnreachableError, match=r"dlq-00000001.*No space left"):
                part.write_batch([[letter(1)]])
        part.write_batch([[letter(1)]])
    assert offsets(tmp_path) == [0, 1]


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take fewer bytes than it was given; the rest follows."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:7], offset))
    with opened(tmp_path) as part:
        part.write_batch([[letter(0), letter(1)]])
    assert offsets(tmp_path) == [0, 1]


def test_a_failing_snapshot_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What snapshot() raises is logged before Bytewax swallows it."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with opened(tmp_path) as part, structlog.testing.capture_logs() as logs:
        part.write_batch([[letter(0)]])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(UnreachableError, match="Input/output error"):
                part.snapshot()
    assert [(entry["kind"], "Input/output error" in entry["error"]) for entry in logs] == [("UnreachableError", True)]


def test_a_file_cut_by_something_else_stops_the_job(tmp_path: Path) -> None:
    """A file that lost bytes while the job runs is never filled up with nulls."""
    with opened(tmp_path) as part:
        part.write_batch([[letter(0)]])
        os.truncate(tmp_path / "dlq-00000001.jsonl", 5)
        with pytest.raises(StateError, match="has 5 bytes"):
            part.write_batch([[letter(1)]])


def test_an_unreadable_line_stays(tmp_path: Path) -> None:
    """A line that someone else wrote is warned of by file and line, and neither removed nor counted."""
    (tmp_path / "dlq-00000001.jsonl").write_bytes(letter(0).line() + b"not a letter\n" + letter(1).line())
    with structlog.testing.capture_logs() as logs, opened(tmp_path) as part:
        part.write_batch([[letter(1), letter(2)]])
    assert "dlq-00000001.jsonl:2: " in logs[0]["line"]
    unreadable: list[str] = []
    assert [one.offset for one in letters_in(tmp_path, unreadable.append)] == [0, 1, 2]
    assert len(unreadable) == 1


def test_as_the_end_of_a_flow(tmp_path: Path) -> None:
    """In a Bytewax flow all letters land, once, and the folder is free afterwards."""
    flow = Dataflow("letters")
    items = op.input("in", flow, TestingSource([("0", [letter(0)]), ("0", []), ("0", [letter(1), letter(2)])]))
    op.output("dead_letters_out", items, DeadLettersSink(settings_of(tmp_path)))
    for _ in range(2):
        run_main(flow)  # type: ignore[no-untyped-call]
    assert offsets(tmp_path) == [0, 1, 2]


def test_a_flow_that_is_aborted_and_resumed(tmp_path: Path) -> None:
    """With a recovery store, an epoch that was cut off and read again leaves its letters once."""
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, 1)  # type: ignore[no-untyped-call]
    abort: Any = TestingSource.ABORT()
    items: list[Any] = [("0", [letter(0)]), ("0", [letter(1)]), abort, ("0", [letter(2)])]
    flow = Dataflow("letters")
    op.output("out", op.input("in", flow, TestingSource(items, 1)), DeadLettersSink(settings_of(tmp_path)))
    store = RecoveryConfig(str(recovery))  # type: ignore[no-untyped-call]
    for _ in range(2):
        run_main(flow, epoch_interval=timedelta(0), recovery_config=store)  # type: ignore[no-untyped-call]
    assert offsets(tmp_path) == [0, 1, 2]

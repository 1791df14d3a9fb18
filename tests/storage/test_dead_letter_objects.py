"""Dead letters in an object store: exactly those that commits count, after a crash or a freeze at any point."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from k2.model.errors import SettingsError, StateError, UnreachableError
from k2.ops.child_process import free_port
from k2.ops.failpoints import arm, failpoint
from k2.ops.retry import retried
from k2.storage.dead_letters import object_log
from k2.storage.dead_letters.files import (
    Position,
    committed_dead_letters,
    committed_lines,
    file_name,
    lost_names,
    newest_lines,
    read_dead_letters,
)
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.dead_letters.object_folder import ObjectFolder, open_object_folder
from k2.storage.dead_letters.object_log import ObjectLog
from tests.s3 import KEYS, REGION, S3
from tests.storage.test_dead_letters import OTHER, PREFIX, opened, unwritten

WHOLE = 400
"""Size from which these tests' objects are not written again: about two dead letters."""


class Crash(BaseException):
    """The process ends here."""


class Epoch(NamedTuple):
    """What one epoch adds, and how it ends."""

    sizes: list[list[int]]
    """Sizes of its dead letters, by the time at which they are written."""
    crash: tuple[str, int] | None
    """A failpoint and how often it is passed before; None: the epoch is committed."""
    restart: bool = False
    """Whether the job is stopped after it."""


EPOCHS = st.lists(
    st.builds(
        Epoch,
        st.lists(st.lists(st.integers(0, 300), max_size=3), max_size=3),
        st.none()
        | st.tuples(
            st.sampled_from(["objects.write", "objects.written", "objects.remove", "commit.staged"]), st.integers(0, 3)
        ),
        st.booleans(),
    ),
    max_size=12,
)


def folder_in(path: Path) -> ObjectFolder:
    """Return a store with the objects in a folder of this machine."""
    path.mkdir(parents=True, exist_ok=True)
    return ObjectFolder("s3://bucket/dlq", SubTreeFileSystem(str(path), LocalFileSystem()), "")


def lines(numbers: Sequence[int], size: int = 0) -> list[bytes]:
    """Return the lines of dead letters at these offsets."""
    return [unwritten(number, "x" * size).line() for number in numbers]


def counted(folder: ObjectFolder | LocalFolder, recorded: Mapping[str, Position]) -> list[int]:
    """Return the offsets of the dead letters that the positions count, in the order in which they are read."""
    return [json.loads(line.text)["offset"] for line in committed_lines(folder, [recorded])]


@pytest.fixture(autouse=True)
def small_objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a few dead letters be an object that is not written again."""
    monkeypatch.setattr(object_log, "WHOLE_BYTES_MIN", WHOLE)
    yield
    arm(None)


def crash_at(crash: tuple[str, int] | None) -> None:
    """Arm a crash."""
    remaining = 0 if crash is None else crash[1] + 1

    def act(name: str) -> None:
        nonlocal remaining
        if crash is not None and name == crash[0]:
            remaining -= 1
            if remaining == 0:
                raise Crash

    arm(act)


@given(epochs=EPOCHS, bytes_max=st.sampled_from([1, 300, 1_000, 100_000]))
def test_readers_see_what_commits_count(
    tmp_path_factory: pytest.TempPathFactory, epochs: list[Epoch], bytes_max: int
) -> None:
    """Whatever crashes, and however a replay cuts its epochs, each dead letter is counted once, also by older records.

    So a reader that has an older version of the table, or a table that was put back, reads what that version counts.
    """
    folder = folder_in(tmp_path_factory.mktemp("store"))
    log = ObjectLog(folder, PREFIX, {}, bytes_max)
    recorded: dict[str, Position] = {}
    committed = 0
    history: list[tuple[dict[str, Position], int]] = [({}, 0)]
    for epoch in epochs:
        added = 0
        crash_at(epoch.crash)
        try:
            for sizes in epoch.sizes:
                log.append([unwritten(committed + added + n, "x" * size).line() for n, size in enumerate(sizes)])
                added += len(sizes)
            positions = dict(log.sync())
            failpoint("commit.staged")
        except Crash:
            arm(None)
            log = ObjectLog(folder, PREFIX, recorded, bytes_max)
        else:
            recorded, committed = positions, committed + added
            history.append((recorded, committed))
            if epoch.restart:
                log = ObjectLog(folder, PREFIX, recorded, bytes_max)
        for positions, count in history:
            assert sorted(counted(folder, positions)) == [*range(count)]
            assert not [*lost_names(folder, [positions])]


def test_a_table_that_was_put_back_continues(tmp_path: Path) -> None:
    """A start from an older record takes over what that counts, although longer objects have replaced its own."""
    folder = folder_in(tmp_path)
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    history = []
    for number in range(3):
        log.append(lines([number]))
        history.append(dict(log.sync()))
    log = ObjectLog(folder, PREFIX, history[0], 100_000)
    log.append(lines([7]))
    assert counted(folder, log.sync()) == [0, 7]


def test_the_number_of_objects_does_not_grow_with_commits(tmp_path: Path) -> None:
    """Small objects are repeated by the next one and removed; one that is large enough stays."""
    folder = folder_in(tmp_path)
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    sizes = []
    for number in range(100):
        log.append(lines([number]))
        recorded = log.sync()
        sizes.append(len(folder.files()))
    assert counted(folder, recorded) == [*range(100)]
    total = sum(len(line) for line in lines(range(100)))
    assert max(sizes) <= total / WHOLE + 3


def test_the_number_of_series_does_not_grow_with_starts(tmp_path: Path) -> None:
    """A start takes over the small ends of earlier series, in one series; a start without dead letters records none."""
    folder = folder_in(tmp_path)
    recorded: Mapping[str, Position] = {}
    for number in range(5):
        log = ObjectLog(folder, PREFIX, recorded, 100_000)
        assert log.sync() == recorded
        log.append(lines([number]))
        recorded = dict(log.sync())
        assert len(recorded) == 1 + number // 3
    assert counted(folder, recorded) == [*range(5)]


def test_no_start_has_the_series_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that another start only began: its objects could be taken for longer versions of the own ones."""
    names = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    folder = folder_in(tmp_path)
    killed = ObjectLog(folder, PREFIX, {}, 100_000)
    killed.append(lines([7]))
    killed.append(lines([8]))
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    log.append(lines([0]))
    assert counted(folder, log.sync()) == [0]


def test_a_frozen_instance_changes_nothing(tmp_path: Path) -> None:
    """An instance that goes on while another one has taken over writes objects that no commit counts."""
    folder = folder_in(tmp_path)
    frozen = ObjectLog(folder, PREFIX, {}, 100_000)
    frozen.append(lines([0]))
    recorded = dict(frozen.sync())
    live = ObjectLog(folder, PREFIX, recorded, 100_000)
    live.append(lines([1]))
    recorded = dict(live.sync())
    frozen.append(lines([1, 2]))
    frozen.sync()
    frozen.append(lines([3]))
    frozen.sync()
    live.append(lines([2]))
    recorded = dict(live.sync())
    assert counted(folder, recorded) == [0, 1, 2]
    assert [one.offset for one in committed_dead_letters(folder, [recorded], pytest.fail)] == [0, 1, 2]
    assert [json.loads(line)["offset"] for line in newest_lines(folder, 2, recorded)] == [1, 2]


def test_an_object_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    """A reader that listed an object which was removed since reads the same lines from the one that repeats it."""
    folder = folder_in(tmp_path)
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    log.append(lines([0]))
    recorded = dict(log.sync())
    found = committed_lines(folder, [recorded, {"none": Position(1, 1)}])
    listed = folder.files()
    folder.files = lambda: listed  # type: ignore[method-assign]
    first = next(iter(committed_lines(folder, [recorded])))
    del folder.files
    for number in (1, 2):
        log.append(lines([number]))
        log.sync()
    assert not (tmp_path / listed[0].name).exists()
    assert [line.text for line in found] == [first.text]
    held = iter([listed, folder.files()])
    folder.files = lambda: next(held)  # type: ignore[method-assign]
    assert counted(folder, recorded) == [0]


def test_files_of_a_disk_may_be_copied_into_a_store(tmp_path: Path) -> None:
    """The table counts them there up to its position, and the store continues after them."""
    with opened(tmp_path, file_bytes_max=1_000) as part:
        part.append([unwritten(number, "x" * 300) for number in range(7)])
        recorded = dict(part.sync())
        part.append([unwritten(7)])
        part.sync()
    folder = folder_in(tmp_path)
    assert counted(folder, recorded) == [*range(7)]
    log = ObjectLog(folder, PREFIX, recorded, 100_000)
    log.append(lines([7]))
    recorded = dict(log.sync())
    assert counted(folder, recorded) == [*range(8)]
    assert counted(LocalFolder(tmp_path), recorded) == [*range(8)]


def test_writers_share_an_address(tmp_path: Path) -> None:
    """A writer absorbs only what is recorded for it."""
    folder = folder_in(tmp_path)
    recorded = []
    for prefix, number in ((PREFIX, 1), (OTHER, 2)):
        log = ObjectLog(folder, prefix, {}, 100_000)
        log.append(lines([number]))
        recorded.append(dict(log.sync()))
    assert [counted(folder, one) for one in recorded] == [[1], [2]]


@pytest.mark.parametrize("size", [0, 500])
def test_a_missing_object_is_refused(tmp_path: Path, size: int) -> None:
    """If an object with counted lines is gone, the job does not start, and the file is named as lost."""
    folder = folder_in(tmp_path)
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    for number in range(2):
        log.append(lines([number], size))
        recorded = dict(log.sync())
    ((series, position),) = recorded.items()
    name = file_name(series, 2, None if size else 1)
    (tmp_path / name).unlink()
    (tmp_path / file_name(series, 1)).touch()
    assert [*lost_names(folder, [recorded])][-1] == file_name(series, 2)
    with pytest.raises(StateError, match=rf"00000002.jsonl .* counts {position.bytes} bytes .*; restore it"):
        ObjectLog(folder, PREFIX, recorded, 100_000)


def test_another_address_starts_another_series(tmp_path: Path) -> None:
    """Where none of the recorded objects are, a log line says so, and new ones are begun."""
    first = ObjectLog(folder_in(tmp_path / "a"), PREFIX, {}, 100_000)
    first.append(lines([0]))
    recorded = dict(first.sync())
    with structlog.testing.capture_logs() as logs:
        second = ObjectLog(folder_in(tmp_path / "b"), PREFIX, recorded, 100_000)
    second.append(lines([1]))
    assert [entry["event"] for entry in logs] == ["dead_letters_elsewhere"]
    assert recorded.items() < second.sync().items()


@pytest.mark.parametrize("failures", [3, 4])
def test_a_failed_write_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """A store that refuses a write is asked three times more; then the epoch ends before its commit."""
    left = [failures]

    def act(name: str) -> None:
        if name == "objects.write" and left[0]:
            left[0] -= 1
            raise OSError("slow down")

    monkeypatch.setattr(object_log, "retried", partial(retried, sleep=lambda _: None))
    folder = folder_in(tmp_path)
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    arm(act)
    if failures > 3:
        with pytest.raises(UnreachableError, match=r"writing dead letters to s3://bucket/dlq/dlq-.* slow down"):
            log.append(lines([0]))
    else:
        log.append(lines([0]))
        assert counted(folder, log.sync()) == [0]


def test_an_object_that_cannot_be_removed_is_not_read(tmp_path: Path) -> None:
    """Removing only saves room: what a longer object repeats is not counted again."""
    folder = folder_in(tmp_path)
    folder.remove = lambda _name: None  # type: ignore[method-assign]
    log = ObjectLog(folder, PREFIX, {}, 100_000)
    for number in range(7):
        log.append(lines([number]))
        recorded = log.sync()
    assert len(folder.files()) == 7
    assert counted(folder, recorded) == [*range(7)]


def store_of(s3: S3, address: str, **properties: str) -> ObjectFolder:
    """Return the folder at an address of the S3 server, with properties of the catalog."""
    key, secret = KEYS
    own = {"s3.endpoint": s3.endpoint, "s3.region": REGION, "s3.access-key-id": key, "s3.secret-access-key": secret}
    return open_object_folder(address, own | {name.replace("_", "."): value for name, value in properties.items()})


@pytest.mark.parametrize("prefix", ["", "/", "/dlq", "/a/b/"])
def test_dead_letters_on_s3(s3: S3, prefix: str) -> None:
    """What is written through PyIceberg's file IO is listed and read byte for byte, also after a restart."""
    folder = store_of(s3, f"s3://{s3.bucket()}{prefix}")
    folder.check()
    assert folder.files() == []
    recorded: Mapping[str, Position] = {}
    for number in range(6):
        log = ObjectLog(folder, PREFIX, recorded, 100_000)
        log.append(lines([10 * number], 100))
        log.sync()
        log.append(lines([10 * number + 1]))
        recorded = dict(log.sync())
    letters = [*committed_dead_letters(folder, [recorded], pytest.fail)]
    assert sorted(one.offset for one in letters) == sorted(10 * n + m for n in range(6) for m in (0, 1))
    assert {one.value for one in letters} == {"x" * 100, ""}
    assert {one.offset for one in read_dead_letters(folder, pytest.fail)} == {one.offset for one in letters}
    with pytest.raises(FileNotFoundError):
        folder.open("dlq-none.jsonl")


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("keys", SettingsError, "INVALID_ACCESS_KEY_ID.*; fix the keys"),
        ("bucket", SettingsError, "; create the bucket, or fix the address"),
        ("endpoint", UnreachableError, "; check the store, and its endpoint"),
    ],
)
def test_faults_are_one_sentence(s3: S3, fault: str, kind: type[Exception], words: str) -> None:
    """Refused keys and a missing bucket are errors of the settings; a store that does not answer is not."""
    address = f"s3://{s3.bucket() if fault != 'bucket' else 'none-of-that-name'}/dlq"
    reported = rf"^K2_DLQ_DIR='{address}': dead letters cannot be written there: .*{words}"
    if fault == "keys":
        with s3.refusing(), pytest.raises(kind, match=reported):
            store_of(s3, address).check()
    else:
        folder = store_of(s3, address)
        if fault == "endpoint":
            folder = open_object_folder(
                address, {"s3.endpoint": f"http://127.0.0.1:{free_port()}", "s3.region": REGION}
            )
        with pytest.raises(kind, match="dead letters cannot be listed there"):
            folder.files()
        with pytest.raises(kind, match=reported) as caught:
            folder.check()
        assert "\n" not in str(caught.value)

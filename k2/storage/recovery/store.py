"""Read a Bytewax recovery store: its flow, its progress, and whether it is complete.

A store is a folder of SQLite files, one for each partition, as Bytewax 0.21 writes them: `parts` (partition index and
count), `exs` (executions), `fronts` (the epoch each worker has reached), `commits` (the epoch up to which old
snapshots were deleted), `snaps` (pickled state by step, key and epoch). Rows of one execution are spread over the
partitions.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from k2.model.errors import SettingsError, StateError
from k2.model.progress import TopicPartition
from k2.storage.recovery.snapshots import offset_in, offsets_in, table_in

__all__ = [
    "FLOW",
    "PinnedStore",
    "Store",
    "check_store",
    "partition_files",
    "pin_store",
    "read_store",
    "resume_problem",
]

FLOW: Final = "trades"
"""The flow's name; every step id starts with it."""
SOURCE_STEP: Final = f"{FLOW}.kafka_in"
WRITER_STEP: Final = f"{FLOW}.iceberg_out"

FIRST_EPOCH: Final = 1
LAG_EPOCHS_MAX: Final = 8
"""All partitions are cleaned up at the same epochs; after kills they are at most two epochs apart."""
STORE_LOCKED_SECONDS_MAX: Final = 5.0
PINS_MAX: Final = 50
PIN_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Store:
    """The contents of a recovery store at one moment."""

    folder: Path
    bytes: int
    partitions: int
    """Number of partitions in the folder."""
    partitions_expected: int
    missing: tuple[int, ...]
    """Indexes of the partitions that are not in the folder."""
    flow: str | None
    """The flow whose state it holds; None if no flow has used it."""
    execution: int | None
    """The latest execution, from 0; None if there was none."""
    workers: int | None
    """Number of workers of the latest execution."""
    resume_epoch: int
    """The next execution resumes from the state at the start of this epoch."""
    offsets: Mapping[TopicPartition, int]
    """The first offset that the next execution reads, by topic partition; empty if the store cannot be resumed from."""
    written: Mapping[str, Mapping[TopicPartition, int]]
    """The offsets that the table had at the resume epoch, by Iceberg writer."""
    sources: frozenset[TopicPartition]
    """Every topic partition that it holds a state of, whatever the epoch."""
    problem: str | None
    """Why the partitions in the folder cannot be resumed from, in one sentence; missing ones are in `missing`."""
    table: str | None = None
    """The UUID of the table that the writers wrote, as recorded in their state."""


class PinnedStore(NamedTuple):
    """A store with its partitions pinned at one moment: connections in file order, each in a read transaction."""

    store: Store
    files: Sequence[Path]
    connections: Sequence[sqlite3.Connection]


class _Rows(NamedTuple):
    """The rows of all partitions together."""

    parts: list[tuple[int, int]]
    executions: list[tuple[int, int, int]]
    """Execution, worker count, resume epoch."""
    fronts: list[tuple[int, int, int]]
    """Execution, worker, epoch."""
    commits: dict[int, int]
    """Epoch by partition."""
    flows: set[str]


def partition_files(folder: Path) -> list[Path]:
    """Return the files that Bytewax treats as partitions; an empty list if there is no folder."""
    return sorted(folder.glob("*.sqlite3"))


def read_store(folder: Path) -> Store:
    """Read a store, also while a job uses it; nothing in it is changed.

    Raises:
        SettingsError: the folder is not a recovery store.
        StateError: a partition is damaged, locked, or of a later version.
    """
    with pin_store(folder) as pinned:
        return pinned.store


def check_store(store: Store) -> None:
    """Check that a store can be resumed from.

    Raises:
        StateError: a partition is missing, the partitions do not match, or the store belongs to another flow.
    """
    problem = resume_problem(store)
    if problem:
        raise StateError(problem)


def resume_problem(store: Store) -> str | None:
    """Return why a store cannot be resumed from, in one sentence; None if it can."""
    if store.problem or not store.missing:
        return store.problem
    names = ", ".join(map(str, store.missing))
    return (
        f"{store.folder} lacks partition {names} of {store.partitions_expected}; put it back, or restore a backup "
        f"(`k2 recovery restore BACKUP {store.folder} --replace`)"
    )


@contextmanager
def pin_store(folder: Path) -> Iterator[PinnedStore]:
    """Pin a store's partitions at one moment, also while a job uses it.

    Each partition is read in its own transaction, and these start one after the other. Meanwhile an epoch may close:
    then the last partitions say that it has, and the first ones lack its snapshots. So the resume epoch is the one that
    was known before the first transaction. If the job has cleaned up a partition beyond that epoch, or an execution has
    begun, all transactions are started again. The pinned state can thus be resumed from, with any interval between
    epochs and without a backup interval.

    Raises:
        SettingsError: the folder is not a recovery store.
        StateError: a partition is damaged, locked, or of a later version.
    """
    files = partition_files(folder)
    if not files:
        what = "holds no recovery store" if folder.is_dir() else "is not a folder"
        raise SettingsError(f"{folder} {what}; create one with `k2 recovery init {folder}`")
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(_connect(file))) for file in files]
        rows, resume_epoch = _pin_at_one_moment(files, connections)
        yield PinnedStore(_store(folder, files, connections, rows, resume_epoch), files, connections)


def _connect(file: Path) -> sqlite3.Connection:
    # SQLite can open a WAL database on a read-only medium only as immutable.
    is_immutable = not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()
    uri = f"{file.absolute().as_uri()}?mode=ro{'&immutable=1' if is_immutable else ''}"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=STORE_LOCKED_SECONDS_MAX)
    except sqlite3.Error as error:
        raise StateError(f"partition {file} of the recovery store cannot be opened: {error}") from error


def _pin_at_one_moment(files: Sequence[Path], connections: Sequence[sqlite3.Connection]) -> tuple[_Rows, int]:
    """Pin the partitions; return their rows, and the resume epoch that was known before."""
    pins = 0
    while True:
        # In immediate succession, so that the job has little time to clean up beyond what was known.
        known, rows = _pin(files, connections), _pin(files, connections)
        resume_epoch, pins = _resume_epoch(known), pins + 1
        is_consistent = _latest_execution(known) == _latest_execution(rows) and not _is_torn(rows, resume_epoch)
        if is_consistent or pins > PINS_MAX:
            return rows, resume_epoch
        time.sleep(PIN_PAUSE_SECONDS)


def _pin(files: Sequence[Path], connections: Sequence[sqlite3.Connection]) -> _Rows:
    for file, connection in zip(files, connections, strict=True):
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("BEGIN")
            connection.execute("SELECT part_index FROM parts").fetchall()
        except sqlite3.Error as error:
            raise StateError(_unreadable(file, error)) from error
    rows = _Rows([], [], [], {}, set())
    for file, connection in zip(files, connections, strict=True):
        try:
            _add(rows, connection)
        except sqlite3.Error as error:
            raise StateError(_unreadable(file, error)) from error
    return rows


def _unreadable(file: Path, error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return f"{file} is locked by another process; stop that process, and try again"
    return f"{file} is not a partition of a recovery store, or is damaged ({error}); restore a backup"


def _add(rows: _Rows, connection: sqlite3.Connection) -> None:
    rows.parts.extend(connection.execute("SELECT part_index, part_count FROM parts"))
    rows.executions.extend(connection.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"))
    rows.fronts.extend(connection.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts"))
    rows.commits.update(connection.execute("SELECT part_index, commit_epoch FROM commits"))
    rows.flows.update(step.split(".")[0] for (step,) in connection.execute("SELECT DISTINCT step_id FROM snaps"))


def _resume_epoch(rows: _Rows) -> int:
    """Return the epoch that Bytewax would resume from: the one of the slowest worker in the latest execution."""
    if not rows.executions:
        return FIRST_EPOCH
    latest, workers, first_epoch = max(rows.executions)
    epochs = dict.fromkeys(range(workers), first_epoch)
    for execution, worker, epoch in rows.fronts:
        if execution == latest:
            epochs[worker] = max(epochs.get(worker, first_epoch), epoch)
    return min(epochs.values())


def _latest_execution(rows: _Rows) -> int | None:
    return max((execution for execution, _, _ in rows.executions), default=None)


def _is_torn(rows: _Rows, resume_epoch: int) -> bool:
    """Return whether a partition has deleted snapshots that a resume needs."""
    return max(rows.commits.values(), default=0) >= resume_epoch


def _store(
    folder: Path, files: Sequence[Path], connections: Sequence[sqlite3.Connection], rows: _Rows, resume_epoch: int
) -> Store:
    expected = max((count for _, count in rows.parts), default=0)
    missing = tuple(sorted(set(range(expected)) - {index for index, _ in rows.parts}))
    problem = _foreign(folder, rows) or ("" if missing else _mismatch(folder, rows, resume_epoch))
    execution, workers, _ = max(rows.executions, default=(None, None, None))
    is_complete = not problem and not missing
    return Store(
        folder=folder,
        bytes=sum(map(_bytes, files)),
        partitions=len(files),
        partitions_expected=expected,
        missing=missing,
        flow=", ".join(sorted(rows.flows)) or None,
        execution=execution,
        workers=workers,
        resume_epoch=resume_epoch,
        offsets=_offsets(connections, resume_epoch) if is_complete else {},
        written=_written(connections, resume_epoch) if is_complete else {},
        sources=_sources(connections),
        problem=problem or None,
        table=_table(connections, resume_epoch) if is_complete else None,
    )


def _bytes(file: Path) -> int:
    wal = file.with_name(f"{file.name}-wal")
    try:
        return file.stat().st_size + wal.stat().st_size
    except FileNotFoundError:
        return file.stat().st_size


def _foreign(folder: Path, rows: _Rows) -> str:
    """Describe in what way partitions belong to another flow or to several stores; empty if they do not."""
    others = sorted(rows.flows - {FLOW})
    if others:
        return (
            f"{folder} is the recovery store of flow '{others[0]}', not of '{FLOW}'; use another folder, created with "
            "`k2 recovery init DIR`"
        )
    if len({count for _, count in rows.parts}) > 1 or len(dict(rows.parts)) < len(rows.parts):
        return f"{folder} holds partitions of several recovery stores; keep those of one store only"
    return ""


def _mismatch(folder: Path, rows: _Rows, resume_epoch: int) -> str:
    """Describe in what way partitions do not match, such as copies of different age or without their WAL file."""
    fix = f"restore a backup (`k2 recovery restore BACKUP {folder} --replace`)"
    known = {execution for execution, _, _ in rows.executions}
    referenced = known | {execution for execution, _, _ in rows.fronts}
    if known != set(range(max(referenced, default=-1) + 1)) or (not known and (rows.flows or rows.commits)):
        return f"a partition in {folder} lacks an execution: it was copied without its -wal file; {fix}"
    if _is_torn(rows, resume_epoch):
        return (
            f"the partitions in {folder} are of different age: one of them ends at epoch {resume_epoch}, whose state "
            f"another has deleted; {fix}"
        )
    latest = max(rows.commits.values(), default=0)
    old = [index for index, _ in rows.parts if latest - rows.commits.get(index, 0) > LAG_EPOCHS_MAX]
    if old:
        return (
            f"partition {old[0]} in {folder} is older than the others: it was copied without its -wal file, or at "
            f"another time; {fix}"
        )
    return ""


def _offsets(connections: Sequence[sqlite3.Connection], resume_epoch: int) -> dict[TopicPartition, int]:
    states = _states(connections, SOURCE_STEP, resume_epoch)
    return {TopicPartition.parse(name): offset_in(name, state) for name, state in sorted(states.items())}


def _written(connections: Sequence[sqlite3.Connection], resume_epoch: int) -> dict[str, Mapping[TopicPartition, int]]:
    states = _states(connections, WRITER_STEP, resume_epoch)
    return {str(int(name)): offsets_in(name, state) for name, state in sorted(states.items())}


def _sources(connections: Sequence[sqlite3.Connection]) -> frozenset[TopicPartition]:
    wanted = "SELECT DISTINCT state_key FROM snaps WHERE step_id = ?"
    rows = (connection.execute(wanted, (SOURCE_STEP,)) for connection in connections)
    return frozenset(TopicPartition.parse(name) for found in rows for (name,) in found)


def _table(connections: Sequence[sqlite3.Connection], resume_epoch: int) -> str | None:
    states = _states(connections, WRITER_STEP, resume_epoch)
    return next((table_in(name, state) for name, state in sorted(states.items())), None)


def _states(connections: Sequence[sqlite3.Connection], step: str, resume_epoch: int) -> dict[str, bytes]:
    """Return a step's pickled states by key, as a resume would load them, without discarded ones."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for connection in connections:
        for key, epoch, state in connection.execute(
            "SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id = ? AND snap_epoch < ?",
            (step, resume_epoch),
        ):
            if key not in found or epoch > found[key][0]:
                found[key] = (epoch, state)
    return {key: state for key, (_, state) in found.items() if state is not None}

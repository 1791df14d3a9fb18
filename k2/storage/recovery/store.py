"""Reading a Bytewax recovery store: whose it is, how far it is, and whether it is whole.

A store is a folder of SQLite files, one a partition, as Bytewax 0.21 writes them: `parts` (which of how many),
`exs` (executions), `fronts` (the epoch each worker has reached), `commits` (the epoch up to which old snapshots were
cleaned away), `snaps` (pickled state by step, key and epoch). Rows of one execution are spread over the partitions.
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

__all__ = ["FLOW", "Pinned", "Store", "check_store", "partition_files", "pinned", "read_store", "why_refused"]

FLOW: Final = "trades"
"""The flow's name, with which the name of every step begins."""
SOURCE_STEP: Final = f"{FLOW}.kafka_in"
WRITER_STEP: Final = f"{FLOW}.iceberg_out"

FIRST_EPOCH: Final = 1
LAG_EPOCHS_MAX: Final = 8
"""All partitions are cleaned up at the same epochs; kills leave them two apart at the most."""
LOCKED_SECONDS_MAX: Final = 5.0
PINS_MAX: Final = 50
PIN_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Store:
    """What a recovery store says of itself, at one moment."""

    folder: Path
    bytes: int
    partitions: int
    """How many are in the folder."""
    partitions_expected: int
    missing: tuple[int, ...]
    """Indexes of the partitions that are not in the folder."""
    flow: str | None
    """The flow whose state it holds; None where it was never run."""
    execution: int | None
    """The latest execution, from 0; None where it was never run."""
    workers: int | None
    """Of the latest execution."""
    resume_epoch: int
    """The next execution takes the state as it was at the begin of this epoch."""
    offsets: Mapping[TopicPartition, int]
    """For each topic partition the offset that the next execution reads first; empty where it cannot be resumed."""
    written: Mapping[str, Mapping[TopicPartition, int]]
    """For each Iceberg writer the offsets that its table had at the resume epoch."""
    sources: frozenset[TopicPartition]
    """Every topic partition of which it holds a state, of whatever epoch."""
    problem: str | None
    """One sentence where the partitions that are there cannot be resumed from; missing ones are told apart."""
    table: str | None = None
    """The UUID of the table that the writers wrote, as they recorded it."""


class Pinned(NamedTuple):
    """A store whose partitions are held at one moment: connections in the files' order, each in a read transaction."""

    store: Store
    files: Sequence[Path]
    connections: Sequence[sqlite3.Connection]


class _Rows(NamedTuple):
    """All partitions' rows together."""

    parts: list[tuple[int, int]]
    executions: list[tuple[int, int, int]]
    """Number, workers, resume epoch."""
    fronts: list[tuple[int, int, int]]
    """Execution, worker, epoch."""
    commits: dict[int, int]
    """Epoch by partition."""
    flows: set[str]


def partition_files(folder: Path) -> list[Path]:
    """Return the files that Bytewax takes for partitions; none where there is no folder."""
    return sorted(folder.glob("*.sqlite3"))


def read_store(folder: Path) -> Store:
    """Read a store, whether a job runs on it or not; nothing in it is changed.

    Raises:
        SettingsError: the folder is no recovery store.
        StateError: a partition is damaged, locked, or of a later version.
    """
    with pinned(folder) as whole:
        return whole.store


def check_store(store: Store) -> None:
    """Refuse a store that cannot be resumed from.

    Raises:
        StateError: a partition is missing, the partitions do not fit together, or it is another flow's.
    """
    why = why_refused(store)
    if why:
        raise StateError(why)


def why_refused(store: Store) -> str | None:
    """Say in one sentence why a store cannot be resumed from; None where it can."""
    if store.problem or not store.missing:
        return store.problem
    names = ", ".join(map(str, store.missing))
    return (
        f"{store.folder} lacks partition {names} of {store.partitions_expected}: put it back, or restore a backup "
        f"(`k2 recovery restore BACKUP {store.folder} --replace`)"
    )


@contextmanager
def pinned(folder: Path) -> Iterator[Pinned]:
    """Hold a store's partitions as they are at one moment, while a job may run on.

    Each is read in a transaction of its own, begun one after the other. Where the job has cleaned a partition up
    beyond what another says, they are let go and taken again; so what is held can be resumed from, with any interval
    between epochs and without a backup interval.

    Raises:
        SettingsError: the folder is no recovery store.
        StateError: a partition is damaged, locked, or of a later version.
    """
    files = partition_files(folder)
    if not files:
        what = "holds no recovery store" if folder.is_dir() else "is no folder"
        raise SettingsError(f"{folder} {what}; make one by `k2 recovery init {folder}`")
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(_connect(file))) for file in files]
        rows = _pin(files, connections)
        for _ in range(PINS_MAX):
            if not _is_torn(rows, _resume_epoch(rows)):
                break
            time.sleep(PIN_PAUSE_SECONDS)
            rows = _pin(files, connections)
        yield Pinned(_store(folder, files, connections, rows), files, connections)


def _connect(file: Path) -> sqlite3.Connection:
    # SQLite cannot open a WAL database on a read-only medium unless told that nobody writes it.
    is_fixed = not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()
    uri = f"{file.absolute().as_uri()}?mode=ro{'&immutable=1' if is_fixed else ''}"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCKED_SECONDS_MAX)
    except sqlite3.Error as error:
        raise StateError(f"partition {file} of the recovery store cannot be opened: {error}") from error


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
        return f"{file} is locked by another process; stop what holds it, and try again"
    return f"{file} is no partition of a recovery store, or is damaged ({error}); restore a backup"


def _add(rows: _Rows, connection: sqlite3.Connection) -> None:
    rows.parts.extend(connection.execute("SELECT part_index, part_count FROM parts"))
    rows.executions.extend(connection.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"))
    rows.fronts.extend(connection.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts"))
    rows.commits.update(connection.execute("SELECT part_index, commit_epoch FROM commits"))
    rows.flows.update(step.split(".")[0] for (step,) in connection.execute("SELECT DISTINCT step_id FROM snaps"))


def _resume_epoch(rows: _Rows) -> int:
    """Return the epoch that Bytewax would resume from: what the slowest worker of the latest execution has reached."""
    if not rows.executions:
        return FIRST_EPOCH
    number, workers, begun = max(rows.executions)
    reached = dict.fromkeys(range(workers), begun)
    for execution, worker, epoch in rows.fronts:
        if execution == number:
            reached[worker] = max(reached.get(worker, begun), epoch)
    return min(reached.values())


def _is_torn(rows: _Rows, resume_epoch: int) -> bool:
    """Return whether snapshots that a resume needs have been cleaned away in some partition."""
    return max(rows.commits.values(), default=0) >= resume_epoch


def _store(folder: Path, files: Sequence[Path], connections: Sequence[sqlite3.Connection], rows: _Rows) -> Store:
    resume_epoch = _resume_epoch(rows)
    expected = max((count for _, count in rows.parts), default=0)
    missing = tuple(sorted(set(range(expected)) - {index for index, _ in rows.parts}))
    problem = _foreign(folder, rows) or ("" if missing else _unfit(folder, rows, resume_epoch))
    number, workers, _ = max(rows.executions, default=(None, None, None))
    whole = not problem and not missing
    return Store(
        folder=folder,
        bytes=sum(map(_bytes, files)),
        partitions=len(files),
        partitions_expected=expected,
        missing=missing,
        flow=", ".join(sorted(rows.flows)) or None,
        execution=number,
        workers=workers,
        resume_epoch=resume_epoch,
        offsets=_offsets(connections, resume_epoch) if whole else {},
        written=_written(connections, resume_epoch) if whole else {},
        sources=_sources(connections),
        problem=problem or None,
        table=_table(connections, resume_epoch) if whole else None,
    )


def _bytes(file: Path) -> int:
    log = file.with_name(f"{file.name}-wal")
    try:
        return file.stat().st_size + log.stat().st_size
    except FileNotFoundError:
        return file.stat().st_size


def _foreign(folder: Path, rows: _Rows) -> str:
    others = sorted(rows.flows - {FLOW})
    if others:
        return (
            f"{folder} is the recovery store of flow '{others[0]}', not of '{FLOW}'; give another folder, made by "
            "`k2 recovery init DIR`"
        )
    if len({count for _, count in rows.parts}) > 1 or len(dict(rows.parts)) < len(rows.parts):
        return f"{folder} holds partitions of several recovery stores; leave one store's in it"
    return ""


def _unfit(folder: Path, rows: _Rows, resume_epoch: int) -> str:
    """Say in what the partitions do not fit together, as copies of different age, or without their log, do not."""
    cure = f"restore a backup (`k2 recovery restore BACKUP {folder} --replace`)"
    known = {number for number, _, _ in rows.executions}
    named = known | {number for number, _, _ in rows.fronts}
    if known != set(range(max(named, default=-1) + 1)) or (not known and (rows.flows or rows.commits)):
        return f"a partition in {folder} does not know of an execution: it was copied without its -wal file; {cure}"
    if _is_torn(rows, resume_epoch):
        return (
            f"the partitions in {folder} are of different age: state of epoch {resume_epoch}, where one of them ends, "
            f"is gone from another; {cure}"
        )
    latest = max(rows.commits.values(), default=0)
    old = [index for index, _ in rows.parts if latest - rows.commits.get(index, 0) > LAG_EPOCHS_MAX]
    if old:
        return (
            f"partition {old[0]} in {folder} is older than the others: it was copied without its -wal file, or at "
            f"another time; {cure}"
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
    """Return a step's pickled states by key, as a resume would take them; one that was discarded is left out."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for connection in connections:
        for key, epoch, state in connection.execute(
            "SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id = ? AND snap_epoch < ?",
            (step, resume_epoch),
        ):
            if key not in found or epoch > found[key][0]:
                found[key] = (epoch, state)
    return {key: state for key, (_, state) in found.items() if state is not None}

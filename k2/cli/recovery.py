"""`k2 recovery`: create, inspect, back up and restore the recovery store."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from k2.cli.console import Json, print_json, print_record
from k2.cli.options import parse_path
from k2.cli.recovery_repair import roll_forward, skip
from k2.cli.table_output import print_table
from k2.iceberg.table_progress import progress_of
from k2.model.errors import UnreachableError
from k2.model.progress import Progress, TopicPartition
from k2.ops.settings import read_settings
from k2.query.tables import no_table_error
from k2.restore.checkpoints import find_checkpoints
from k2.storage.catalog import find_table
from k2.storage.recovery.backup import back_up, make_store
from k2.storage.recovery.backup import restore as restore_store
from k2.storage.recovery.lock import is_locked
from k2.storage.recovery.store import Store, read_store, resume_problem

__all__ = ["Verdict", "app", "verdict"]

PARTITIONS_MAX: Final = 256

app = typer.Typer(no_args_is_help=True, help="Manage the recovery store, and repair what stops a start.")

Folder = Annotated[
    Path, typer.Argument(parser=parse_path, metavar="DIR", help="Folder of the recovery store, as in -r.")
]


class Verdict(StrEnum):
    """Position of the store relative to the table, for one topic partition."""

    EQUAL = "equal"
    OLDER = "store older (will be replayed)"
    AHEAD = "store ahead (refused)"
    UNKNOWN = "not in the store (goes on from the table)"
    UNREAD = "nothing of it in the table yet"


@app.command()
def init(
    folder: Folder,
    *,
    partitions: Annotated[
        int,
        typer.Option(
            min=1, max=PARTITIONS_MAX, help="Set the number of partitions: at least the largest number of workers."
        ),
    ] = 4,
    as_json: Json = False,
) -> None:
    """Create an empty recovery store.

    An existing one is never overwritten.
    """
    store = make_store(folder, partitions)
    print_record({"store": folder, "partitions": store.partitions}, as_json=as_json)


@app.command()
def status(folder: Folder, *, as_json: Json = False) -> None:
    """Compare a store with the table.

    It also says what a start without the store would read. Exit with code 1 if the job would refuse the store.
    """
    store = read_store(folder)
    found = _read_table()
    progress = None if found is None else found.progress
    rows = [] if progress is None else _rows(store, progress)
    record = {
        **_record(store),
        "in_use": is_locked(folder),
        "problem": resume_problem(store),
        "without_store": None if found is None else found.start_without_store,
    }
    if as_json:
        print_json({**record, "topics": rows})
    else:
        print_record(record, as_json=False)
        if rows:
            typer.echo("")
            print_table("Offsets to be read next", [*rows[0]], [[*row.values()] for row in rows])
    if record["problem"] or any(row["verdict"] == Verdict.AHEAD for row in rows):
        raise typer.Exit(1)


@app.command()
def backup(
    folder: Folder,
    target: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="TARGET", help="Folder of the backup: new or empty.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Back up a store while the job runs.

    The backup resumes from the epoch in which it was started.
    """
    store = back_up(folder, target)
    print_record({"backup": target, **_resumed(store, as_json=as_json)}, as_json=as_json)


@app.command()
def restore(
    backup: Annotated[
        Path,
        typer.Argument(parser=parse_path, metavar="BACKUP", help="Folder of a backup made by `k2 recovery backup`."),
    ],
    folder: Folder,
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Move an existing store aside.")] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup as the job's recovery store.

    Nothing is deleted.
    """
    store, replaced = restore_store(backup, folder, replace=replace)
    print_record({"store": folder, "replaced": replaced, **_resumed(store, as_json=as_json)}, as_json=as_json)


app.command()(skip)
app.command()(roll_forward)


def verdict(store: Store, progress: Progress, partition: TopicPartition) -> Verdict:
    """Compare the offset of a topic partition in the store with that in the table, as a start of the job does."""
    table_offset = progress.next_offset(partition, progress.writers)
    for writer, offsets in store.written.items():
        entry = progress.of(writer).get(partition)
        if partition in offsets and (entry is None or offsets[partition] > entry.offset):
            return Verdict.AHEAD
    offset = store.offsets.get(partition)
    if table_offset is None:
        return Verdict.UNREAD
    if offset is None:
        return Verdict.UNKNOWN
    if offset > table_offset:
        return Verdict.AHEAD
    return Verdict.EQUAL if offset == table_offset else Verdict.OLDER


def _record(store: Store) -> dict[str, Any]:
    return {
        "store": store.folder,
        "flow": store.flow,
        "partitions": store.partitions,
        "partitions_expected": store.partitions_expected,
        "execution": store.execution,
        "workers": store.workers,
        "resume_epoch": store.resume_epoch,
        "bytes": store.bytes,
    }


def _resumed(store: Store, *, as_json: bool) -> dict[str, Any]:
    offsets = {str(partition): offset for partition, offset in store.offsets.items()}
    return {
        "partitions": store.partitions,
        "resume_epoch": store.resume_epoch,
        "bytes": store.bytes,
        "offsets": offsets if as_json else [f"{partition} at {offset:,}" for partition, offset in offsets.items()],
    }


class _Read(NamedTuple):
    progress: Progress
    start_without_store: str


def _read_table() -> _Read | None:
    """Return what the table says, or None if the catalog does not answer; warn on stderr if there is no table."""
    settings = read_settings()
    try:
        table = find_table(settings, "trades")
        if table is None:
            typer.echo(f"k2: {no_table_error(settings, 'trades')}", err=True)
            return _Read(Progress(), "reads the topics from their beginning")
        progress = progress_of(table)
        return _Read(progress, find_checkpoints(table, progress, settings.writers).start_without_store)
    except UnreachableError as error:
        typer.echo(f"k2: the table's progress is not shown: {error}", err=True)
        return None


def _rows(store: Store, progress: Progress) -> list[dict[str, Any]]:
    known = {*store.offsets, *progress.partitions(), *(each for written in store.written.values() for each in written)}
    return [
        {
            "topic": partition.topic,
            "partition": partition.partition,
            "store": store.offsets.get(partition),
            "table": progress.next_offset(partition, progress.writers),
            "verdict": verdict(store, progress, partition),
        }
        for partition in sorted(known)
    ]

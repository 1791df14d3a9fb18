"""`k2 recovery`: the recovery store made, looked at, backed up and restored."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from k2.cli.console import Json, say_json, show_record
from k2.cli.options import given_path
from k2.cli.recovery_repair import roll_forward, skip
from k2.cli.table_output import print_table
from k2.iceberg.table_progress import progress_of
from k2.model.errors import UnreachableError
from k2.model.progress import Progress, TopicPartition
from k2.ops.settings import read_settings
from k2.query.tables import no_table
from k2.storage.catalog import find_table
from k2.storage.recovery.backup import back_up, make_store
from k2.storage.recovery.backup import restore as restore_store
from k2.storage.recovery.lock import is_held
from k2.storage.recovery.store import Store, read_store, why_refused

__all__ = ["Verdict", "app", "verdict"]

PARTITIONS_MAX: Final = 256

app = typer.Typer(no_args_is_help=True, help="The recovery store, and ways on where the job refuses to start.")

Folder = Annotated[Path, typer.Argument(parser=given_path, metavar="DIR", help="The recovery store, as in -r.")]


class Verdict(StrEnum):
    """How far the store is beside the table, for one topic partition."""

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
        int, typer.Option(min=1, max=PARTITIONS_MAX, help="At least as many as there will ever be workers.")
    ] = 4,
    as_json: Json = False,
) -> None:
    """Make an empty recovery store; never over one that is there."""
    store = make_store(folder, partitions)
    show_record({"store": folder, "partitions": store.partitions}, as_json=as_json)


@app.command()
def status(folder: Folder, *, as_json: Json = False) -> None:
    """Show how far a store is, beside the table; exit code 1 where the job would refuse it."""
    store = read_store(folder)
    progress = _progress()
    rows = [] if progress is None else _rows(store, progress)
    record = {**_record(store), "in_use": is_held(folder), "problem": why_refused(store)}
    if as_json:
        say_json({**record, "topics": rows})
    else:
        show_record(record, as_json=False)
        if rows:
            typer.echo("")
            print_table("Offsets to be read next", [*rows[0]], [[*row.values()] for row in rows])
    if record["problem"] or any(row["verdict"] == Verdict.AHEAD for row in rows):
        raise typer.Exit(1)


@app.command()
def backup(
    folder: Folder,
    target: Annotated[
        Path, typer.Argument(parser=given_path, metavar="TARGET", help="A folder that is not there yet, or is empty.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Copy a store while the job runs; the copy resumes from the epoch at which it was begun."""
    store = back_up(folder, target)
    show_record({"backup": target, **_resumed(store, as_json=as_json)}, as_json=as_json)


@app.command()
def restore(
    backup: Annotated[
        Path, typer.Argument(parser=given_path, metavar="BACKUP", help="What `k2 recovery backup` made.")
    ],
    folder: Folder,
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Move the store that is there aside.")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup where the job looks for its store; deletes nothing."""
    store, replaced = restore_store(backup, folder, replace=replace)
    show_record({"store": folder, "replaced": replaced, **_resumed(store, as_json=as_json)}, as_json=as_json)


app.command()(skip)
app.command()(roll_forward)


def verdict(store: Store, progress: Progress, where: TopicPartition) -> Verdict:
    """Compare one topic partition's offset in the store with that in the table, as the job's start does."""
    there = progress.next_offset(where, progress.writers)
    for writer, offsets in store.written.items():
        entry = progress.of(writer).get(where)
        if where in offsets and (entry is None or offsets[where] > entry.offset):
            return Verdict.AHEAD
    offset = store.offsets.get(where)
    if there is None:
        return Verdict.UNREAD
    if offset is None:
        return Verdict.UNKNOWN
    if offset > there:
        return Verdict.AHEAD
    return Verdict.EQUAL if offset == there else Verdict.OLDER


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
    offsets = {str(where): offset for where, offset in store.offsets.items()}
    return {
        "partitions": store.partitions,
        "resume_epoch": store.resume_epoch,
        "bytes": store.bytes,
        "offsets": offsets if as_json else [f"{where} at {offset:,}" for where, offset in offsets.items()],
    }


def _progress() -> Progress | None:
    """Return what the table has; none, and a word on stderr, where there is no table or the catalog does not answer."""
    settings = read_settings()
    try:
        table = find_table(settings, "trades")
        if table is None:
            typer.echo(f"k2: {no_table(settings, 'trades')}", err=True)
        return Progress() if table is None else progress_of(table)
    except UnreachableError as error:
        typer.echo(f"k2: without the table's progress: {error}", err=True)
        return None


def _rows(store: Store, progress: Progress) -> list[dict[str, Any]]:
    known = {*store.offsets, *progress.partitions(), *(one for written in store.written.values() for one in written)}
    return [
        {
            "topic": where.topic,
            "partition": where.partition,
            "store": store.offsets.get(where),
            "table": progress.next_offset(where, progress.writers),
            "verdict": verdict(store, progress, where),
        }
        for where in sorted(known)
    ]

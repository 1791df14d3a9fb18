"""`k2 catalog`: bring back, back up, restore and move the catalog."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pyiceberg.table.metadata import TableMetadata

from k2.cli.console import Json, print_json, print_record
from k2.cli.options import parse_path
from k2.cli.table_output import print_table
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.storage.catalog_backup import back_up
from k2.storage.catalog_backup import restore as restore_catalog
from k2.storage.catalog_move import MoveResult
from k2.storage.catalog_move import move as move_catalog
from k2.storage.catalog_register import register_tables
from k2.storage.table_properties import PROGRESS

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Bring back, back up, restore and move the catalog.")


@app.command()
def register(
    *,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Go back to the newest version that is whole if the newest is damaged."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Register the job's tables again after a catalog was lost.

    They are registered from the newest metadata files in the warehouse.
    """
    settings = read_settings()
    tables = register_tables(settings, skip_damaged=skip_damaged)
    for table in tables:
        for other in table.others:
            typer.echo(f"k2: {other} has the same version and is not registered; at most one was committed", err=True)
    records = [_record(f"{settings.namespace}.{one.name}", one.location, one.metadata) for one in tables]
    if as_json:
        print_json({"catalog": settings.catalog, "tables": records})
        return
    columns = ["table", "metadata", "snapshot", "rows", "next offsets"]
    print_table("Registered", columns, map(_cells, records))


@app.command()
def backup(
    target: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="DEST", help="File of the backup, which must not exist.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Back up an SQLite catalog while the job runs.

    The files of the warehouse are not in the backup.
    """
    tables = back_up(read_settings(), target)
    print_record({"backup": target, "bytes": target.stat().st_size, "tables": [*tables]}, as_json=as_json)


@app.command()
def restore(
    file: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="FILE", help="A backup made by `k2 catalog backup`.")
    ],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Move an existing catalog aside.")] = False,
    older: Annotated[
        bool, typer.Option("--older", help="Restore although the warehouse has later versions of the tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup of an SQLite catalog; nothing is deleted. Stop the job first."""
    restored = restore_catalog(read_settings(), file, replace=replace, older=older)
    record = {"catalog": restored.database, "replaced": restored.replaced, "tables": [*restored.tables]}
    print_record(record, as_json=as_json)


@app.command()
def move(
    target: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="DIR", help="The new K2_DATA_DIR, which has no catalog.")
    ],
    *,
    named: Annotated[
        Path | None,
        typer.Option("--as", parser=parse_path, metavar="PATH", help="Path that DIR will have on another machine."),
    ] = None,
    hard_links: Annotated[
        bool, typer.Option("--hard-links", help="Link data files instead of copying them, on the same file system.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy K2_DATA_DIR to another folder, and adapt the paths in it.

    Stop the job first, and delete the source yourself. The catalog, all its tables with their snapshots, the dead
    letters and the recovery store of `k2 run` are copied, and compared with the source, which stays as it is.
    """
    moved = move_catalog(read_settings(), target, named=named, hard_links=hard_links)
    rows = [
        {**_record(one.name, one.location, one.metadata), "files": one.files, "bytes": one.bytes}
        for one in moved.tables
    ]
    if as_json:
        record = {"catalog": moved.database, "data_dir": moved.named, "tables": rows}
        rest = {"dead_letter_files": moved.dead_letter_files, "recovery_store": moved.recovery_store}
        print_json({**record, **rest})
        return
    columns = ["table", "metadata", "snapshot", "rows", "next offsets", "files", "bytes"]
    print_table("Moved", columns, map(_cells, rows))
    for line in _next_steps(moved):
        typer.echo(line)


def _next_steps(moved: MoveResult) -> Iterator[str]:
    letters, store = moved.dead_letter_files, moved.recovery_store
    copied = "they stay in K2_DLQ_DIR" if letters is None else f"{format_count(letters, 'file')} copied"
    other = "none in K2_DATA_DIR; the job can use one of another folder (-r) as before"
    yield f"dead letters: {copied}"
    yield f"recovery store: {other if store is None else store}"
    yield f"The copy equals its source: set K2_DATA_DIR={moved.named}, start the job, then delete the source."


def _record(name: str, location: str, metadata: TableMetadata) -> dict[str, Any]:
    progress, snapshot = PROGRESS.read(metadata.properties), metadata.current_snapshot()
    summary = {} if snapshot is None or snapshot.summary is None else snapshot.summary.additional_properties
    return {
        "table": name,
        "metadata": location,
        "snapshot_id": metadata.current_snapshot_id,
        "rows": int(summary.get("total-records", 0)),
        "progress": {str(one): progress.next_offset(one, progress.writers) for one in sorted(progress.partitions())},
    }


def _cells(record: Mapping[str, Any]) -> list[object]:
    """Return the values of a table's record for people, the offsets as one text."""
    offsets = ", ".join(f"{partition} at {offset}" for partition, offset in record["progress"].items()) or None
    return [*{**record, "progress": offsets}.values()]
